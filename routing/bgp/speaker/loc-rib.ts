// Runs the decision process on the nets that changed (RFC 4271 section 9.1.2) and says what is chosen.
import { type Candidate, type Decision, decide } from '../decision/decide.ts';
import type { PathSource } from '../rib/path-source.ts';
import { NONE, PATH_FLAG, type Rib } from '../rib/rib.ts';
import type { NextHops } from './next-hops.ts';

export class LocRib {
  readonly rib: Rib;
  readonly #sources: readonly (PathSource | undefined)[];
  readonly nextHops: NextHops;
  /** Nets of our own that the kernel must not forward beyond their more specific routes. */
  readonly blackholes = new Set<number>();

  constructor(rib: Rib, sources: readonly (PathSource | undefined)[], nextHops: NextHops) {
    this.rib = rib;
    this.#sources = sources;
    this.nextHops = nextHops;
  }

  candidate(path: number): Candidate {
    const { rib } = this;
    const entry = rib.entry[path]!;
    const source = this.#sources[rib.source[path]!]!;
    return { path, entry, source, pathId: rib.pathId[path]!, metric: this.#metric(path) };
  }

  #metric(path: number): number | undefined {
    const { rib } = this;
    if (rib.source[path] === 0) return 0;
    const nextHop = rib.entry[path]!.attributes.nextHop;
    return nextHop === undefined ? undefined : this.nextHops.get(nextHop)?.metric;
  }

  /** Chooses the best path of a net. With one path there is nothing to choose, and no object is made. */
  choose(net: number): number {
    const { rib } = this;
    const only = rib.head[net]!;
    let best = NONE;
    if (only !== NONE) {
      if (rib.next[only] === NONE) {
        const usable = (rib.flags[only]! & PATH_FLAG.REFUSED) === 0 && this.#metric(only) !== undefined;
        best = usable ? only : NONE;
      } else best = this.decide(net).best?.path ?? NONE;
    }
    rib.best[net] = best;
    return best;
  }

  decide(net: number, explain = false): Decision {
    const candidates: Candidate[] = [];
    for (let path = this.rib.head[net]!; path !== NONE; path = this.rib.next[path]!)
      if ((this.rib.flags[path]! & PATH_FLAG.REFUSED) === 0) candidates.push(this.candidate(path));
    return decide(candidates, explain);
  }

  /** Next hops of the chosen path and its equals, at most `limit`, without repeats. */
  nextHopsOf(net: number, limit: number): readonly string[] {
    const { rib } = this;
    const best = rib.best[net]!;
    if (best === NONE) return [];
    const first = rib.entry[best]!.attributes.nextHop!;
    if (limit <= 1 || (rib.head[net] === best && rib.next[best] === NONE)) return [first];
    const all = this.decide(net).multipath.map(c => c.entry.attributes.nextHop!);
    return [...new Set(all)].slice(0, limit);
  }
}
