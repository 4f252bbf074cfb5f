// Network Layer Reachability Information, RFC 4271 section 4.3 and RFC 4760 section 5; with add-path RFC 7911 section 3.
//
//   +--------------------------------+
//   | Path Identifier (4 octets)     |   only when add-path was negotiated for this direction
//   +--------------------------------+
//   | Length (1 octet, in bits)      |
//   +--------------------------------+
//   | Prefix (variable)              |   as many octets as the length needs; trailing bits are ignored
//   +--------------------------------+
import type { Family } from './context.ts';
import { BgpMessageError } from './error.ts';
import { ERROR, UPDATE_ERROR } from './iana.ts';
import type { PrefixBatch } from './prefix-batch.ts';

/** The longest an encoded prefix can be: path identifier, length, address. */
export function maxNlriBytes(family: Family): number {
  return family === 4 ? 9 : 21;
}

/** RFC 7606 section 3 (j): an NLRI field that cannot be parsed ends the session. */
function badNlri(offset: number, message: string): BgpMessageError {
  return new BgpMessageError(
    ERROR.UPDATE_MESSAGE,
    UPDATE_ERROR.INVALID_NETWORK_FIELD,
    'nlri',
    offset,
    message,
  );
}

/** Decodes `buffer[start, end)` into the batch, which is reset first. */
export function decodeNlri(
  buffer: Buffer,
  start: number,
  end: number,
  family: Family,
  addPath: boolean,
  into: PrefixBatch,
): void {
  into.reset(family);
  if (family === 4) decodeNlri4(buffer, start, end, addPath, into);
  else decodeNlri6(buffer, start, end, addPath, into);
}

function decodeNlri4(buffer: Buffer, start: number, end: number, addPath: boolean, into: PrefixBatch): void {
  let at = start;
  while (at < end) {
    let pathId = 0;
    if (addPath) {
      if (end - at < 5) throw badNlri(at, 'the path identifier is cut short');
      pathId = buffer.readUInt32BE(at);
      at += 4;
    }
    const length = buffer[at++]!;
    if (length > 32) throw badNlri(at - 1, `prefix length ${length} is more than 32`);
    const bytes = (length + 7) >> 3;
    if (at + bytes > end) throw badNlri(at, `a prefix of ${length} bits is cut short`);
    let word = 0;
    if (bytes > 0) word = buffer[at]! << 24;
    if (bytes > 1) word |= buffer[at + 1]! << 16;
    if (bytes > 2) word |= buffer[at + 2]! << 8;
    if (bytes > 3) word |= buffer[at + 3]!;
    at += bytes;
    const index = into.next();
    into.words[index] = length === 0 ? 0 : word & (-1 << (32 - length));
    into.lengths[index] = length;
    into.pathIds[index] = pathId;
  }
}

function decodeNlri6(buffer: Buffer, start: number, end: number, addPath: boolean, into: PrefixBatch): void {
  let at = start;
  while (at < end) {
    let pathId = 0;
    if (addPath) {
      if (end - at < 5) throw badNlri(at, 'the path identifier is cut short');
      pathId = buffer.readUInt32BE(at);
      at += 4;
    }
    const length = buffer[at++]!;
    if (length > 128) throw badNlri(at - 1, `prefix length ${length} is more than 128`);
    const bytes = (length + 7) >> 3;
    if (at + bytes > end) throw badNlri(at, `a prefix of ${length} bits is cut short`);
    const index = into.next();
    const words = into.words;
    for (let w = 0; w < 4; w++) {
      let word = 0;
      const from = w * 4;
      for (let b = 0; b < 4; b++) word = (word << 8) | (from + b < bytes ? buffer[at + from + b]! : 0);
      const bits = length - w * 32;
      words[index * 4 + w] = bits >= 32 ? word : bits <= 0 ? 0 : word & (-1 << (32 - bits));
    }
    at += bytes;
    into.lengths[index] = length;
    into.pathIds[index] = pathId;
  }
}

/** Writes one prefix at `offset`; answers the offset behind it. The buffer must have room for maxNlriBytes. */
export function encodeNlri(
  buffer: Buffer,
  offset: number,
  words: Uint32Array,
  at: number,
  length: number,
  addPath: boolean,
  pathId: number,
): number {
  let to = offset;
  if (addPath) {
    buffer.writeUInt32BE(pathId, to);
    to += 4;
  }
  buffer[to++] = length;
  const bytes = (length + 7) >> 3;
  for (let i = 0; i < bytes; i++) buffer[to++] = (words[at + (i >> 2)]! >>> (24 - (i & 3) * 8)) & 255;
  return to;
}
