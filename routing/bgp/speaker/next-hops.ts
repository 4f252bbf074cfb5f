// Which next hops can be reached, and at what cost: RFC 4271 section 9.1.2.1. Asked once per address, kept until the
// resolver says that the world has changed.

/** How a next hop is reached; undefined when it is not. */
export interface ResolvedNextHop {
  readonly metric: number;
  /** What the kernel route uses; the next hop itself when it is on a link of ours. */
  readonly gateway?: string;
  readonly link?: string;
  readonly onlink?: boolean;
}

export type NextHopResolver = (address: string) => ResolvedNextHop | undefined;

/** Every next hop is a neighbour: right where all peers share a subnet. */
export const adjacentNextHops: NextHopResolver = address => ({ metric: 0, gateway: address });

export class NextHops {
  #resolve: NextHopResolver;
  #known = new Map<string, ResolvedNextHop | undefined>();

  constructor(resolve: NextHopResolver) {
    this.#resolve = resolve;
  }

  get(address: string): ResolvedNextHop | undefined {
    if (this.#known.has(address)) return this.#known.get(address);
    const resolved = this.#resolve(address);
    this.#known.set(address, resolved);
    return resolved;
  }

  /** Asks again for every address in use; answers those whose answer is another one now. */
  refresh(): Set<string> {
    const changed = new Set<string>();
    for (const [address, before] of this.#known) {
      const now = this.#resolve(address);
      this.#known.set(address, now);
      const same =
        before?.metric === now?.metric &&
        before?.gateway === now?.gateway &&
        before?.link === now?.link &&
        before?.onlink === now?.onlink &&
        (before === undefined) === (now === undefined);
      if (!same) changed.add(address);
    }
    return changed;
  }
}
