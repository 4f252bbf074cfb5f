// The netlink frame: messages, attributes, and the kernel's error answers. Pure.
//
//   struct nlmsghdr (linux/netlink.h)          struct nlattr
//   | len u32 | type u16 | flags u16 |         | len u16 | type u16 | payload, padded to 4 |
//   | seq u32 | port u32 | payload   |
//
// Netlink is in host byte order; both machines we support (x86-64, arm64) are little-endian, and so is this codec.
import { ByteReader, ByteWriter } from '../../lib/bytes.ts';
import { DecodeError } from '../../lib/errors.ts';
import {
  NLA_F_NESTED,
  NLA_TYPE_MASK,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLMSGERR_ATTR_MSG,
  NLMSGERR_ATTR_OFFS,
} from './constants.ts';

export const NLMSG_HDRLEN = 16;
const PROTO = 'netlink';

export interface NetlinkMessage {
  type: number;
  flags: number;
  sequence: number;
  port: number;
  /** A view of the bytes after the header. */
  payload: Buffer;
}

/** Splits what one recv() gave. The payloads are views: decode them before the buffer is used again. */
export function decodeMessages(bytes: Buffer): NetlinkMessage[] {
  const messages: NetlinkMessage[] = [];
  for (let at = 0; at + NLMSG_HDRLEN <= bytes.length; ) {
    const length = bytes.readUInt32LE(at);
    if (length < NLMSG_HDRLEN || at + length > bytes.length)
      throw new DecodeError(PROTO, 'nlmsg_len', at, `${length} with ${bytes.length - at} bytes left`);
    messages.push({
      type: bytes.readUInt16LE(at + 4),
      flags: bytes.readUInt16LE(at + 6),
      sequence: bytes.readUInt32LE(at + 8),
      port: bytes.readUInt32LE(at + 12),
      payload: bytes.subarray(at + NLMSG_HDRLEN, at + length),
    });
    at += (length + 3) & ~3;
  }
  return messages;
}

export interface NetlinkErrorAnswer {
  /** 0 is an acknowledgement. */
  errno: number;
  /** Sequence number of the request. */
  sequence: number;
  extAck?: string;
  offset?: number;
}

/** struct nlmsgerr and, when the socket asked for extended acknowledgements, what the kernel says about it. */
export function decodeError(message: NetlinkMessage): NetlinkErrorAnswer {
  const reader = new ByteReader(message.payload, PROTO);
  const answer: NetlinkErrorAnswer = { errno: -reader.i32le('error'), sequence: message.sequence };
  if (answer.errno === 0) answer.errno = 0;
  const requestLength = reader.u32le('msg.nlmsg_len');
  if ((message.flags & NLM_F_ACK_TLVS) === 0) return answer;
  const capped = (message.flags & NLM_F_CAPPED) !== 0;
  const skip =
    NLMSG_HDRLEN - 4 + (capped ? 0 : requestLength + ((4 - (requestLength & 3)) & 3) - NLMSG_HDRLEN);
  if (skip < 0 || skip > reader.remaining) return answer;
  for (const { type, value } of attributes(message.payload, 8 + skip)) {
    if (type === NLMSGERR_ATTR_MSG) answer.extAck = attributeString(value);
    else if (type === NLMSGERR_ATTR_OFFS) answer.offset = u32(value, 'NLMSGERR_ATTR_OFFS');
  }
  return answer;
}

export interface NetlinkAttribute {
  type: number;
  value: Buffer;
}

/**
 * The attributes from `start` on. NLA_F_NESTED and NLA_F_NET_BYTEORDER are stripped from the type. `wanted` leaves out all
 * other types: a link has a hundred, and a view of each costs more than all the rest of decoding it.
 */
export function attributes(bytes: Buffer, start: number, wanted?: ReadonlySet<number>): NetlinkAttribute[] {
  const found: NetlinkAttribute[] = [];
  const end = bytes.length;
  for (let at = start; at + 4 <= end; ) {
    const length = bytes[at]! | (bytes[at + 1]! << 8);
    if (length < 4 || at + length > end)
      throw new DecodeError(PROTO, 'nla_len', at, `${length} with ${end - at} bytes left`);
    const type = (bytes[at + 2]! | (bytes[at + 3]! << 8)) & NLA_TYPE_MASK;
    if (wanted === undefined || wanted.has(type))
      found.push({ type, value: bytes.subarray(at + 4, at + length) });
    at += (length + 3) & ~3;
  }
  return found;
}

