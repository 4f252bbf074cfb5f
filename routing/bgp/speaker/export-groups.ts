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

/** Peers with the same context and the same way of encoding are told the same. */
const keyOf = (context: ExportContext, { send }: Negotiated): string => JSON.stringify([context, send]);

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
    for (const family of negotiated.families)
      this.#enter(neighbour, { family, negotiated, context }).join(neighbour.member, endOfRib);
  }

  leave(neighbour: Neighbour): void {
    for (const [family, group] of neighbour.groups) this.#exit(neighbour, family, group);
    neighbour.groups.clear();
  }

  /** The peer is told otherwise from now on, within its session: what is the same for it is not taken back first. */
  move(neighbour: Neighbour, negotiated: Negotiated, context: ExportContext): void {
    for (const [family, group] of [...neighbour.groups]) {
      if (this.#groups[family].get(keyOf(context, negotiated)) === group) continue;
      const told = group.handOver(neighbour.member);
      this.#exit(neighbour, family, group);
      this.#enter(neighbour, { family, negotiated, context }).join(neighbour.member, false, told);
    }
  }

  #enter(
    neighbour: Neighbour,
    { family, negotiated, context }: { family: Family; negotiated: Negotiated; context: ExportContext },
  ): RouteExporter {
    const key = keyOf(context, negotiated);
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
    return group;
  }

  #exit(neighbour: Neighbour, family: Family, group: RouteExporter): void {
    group.leave(neighbour.member);
    if (group.memberCount > 0) return;
    for (const [key, one] of this.#groups[family]) if (one === group) this.#groups[family].delete(key);
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
