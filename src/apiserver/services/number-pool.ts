// A pool of numbers handed out at random, each to one owner. Dynamic choices come from the upper part first, so that the
// lower numbers stay free for people who choose their own (KEP-3070 for cluster IPs, KEP-3668 for node ports).
import { randomInt } from 'node:crypto';

export class NumberPool {
  readonly size: number;
  readonly #staticBand: number;
  readonly #owners = new Map<number, string>();

  constructor(size: number, staticBand: number) {
    this.size = size;
    this.#staticBand = Math.min(staticBand, size - 1);
  }

  /** False if somebody else has it. */
  reserve(value: number, owner: string): boolean {
    const holder = this.#owners.get(value);
    if (holder !== undefined) return holder === owner;
    this.#owners.set(value, owner);
    return true;
  }

  /** A free number, or undefined if none is left. */
  take(owner: string): number | undefined {
    const value = this.#freeIn(this.#staticBand, this.size) ?? this.#freeIn(0, this.#staticBand);
    if (value !== undefined) this.#owners.set(value, owner);
    return value;
  }

  release(value: number, owner: string): void {
    if (this.#owners.get(value) === owner) this.#owners.delete(value);
  }

  ownerOf(value: number): string | undefined {
    return this.#owners.get(value);
  }

  get used(): number {
    return this.#owners.size;
  }

  #freeIn(from: number, to: number): number | undefined {
    if (to <= from) return undefined;
    const start = from + randomInt(to - from);
    for (let step = 0; step < to - from; step++) {
      const value = from + ((start - from + step) % (to - from));
      if (!this.#owners.has(value)) return value;
    }
    return undefined;
  }
}
