// Node ports: one pool for all protocols, except that one Service may use a number for TCP and UDP both.
import { NumberPool } from './number-pool.ts';

export class NodePorts {
  readonly #first: number;
  readonly #last: number;
  readonly #pool: NumberPool;

  /** `30000-32767`. */
  constructor(range = '30000-32767') {
    const match = /^(\d+)-(\d+)$/.exec(range);
    const [first, last] = [Number(match?.[1]), Number(match?.[2])];
    if (!match || first < 1 || last > 65535 || first > last)
      throw new Error(`node port range ${range}: expected FIRST-LAST within 1-65535`);
    this.#first = first;
    this.#last = last;
    const size = last - first + 1;
    // KEP-3668: min(max(16, size / 32), 128).
    this.#pool = new NumberPool(size, Math.min(Math.max(16, Math.floor(size / 32)), 128));
  }

  /** Undefined on success, else why not. */
  reserve(port: number, owner: string): string | undefined {
    if (port < this.#first || port > this.#last)
      return `provided port is not in the valid range. The range of valid ports is ${this.#first}-${this.#last}`;
    return this.#pool.reserve(port - this.#first, owner) ? undefined : 'provided port is already allocated';
  }

  take(owner: string): number | undefined {
    const offset = this.#pool.take(owner);
    return offset === undefined ? undefined : this.#first + offset;
  }

  release(port: number, owner: string): void {
    this.#pool.release(port - this.#first, owner);
  }

  ownerOf(port: number): string | undefined {
    return this.#pool.ownerOf(port - this.#first);
  }
}
