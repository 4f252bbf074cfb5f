// The BFD control packet, RFC 5880 section 4.1, without authentication.
//
//    0                   1                   2                   3
//    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//   |Vers |  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |
//   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//   |                       My Discriminator                        |
//   |                      Your Discriminator                       |
//   |             Desired Min TX Interval (microseconds)            |
//   |             Required Min RX Interval (microseconds)           |
//   |           Required Min Echo RX Interval (microseconds)        |
//   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
import { DecodeError } from '../../../src/lib/errors.ts';

export const BFD_STATES = ['AdminDown', 'Down', 'Init', 'Up'] as const;
export type BfdState = (typeof BFD_STATES)[number];

/** RFC 5880 section 4.1. */
export const DIAGNOSTIC = {
  NONE: 0,
  DETECTION_TIME_EXPIRED: 1,
  NEIGHBOUR_DOWN: 3,
  ADMIN_DOWN: 7,
} as const;

export interface BfdPacket {
  readonly diagnostic: number;
  readonly state: BfdState;
  readonly poll: boolean;
  readonly final: boolean;
  readonly multiplier: number;
  readonly myDiscriminator: number;
  readonly yourDiscriminator: number;
  readonly desiredTransmitUs: number;
  readonly requiredReceiveUs: number;
}

const VERSION = 1;
const LENGTH = 24;
const POLL = 0x20;
const FINAL = 0x10;
const AUTHENTICATION = 0x04;
const MULTIPOINT = 0x01;

/** Every check of RFC 5880 section 6.8.6 that needs no session; throws DecodeError: the packet is dropped. */
export function decodeBfd(bytes: Buffer): BfdPacket {
  const bad = (field: string, at: number, message: string): DecodeError =>
    new DecodeError('bfd', field, at, message);
  if (bytes.length < LENGTH) throw bad('length', 0, `${bytes.length} bytes`);
  if (bytes[0]! >> 5 !== VERSION) throw bad('version', 0, `version ${bytes[0]! >> 5}`);
  const flags = bytes[1]!;
  const length = bytes[3]!;
  if (length < LENGTH || length > bytes.length) throw bad('length', 3, `length ${length} of ${bytes.length}`);
  if ((flags & AUTHENTICATION) !== 0) throw bad('flags', 1, 'authentication is not in use');
  if ((flags & MULTIPOINT) !== 0) throw bad('flags', 1, 'the multipoint bit is set');
  if (bytes[2] === 0) throw bad('multiplier', 2, 'a detection multiplier of zero');
  const myDiscriminator = bytes.readUInt32BE(4);
  const yourDiscriminator = bytes.readUInt32BE(8);
  const state = BFD_STATES[flags >> 6]!;
  if (myDiscriminator === 0) throw bad('discriminator', 4, 'my discriminator is zero');
  if (yourDiscriminator === 0 && (state === 'Init' || state === 'Up'))
    throw bad('discriminator', 8, `your discriminator is zero in state ${state}`);
  return {
    diagnostic: bytes[0]! & 0x1f,
    state,
    poll: (flags & POLL) !== 0,
    final: (flags & FINAL) !== 0,
    multiplier: bytes[2]!,
    myDiscriminator,
    yourDiscriminator,
    desiredTransmitUs: bytes.readUInt32BE(12),
    requiredReceiveUs: bytes.readUInt32BE(16),
  };
}

export function encodeBfd(packet: BfdPacket): Buffer {
  const bytes = Buffer.alloc(LENGTH);
  bytes[0] = (VERSION << 5) | packet.diagnostic;
  bytes[1] = (BFD_STATES.indexOf(packet.state) << 6) | (packet.poll ? POLL : 0) | (packet.final ? FINAL : 0);
  bytes[2] = packet.multiplier;
  bytes[3] = LENGTH;
  bytes.writeUInt32BE(packet.myDiscriminator, 4);
  bytes.writeUInt32BE(packet.yourDiscriminator, 8);
  bytes.writeUInt32BE(packet.desiredTransmitUs, 12);
  bytes.writeUInt32BE(packet.requiredReceiveUs, 16);
  return bytes;
}