function sized(value: Buffer, size: number, field: string): Buffer {
  if (value.length < size)
    throw new DecodeError(PROTO, field, 0, `${size} bytes wanted, ${value.length} there`, 'TRUNCATED');
  return value;
}

export function u8(value: Buffer, field: string): number {
  return sized(value, 1, field)[0]!;
}
export function u16(value: Buffer, field: string): number {
  return sized(value, 2, field).readUInt16LE(0);
}
export function u16be(value: Buffer, field: string): number {
  return sized(value, 2, field).readUInt16BE(0);
}
export function u32(value: Buffer, field: string): number {
  return sized(value, 4, field).readUInt32LE(0);
}
export function u32be(value: Buffer, field: string): number {
  return sized(value, 4, field).readUInt32BE(0);
}
export function i32(value: Buffer, field: string): number {
  return sized(value, 4, field).readInt32LE(0);
}
/** Text up to the first NUL. */
export function attributeString(value: Buffer): string {
  const end = value.indexOf(0);
  return value.toString('utf8', 0, end < 0 ? value.length : end);
}

/** Writes messages one after the other into one buffer: begin, fields and attributes, end. */
export class MessageWriter extends ByteWriter {
  #start = -1;

  /** Starts a message; its sequence number is filled in when it is sent. Returns its offset. */
  begin(type: number, flags: number): number {
    this.#start = this.reserve(NLMSG_HDRLEN);
    this.buffer.writeUInt16LE(type, this.#start + 4);
    this.buffer.writeUInt16LE(flags, this.#start + 6);
    this.buffer.writeUInt32LE(0, this.#start + 8);
    this.buffer.writeUInt32LE(0, this.#start + 12);
    return this.#start;
  }

  /** Fills in the length of the message begun last. */
  end(): void {
    this.buffer.writeUInt32LE(this.length - this.#start, this.#start);
    this.#pad();
  }

  /** Drops a message that was begun but cannot be completed. */
  abandon(): void {
    if (this.#start >= 0) this.length = this.#start;
  }

  #pad(): void {
    const rest = this.length & 3;
    if (rest !== 0) this.zero(4 - rest);
  }

  #header(type: number, size: number): void {
    const at = this.reserve(4);
    this.buffer.writeUInt16LE(size + 4, at);
    this.buffer.writeUInt16LE(type, at + 2);
  }

  attr(type: number, value: Uint8Array): this {
    this.#header(type, value.length);
    this.bytes(value);
    this.#pad();
    return this;
  }
  attrU8(type: number, value: number): this {
    this.#header(type, 1);
    this.u8(value);
    this.#pad();
    return this;
  }
  attrU16(type: number, value: number): this {
    this.#header(type, 2);
    this.u16le(value);
    this.#pad();
    return this;
  }
  attrU16be(type: number, value: number): this {
    this.#header(type, 2);
    this.u16be(value);
    this.#pad();
    return this;
  }
  attrU32(type: number, value: number): this {
    this.#header(type, 4);
    this.u32le(value >>> 0);
    return this;
  }
  attrU32be(type: number, value: number): this {
    this.#header(type, 4);
    this.u32be(value >>> 0);
    return this;
  }
  /** NUL-terminated. */
  attrString(type: number, value: string): this {
    return this.attr(type, Buffer.from(`${value}\0`));
  }
  attrFlag(type: number): this {
    this.#header(type, 0);
    return this;
  }
  /** An attribute whose payload `fill` writes; `plain` leaves NLA_F_NESTED out, as some old kernel parsers want. */
  nest(type: number, fill: () => void, plain = false): this {
    const at = this.reserve(4);
    this.buffer.writeUInt16LE(plain ? type : type | NLA_F_NESTED, at + 2);
    fill();
    this.buffer.writeUInt16LE(this.length - at, at);
    this.#pad();
    return this;
  }
}
