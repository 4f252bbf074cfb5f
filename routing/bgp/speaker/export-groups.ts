// All update groups of a speaker: peers that are told the same share one Adj-RIB-Out.
import type { Negotiated } from '../fsm/negotiate.ts';
import { addPathOf, FAMILIES, type Family } from '../packet/context.ts';
import { PrefixBatch } from '../packet/prefix-batch.ts';
import type { PathSource } from '../rib/path-source.ts';
import type { Rib } from '../rib/rib.ts';
import { AddPathOut } from './add-path-out.ts';
import { AdjRibOut } from './adj-rib-out.ts';
import type { ExportContext } from './export.ts';
import type { Neighbour } from './neighbour.ts';
import type { NextHops } from './next-hops.ts';
import type { RouteExporter } from './route-exporter.ts';

export class ExportGroups {
  readonly #ribs: Readonly<Record<Family, Rib>>;
  readonly #sources: readonly (PathSource | undefined)[];
  readonly #nextHops: NextHops;
  readonly #groups: Record<Family, Map<string, RouteExporter>> = { 4: new Map(), 6: new Map() };
  readonly #scratch = AdjRibOut.scratch();
  readonly #batch = new PrefixBatch();

  constructor(
    ribs: Readonly<Record<Family, Rib>>,
    sources: readonly (PathSource | undefined)[],
    nextHops: NextHops,
  ) {
    this.#nextHops = nextHops;
    this.#ribs = ribs;
    this.#sources = sources;
  }

  of(family: Family): IterableIterator<RouteExporter> {
    return this.#groups[family].values();
  }

  join(neighbour: Neighbour, negotiated: Negotiated, context: ExportContext, endOfRib: boolean): void {
    const key = JSON.stringify([context, negotiated.send]);
    for (const family of negotiated.families) {
      let group = this.#groups[family].get(key);
      if (group === undefined) {
        const options = {
          rib: this.#ribs[family],
          sources: this.#sources,
          nextHops: this.#nextHops,
          context,
          send: negotiated.send,
          scratch: this.#scratch,
          batch: this.#batch,
        };
        group = addPathOf(negotiated.send, family) ? new AddPathOut(options) : new AdjRibOut(options);
        this.#groups[family].set(key, group);
      }
      neighbour.groups.set(family, group);
      group.join(neighbour.member, endOfRib);
    }
  }

  /** With `withdraw` the peer is told that everything is gone, for a change of group within a session. */
  leave(neighbour: Neighbour, withdraw: boolean): void {
    for (const [family, group] of neighbour.groups) {
      if (withdraw) group.withdrawAll(neighbour.member);
      group.leave(neighbour.member);
      if (group.memberCount > 0) continue;
      for (const [key, one] of this.#groups[family]) if (one === group) this.#groups[family].delete(key);
    }
    neighbour.groups.clear();
  }

  /** Tells all peers of the nets that changed; true when every one of them was told already. */
  process(family: Family, nets: readonly number[]): boolean {
    let told = true;
    for (const group of this.#groups[family].values()) {
      group.process(nets);
      if (group.hasPending) told = false;
    }
    return told;
  }

  endOfRib(neighbours: Iterable<Neighbour>): void {
    for (const neighbour of neighbours)
      for (const family of FAMILIES) neighbour.groups.get(family)?.endOfRib(neighbour.member);
  }
}
