// A reusable batch of prefixes in typed arrays: what NLRI fields decode into. No object a prefix: a full UPDATE holds
// a thousand of them and a table half a million, and allocation was the cost that showed first.
import { type Cidr, makeCidr } from '../../../src/lib/cidr.ts';
import type { Family } from './context.ts';

const INITIAL_CAPACITY = 1024;

/** Prefixes of one family. `words[i * stride …]` is the address as big-endian 32-bit words, host bits cleared. */
export class PrefixBatch {
  family: Family = 4;
  count = 0;
  /** 1 word per IPv4 prefix, 4 per IPv6. */
  stride = 1;
  words = new Uint32Array(INITIAL_CAPACITY);
  lengths = new Uint8Array(INITIAL_CAPACITY);
  /** RFC 7911 path identifiers, 0 without add-path. */
  pathIds = new Uint32Array(INITIAL_CAPACITY);

  reset(family: Family): void {
    this.family = family;
    this.stride = family === 4 ? 1 : 4;
    this.count = 0;
  }

  /** Makes room for one more prefix and answers its index. */
  next(): number {
    const index = this.count++;
    if (index >= this.lengths.length) {
      this.lengths = grown(this.lengths, new Uint8Array(index * 2));
      this.pathIds = grown(this.pathIds, new Uint32Array(index * 2));
    }
    if ((index + 1) * this.stride > this.words.length)
      this.words = grown(this.words, new Uint32Array((index + 1) * this.stride * 2));
    return index;
  }

  push(cidr: Cidr, pathId = 0): void {
    const index = this.next();
    addressWords(cidr.network, this.words, index * this.stride);
    this.lengths[index] = cidr.prefixLength;
    this.pathIds[index] = pathId;
  }

  cidr(index: number): Cidr {
    return makeCidr(wordsAddress(this.words, index * this.stride, this.stride), this.lengths[index]!);
  }

  toArray(): { cidr: Cidr; pathId: number }[] {
    return Array.from({ length: this.count }, (_, i) => ({ cidr: this.cidr(i), pathId: this.pathIds[i]! }));
  }
}

/** The bytes of an address as big-endian words at `words[at …]`. */
export function addressWords(address: Uint8Array, words: Uint32Array, at: number): void {
  for (let i = 0; i < address.length; i += 4)
    words[at + (i >> 2)] =
      (address[i]! << 24) | (address[i + 1]! << 16) | (address[i + 2]! << 8) | address[i + 3]!;
}

/** The inverse of addressWords. */
export function wordsAddress(words: Uint32Array, at: number, count: number): Uint8Array {
  const bytes = new Uint8Array(count * 4);
  for (let i = 0; i < count; i++) {
    const word = words[at + i]!;
    bytes[i * 4] = word >>> 24;
    bytes[i * 4 + 1] = (word >>> 16) & 255;
    bytes[i * 4 + 2] = (word >>> 8) & 255;
    bytes[i * 4 + 3] = word & 255;
  }
  return bytes;
}

function grown<T extends Uint8Array | Uint32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
