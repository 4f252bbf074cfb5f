// NOTIFICATION, RFC 4271 section 4.5; the shutdown text of RFC 9003; the hard reset of RFC 8538 section 3.1.
//
//   +---------------+---------------+-------------------------+
//   | Error code    | Error subcode |   Data (variable)       |
//   +---------------+---------------+-------------------------+
import { encodeMessage, HEADER_BYTES } from '../header.ts';
import { CEASE, ERROR, errorName, MESSAGE } from '../iana.ts';

export interface NotificationMessage {
  readonly code: number;
  readonly subcode: number;
  readonly data: Uint8Array;
}

export function decodeNotification(message: Buffer): NotificationMessage {
  return {
    code: message[HEADER_BYTES]!,
    subcode: message[HEADER_BYTES + 1]!,
    data: Uint8Array.from(message.subarray(HEADER_BYTES + 2)),
  };
}

export function encodeNotification(notification: NotificationMessage): Buffer {
  // The data may echo a whole extended message; 4096 is what every peer takes.
  const data = notification.data.subarray(0, 4096 - HEADER_BYTES - 2);
  return encodeMessage(
    MESSAGE.NOTIFICATION,
    Buffer.concat([Uint8Array.of(notification.code, notification.subcode), data]),
  );
}

/** RFC 9003 section 2: one octet of length, then UTF-8, on shutdown and reset. */
export function shutdownText(notification: NotificationMessage): string | undefined {
  const { code, subcode, data } = notification;
  if (code !== ERROR.CEASE || (subcode !== CEASE.ADMIN_SHUTDOWN && subcode !== CEASE.ADMIN_RESET))
    return undefined;
  const length = data[0] ?? 0;
  return length === 0 || length + 1 > data.length
    ? undefined
    : Buffer.from(data.subarray(1, 1 + length)).toString('utf8');
}

export const cease = (subcode: number): NotificationMessage => ({
  code: ERROR.CEASE,
  subcode,
  data: new Uint8Array(0),
});

/** A Cease with RFC 9003's text, cut to the 255 octets that fit without splitting a character. */
export function ceaseWithText(subcode: number, text: string): NotificationMessage {
  let bytes = Buffer.from(text, 'utf8');
  if (bytes.length > 255) {
    let end = 255;
    while (end > 0 && (bytes[end]! & 0xc0) === 0x80) end--;
    bytes = bytes.subarray(0, end);
  }
  return { code: ERROR.CEASE, subcode, data: Buffer.concat([Uint8Array.of(bytes.length), bytes]) };
}

/** RFC 8538 section 3.1: what a Cease/Hard Reset carries is another notification's code, subcode and data. */
export function hardReset(inner: NotificationMessage): NotificationMessage {
  return {
    code: ERROR.CEASE,
    subcode: CEASE.HARD_RESET,
    data: Buffer.concat([Uint8Array.of(inner.code, inner.subcode), inner.data]),
  };
}

export function describeNotification(notification: NotificationMessage): string {
  const text = shutdownText(notification);
  const name = errorName(notification.code, notification.subcode);
  return text === undefined ? name : `${name}: ${text}`;
}
