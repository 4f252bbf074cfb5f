// OPEN, RFC 4271 section 4.2, with capabilities (RFC 5492) and extended optional parameters (RFC 9072).
//
//   +-+-+-+-+-+-+-+-+
//   |    Version    |
//   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//   |     My Autonomous System      |
//   |           Hold Time           |
//   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//   |                         BGP Identifier                        |
//   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//   | Opt Parm Len  |   Optional Parameters (variable)
//   +-+-+-+-+-+-+-+-+
import {
  type Capabilities,
  decodeCapabilities,
  encodeCapabilities,
  NO_CAPABILITIES,
} from '../capability/capabilities.ts';
import { BgpMessageError } from '../error.ts';
import { encodeMessage, HEADER_BYTES } from '../header.ts';
import { AS_TRANS, ERROR, MESSAGE, OPEN_ERROR } from '../iana.ts';

const BGP_VERSION = 4;
const PARAMETER_CAPABILITIES = 2;
/** RFC 9072 section 2: this type in the first parameter says that lengths have two octets. */
const EXTENDED_PARAMETERS = 255;

export interface OpenMessage {
  /** The four-octet AS number where the peer gave one. */
  readonly asn: number;
  readonly holdTimeSeconds: number;
  /** BGP Identifier as a number. */
  readonly routerId: number;
  readonly capabilities: Capabilities;
}

function openError(subcode: number, field: string, offset: number, text: string, data?: Uint8Array) {
  return new BgpMessageError(ERROR.OPEN_MESSAGE, subcode, field, offset, text, data);
}

/** Decodes and checks what can be checked without knowing the peer (RFC 4271 section 6.2). */
export function decodeOpen(message: Buffer): OpenMessage {
  const version = message[HEADER_BYTES]!;
  if (version !== BGP_VERSION)
    throw openError(
      OPEN_ERROR.UNSUPPORTED_VERSION,
      'version',
      HEADER_BYTES,
      `version ${version}`,
      Uint8Array.of(0, BGP_VERSION),
    );
  const as2 = message.readUInt16BE(HEADER_BYTES + 1);
  const holdTimeSeconds = message.readUInt16BE(HEADER_BYTES + 3);
  if (holdTimeSeconds === 1 || holdTimeSeconds === 2)
    throw openError(
      OPEN_ERROR.UNACCEPTABLE_HOLD_TIME,
      'hold time',
      HEADER_BYTES + 3,
      `a hold time of ${holdTimeSeconds} s`,
    );
  const routerId = message.readUInt32BE(HEADER_BYTES + 5);
  // RFC 6286 section 2.1: any non-zero number will do.
  if (routerId === 0)
    throw openError(OPEN_ERROR.BAD_IDENTIFIER, 'identifier', HEADER_BYTES + 5, 'a router id of zero');
  const capabilities = decodeParameters(message, HEADER_BYTES + 9);
  const asn = capabilities.as4 ?? as2;
  if (asn === 0) throw openError(OPEN_ERROR.BAD_PEER_AS, 'as', HEADER_BYTES + 1, 'AS 0 (RFC 7607)');
  return { asn, holdTimeSeconds, routerId, capabilities };
}

function decodeParameters(message: Buffer, lengthAt: number): Capabilities {
  let at = lengthAt + 1;
  let length = message[lengthAt]!;
  let lengthBytes = 1;
  if (length > 0 && message[at] === EXTENDED_PARAMETERS && message.length >= at + 3) {
    length = message.readUInt16BE(at + 1);
    at += 3;
    lengthBytes = 2;
  }
  const end = at + length;
  if (end !== message.length)
    throw openError(
      OPEN_ERROR.UNSPECIFIED,
      'parameters',
      lengthAt,
      `${length} bytes of parameters do not fit`,
    );
  let capabilities = NO_CAPABILITIES;
  while (at < end) {
    const type = message[at]!;
    const valueAt = at + 1 + lengthBytes;
    const size = valueAt > end ? -1 : message.readUIntBE(at + 1, lengthBytes);
    if (size < 0 || valueAt + size > end)
      throw openError(OPEN_ERROR.UNSPECIFIED, 'parameters', at, 'a parameter is cut short');
    if (type !== PARAMETER_CAPABILITIES)
      throw openError(OPEN_ERROR.UNSUPPORTED_PARAMETER, 'parameters', at, `parameter type ${type}`);
    capabilities = decodeCapabilities(message, valueAt, valueAt + size, capabilities);
    at = valueAt + size;
  }
  return capabilities;
}

export function encodeOpen(open: OpenMessage): Buffer {
  const capabilities = encodeCapabilities(open.capabilities);
  const extended = capabilities.length > 253;
  const parameter =
    capabilities.length === 0
      ? Buffer.alloc(0)
      : Buffer.concat([
          extended
            ? Uint8Array.of(PARAMETER_CAPABILITIES, capabilities.length >> 8, capabilities.length & 255)
            : Uint8Array.of(PARAMETER_CAPABILITIES, capabilities.length),
          capabilities,
        ]);
  const fixed = Buffer.alloc(10);
  fixed[0] = BGP_VERSION;
  fixed.writeUInt16BE(open.asn > 65535 ? AS_TRANS : open.asn, 1);
  fixed.writeUInt16BE(open.holdTimeSeconds, 3);
  fixed.writeUInt32BE(open.routerId, 5);
  fixed[9] = extended ? EXTENDED_PARAMETERS : parameter.length;
  const extendedHeader = extended
    ? Uint8Array.of(EXTENDED_PARAMETERS, parameter.length >> 8, parameter.length & 255)
    : new Uint8Array(0);
  return encodeMessage(MESSAGE.OPEN, Buffer.concat([fixed, extendedHeader, parameter]));
}
