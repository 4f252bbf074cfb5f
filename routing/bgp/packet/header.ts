// The message header (RFC 4271 section 4.1) and framing of a byte stream into messages.
//
//    0                   1                   2                   3
//    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//   |                   Marker: 16 octets of all ones               |
//   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//   |          Length               |      Type     |
//   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
import { BgpMessageError } from './error.ts';
import { ERROR, HEADER_ERROR, MESSAGE } from './iana.ts';

export const HEADER_BYTES = 19;
/** RFC 4271 section 4.1; RFC 8654 raises it to 65535 for UPDATE, NOTIFICATION and ROUTE-REFRESH. */
export const MAX_MESSAGE_BYTES = 4096;
export const MAX_EXTENDED_MESSAGE_BYTES = 65535;

/** RFC 4271 section 6.1: the least length of each type, by type number. */
const MIN_BYTES = [0, 29, 23, 21, 19, 23];

/**
 * The length of the message at `offset`, or 0 while its header is incomplete. Checks the header as RFC 4271
 * section 6.1 says; throws BgpMessageError.
 */
export function peekMessage(buffer: Buffer, offset: number, end: number, maxBytes: number): number {
  if (end - offset < HEADER_BYTES) return 0;
  for (let i = offset; i < offset + 16; i++)
    if (buffer[i] !== 0xff)
      throw new BgpMessageError(
        ERROR.MESSAGE_HEADER,
        HEADER_ERROR.NOT_SYNCHRONIZED,
        'marker',
        i,
        'the marker is not all ones',
      );
  const length = (buffer[offset + 16]! << 8) | buffer[offset + 17]!;
  const type = buffer[offset + 18]!;
  if (type < MESSAGE.OPEN || type > MESSAGE.ROUTE_REFRESH)
    throw new BgpMessageError(
      ERROR.MESSAGE_HEADER,
      HEADER_ERROR.BAD_TYPE,
      'type',
      offset + 18,
      `there is no message type ${type}`,
      Uint8Array.of(type),
    );
  // RFC 8654 section 4: OPEN and KEEPALIVE keep the old limit.
  const limit = type === MESSAGE.OPEN || type === MESSAGE.KEEPALIVE ? MAX_MESSAGE_BYTES : maxBytes;
  if (length < MIN_BYTES[type]! || length > limit || (type === MESSAGE.KEEPALIVE && length !== HEADER_BYTES))
    throw new BgpMessageError(
      ERROR.MESSAGE_HEADER,
      HEADER_ERROR.BAD_LENGTH,
      'length',
      offset + 16,
      `message type ${type} cannot have ${length} bytes`,
      buffer.subarray(offset + 16, offset + 18),
    );
  return length;
}

/** Writes marker, length and type; the body starts at `offset + HEADER_BYTES`. */
export function writeHeader(buffer: Buffer, offset: number, length: number, type: number): void {
  buffer.fill(0xff, offset, offset + 16);
  buffer[offset + 16] = length >> 8;
  buffer[offset + 17] = length & 255;
  buffer[offset + 18] = type;
}

/** A whole message round a body. */
export function encodeMessage(type: number, body: Uint8Array): Buffer {
  const message = Buffer.allocUnsafe(HEADER_BYTES + body.length);
  writeHeader(message, 0, message.length, type);
  message.set(body, HEADER_BYTES);
  return message;
}
