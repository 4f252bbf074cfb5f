// Ports for the relay's listeners (Kubernetes 1.20 pkg/proxy/userspace/port_allocator.go): any that the kernel has free,
// or random ones of a range. A port given back rests a while: a late packet must not meet another Service.
import { PodwireError } from '../../../../src/lib/errors.ts';

const COOL_DOWN_MS = 500;

export class PortAllocator {
  readonly #range: { first: number; last: number } | undefined;
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #used = new Set<number>();
  readonly #resting = new Map<number, number>();

  /** Without a range every answer is 0: the kernel chooses. */
  constructor(
    range?: { first: number; last: number },
    now: () => number = () => performance.now(),
    random: () => number = Math.random,
  ) {
    this.#range = range;
    this.#now = now;
    this.#random = random;
  }

  /** Ports to try, in a random order; who takes one says so by `take`. */
  *candidates(): Generator<number> {
    if (!this.#range) {
      yield 0;
      return;
    }
    const { first, last } = this.#range;
    const size = last - first + 1;
    const start = Math.floor(this.#random() * size);
    for (let n = 0; n < size; n++) {
      const port = first + ((start + n) % size);
      if (this.#isFree(port)) yield port;
    }
  }

  take(port: number): void {
    this.#used.add(port);
  }

  give(port: number): void {
    this.#used.delete(port);
    this.#resting.set(port, this.#now() + COOL_DOWN_MS);
  }

  exhausted(): PodwireError {
    const { first, last } = this.#range ?? { first: 0, last: 0 };
    return new PodwireError('PORTS_EXHAUSTED', `no port of --proxy-port-range ${first}-${last} is free`);
  }

  #isFree(port: number): boolean {
    if (this.#used.has(port)) return false;
    const until = this.#resting.get(port);
    if (until === undefined) return true;
    if (this.#now() < until) return false;
    this.#resting.delete(port);
    return true;
  }
}
