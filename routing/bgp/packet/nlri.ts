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
  const longest = family === 4 ? 32 : 128;
  const { stride } = into;
  let at = start;
  while (at < end) {
    let pathId = 0;
    if (addPath) {
      if (end - at < 5) throw badNlri(at, 'the path identifier is cut short');
      pathId = buffer.readUInt32BE(at);
      at += 4;
    }
    const length = buffer[at++]!;
    if (length > longest) throw badNlri(at - 1, `prefix length ${length} is more than ${longest}`);
    const bytes = (length + 7) >> 3;
    if (at + bytes > end) throw badNlri(at, `a prefix of ${length} bits is cut short`);
    const index = into.next();
    for (let w = 0; w < stride; w++)
      into.words[index * stride + w] = prefixWord(buffer, at + w * 4, length - w * 32);
    at += bytes;
    into.lengths[index] = length;
    into.pathIds[index] = pathId;
  }
}

/** A word of a prefix of which `bits` (or more) are left at `at`; the bits behind them are cleared. */
function prefixWord(buffer: Buffer, at: number, bits: number): number {
  if (bits <= 0) return 0;
  let word = buffer[at]! << 24;
  if (bits > 8) word |= buffer[at + 1]! << 16;
  if (bits > 16) word |= buffer[at + 2]! << 8;
  if (bits > 24) word |= buffer[at + 3]!;
  return bits >= 32 ? word : word & (-1 << (32 - bits));
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
