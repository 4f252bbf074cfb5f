// Prefix → small dense number ("net"), one table per family. Open addressing over typed arrays, because a Map keyed by
// 38-bit numbers allocates a heap number per key and took most of the time of a full table. Freed numbers are reused.
import { type Cidr, makeCidr } from '../../../src/lib/cidr.ts';
import type { Family } from '../packet/context.ts';
import { addressWords, wordsAddress } from '../packet/prefix-batch.ts';

const INITIAL_SLOTS = 256;

export class PrefixTable {
  readonly family: Family;
  /** Words per address: 1 or 4. */
  readonly stride: number;
  /** `words[net * stride …]`, `lengths[net]`: the prefix of a net. */
  words: Uint32Array;
  lengths: Uint8Array;
  /** Nets in use. */
  size = 0;
  /** Every net is below this number. */
  limit = 0;
  /** net + 1 by hash slot, 0 when the slot is free. */
  #slots = new Int32Array(INITIAL_SLOTS);
  #freed: number[] = [];
  #probe = new Uint32Array(4);

  constructor(family: Family) {
    this.family = family;
    this.stride = family === 4 ? 1 : 4;
    this.words = new Uint32Array((INITIAL_SLOTS / 2) * this.stride);
    this.lengths = new Uint8Array(INITIAL_SLOTS / 2);
  }

  /** How many nets the arrays of this table, and those that run beside it, must hold. */
  get capacity(): number {
    return this.lengths.length;
  }

  #hash(words: Uint32Array, at: number, length: number): number {
    let h = Math.imul(words[at]! ^ Math.imul(length, 0x9e3779b1), 0x85ebca6b);
    for (let i = 1; i < this.stride; i++) h = Math.imul((h ^ (h >>> 15)) + words[at + i]!, 0x85ebca6b);
    h ^= h >>> 13;
    h = Math.imul(h, 0xc2b2ae35);
    return (h ^ (h >>> 16)) >>> 0;
  }

  #equals(net: number, words: Uint32Array, at: number, length: number): boolean {
    if (this.lengths[net] !== length) return false;
    const own = net * this.stride;
    for (let i = 0; i < this.stride; i++) if (this.words[own + i] !== words[at + i]) return false;
    return true;
  }

  /** The net of a prefix, or -1. */
  find(words: Uint32Array, at: number, length: number): number {
    const mask = this.#slots.length - 1;
    for (let slot = this.#hash(words, at, length) & mask; ; slot = (slot + 1) & mask) {
      const net = this.#slots[slot]! - 1;
      if (net < 0 || this.#equals(net, words, at, length)) return net;
    }
  }

  findCidr(cidr: Cidr): number {
    if (cidr.family !== this.family) return -1;
    addressWords(cidr.network, this.#probe, 0);
    return this.find(this.#probe, 0, cidr.prefixLength);
  }

  /** The net of a prefix, made when there is none. */
  intern(words: Uint32Array, at: number, length: number): number {
    const mask = this.#slots.length - 1;
    let slot = this.#hash(words, at, length) & mask;
    for (; ; slot = (slot + 1) & mask) {
      const net = this.#slots[slot]! - 1;
      if (net < 0) break;
      if (this.#equals(net, words, at, length)) return net;
    }
    const net = this.#freed.pop() ?? this.limit++;
    if (net >= this.lengths.length) this.#grow();
    for (let i = 0; i < this.stride; i++) this.words[net * this.stride + i] = words[at + i]!;
    this.lengths[net] = length;
    this.size++;
    // Growing the slots inserts the new net too.
    if (this.size * 2 > this.#slots.length) this.#rehash(this.#slots.length * 2);
    else this.#slots[slot] = net + 1;
    return net;
  }

  internCidr(cidr: Cidr): number {
    addressWords(cidr.network, this.#probe, 0);
    return this.intern(this.#probe, 0, cidr.prefixLength);
  }

  /** Gives the number of a prefix back; nothing may refer to it any more. */
  release(net: number): void {
    const mask = this.#slots.length - 1;
    let hole = this.#hash(this.words, net * this.stride, this.lengths[net]!) & mask;
    while (this.#slots[hole] !== net + 1) hole = (hole + 1) & mask;
    // Backward shift: no tombstones, so lookups stay short however often routes come and go.
    for (let slot = (hole + 1) & mask; this.#slots[slot] !== 0; slot = (slot + 1) & mask) {
      const other = this.#slots[slot]! - 1;
      const home = this.#hash(this.words, other * this.stride, this.lengths[other]!) & mask;
      if (((slot - home) & mask) >= ((slot - hole) & mask)) {
        this.#slots[hole] = other + 1;
        hole = slot;
      }
    }
    this.#slots[hole] = 0;
    this.lengths[net] = 255;
    this.#freed.push(net);
    this.size--;
  }

  /** False for a number that was released. */
  has(net: number): boolean {
    return net >= 0 && net < this.limit && this.lengths[net] !== 255;
  }

  cidr(net: number): Cidr {
    return makeCidr(wordsAddress(this.words, net * this.stride, this.stride), this.lengths[net]!);
  }

  #grow(): void {
    const words = new Uint32Array(this.words.length * 2);
    words.set(this.words);
    this.words = words;
    const lengths = new Uint8Array(this.lengths.length * 2);
    lengths.set(this.lengths);
    this.lengths = lengths;
  }

  #rehash(slots: number): void {
    this.#slots = new Int32Array(slots);
    const mask = slots - 1;
    for (let net = 0; net < this.limit; net++) {
      if (this.lengths[net] === 255) continue;
      let slot = this.#hash(this.words, net * this.stride, this.lengths[net]!) & mask;
      while (this.#slots[slot] !== 0) slot = (slot + 1) & mask;
      this.#slots[slot] = net + 1;
    }
  }
}
