// The tables of a speaker and what moves between them: paths that came in make nets dirty, and once per turn of the
// event loop each dirty net is decided, told to the peers and handed to the kernel, in this order.
import { FAMILIES, type Family } from '../packet/context.ts';
import { AttributeStore } from '../rib/attribute-store.ts';
import type { PathSource } from '../rib/path-source.ts';
import { NONE, Rib } from '../rib/rib.ts';
import { ExportGroups } from './export-groups.ts';
import { LocRib } from './loc-rib.ts';
import { adjacentNextHops, type NextHopResolver, NextHops } from './next-hops.ts';
import type { RouteSink } from './route-sink.ts';

const LOCAL_SOURCE: PathSource = {
  index: 0,
  kind: 'local',
  name: 'local',
  address: '',
  asn: 0,
  routerId: 0,
  reflectorClient: false,
};

export class RouteFlow {
  readonly store = new AttributeStore();
  readonly ribs: Readonly<Record<Family, Rib>>;
  readonly locRibs: Readonly<Record<Family, LocRib>>;
  readonly nextHops: NextHops;
  /** By source index; 0 is our own. */
  readonly sources: (PathSource | undefined)[] = [LOCAL_SOURCE];
  readonly groups: ExportGroups;
  readonly #sink: RouteSink | undefined;
  #running = false;
  #scheduled: NodeJS.Immediate | undefined;
  /** Nets without a path that some peer has not been told of yet. */
  readonly #emptied: Record<Family, number[]> = { 4: [], 6: [] };

  constructor(options: { resolver: NextHopResolver | undefined; sink: RouteSink | undefined }) {
    this.#sink = options.sink;
    this.nextHops = new NextHops(options.resolver ?? adjacentNextHops);
    const dirty = (): void => this.#schedule();
    this.ribs = { 4: new Rib(4, this.store, dirty), 6: new Rib(6, this.store, dirty) };
    this.locRibs = {
      4: new LocRib(this.ribs[4], this.sources, this.nextHops),
      6: new LocRib(this.ribs[6], this.sources, this.nextHops),
    };
    this.groups = new ExportGroups(this.ribs, this.sources, this.nextHops);
  }

  start(): void {
    this.#running = true;
  }

  /** What is dirty stays so until somebody flushes. */
  stop(): void {
    this.#running = false;
    clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
  }

  #schedule(): void {
    if (this.#running) this.#scheduled ??= setImmediate(() => this.flush());
  }

  flush(): void {
    clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
    for (const family of FAMILIES) {
      const rib = this.ribs[family];
      const changed = rib.takeChanged();
      if (changed.length === 0) continue;
      const loc = this.locRibs[family];
      for (const net of changed) loc.choose(net);
      const told = this.groups.process(family, changed);
      this.#sink?.changed(loc, changed);
      const emptied = this.#emptied[family];
      for (const net of changed) if (rib.head[net] === NONE) emptied.push(net);
      if (told && emptied.length > 0) {
        rib.releaseEmpty(emptied);
        this.#emptied[family] = [];
      }
    }
  }

  /** Next hops may resolve otherwise now (a link went, an address came). */
  nextHopsChanged(): void {
    const changed = this.nextHops.refresh();
    if (changed.size > 0) this.#again(nextHop => changed.has(nextHop));
  }

  /** Hands every route to the sink again. */
  reprogram(): void {
    this.#again(() => true);
  }

  #again(affected: (nextHop: string) => boolean): void {
    this.#sink?.forgetResolutions();
    for (const family of FAMILIES) {
      const rib = this.ribs[family];
      rib.forEachPath(path => {
        if (affected(rib.entry[path]!.attributes.nextHop ?? '')) rib.touch(rib.netOf[path]!);
      });
    }
  }
}
