// Which kernel routes the chosen BGP paths mean, kept up to date net by net. Pure: no socket, no clock. Equal next-hop
// sets are one object, so half a million routes over a few next hops cost a pointer each, and a change is told by
// identity. Gives single changes to a writer and the whole as a KernelState fragment to the reconciler and `diff`.

import { type KernelState, ROUTE_PROTOCOL, type RouteState } from '../../src/kernel/state.ts';
import { type Cidr, formatCidr } from '../../src/lib/cidr.ts';
import type { Family } from '../bgp/packet/context.ts';
import { PrefixTable } from '../bgp/rib/prefix-table.ts';
import { NONE } from '../bgp/rib/rib.ts';
import type { LocRib } from '../bgp/speaker/loc-rib.ts';

/** Above connected and static routes; what Calico gives BGP routes (ipv4NormalRoutePriority). */
export const BGP_ROUTE_METRIC = 1024;

export interface FibNextHop {
  readonly gateway: string;
  readonly link?: string;
  readonly onlink?: boolean;
}

/** What a kernel route does, apart from its prefix. One object for equal ones. */
export interface FibAction {
  readonly key: string;
  readonly blackhole: boolean;
  readonly hops: readonly FibNextHop[];
}

/** Another next hop for a destination than the plain one: a tunnel (calico/encapsulation.ts). */
export type FibShape = (destination: Cidr, nextHop: string) => FibNextHop | undefined;

export interface FibChange {
  readonly family: Family;
  /** Number of the prefix in `FibTable.prefixes`. */
  readonly slot: number;
  /** Undefined: the route goes. */
  readonly action: FibAction | undefined;
  readonly before: FibAction | undefined;
}

const BLACKHOLE: FibAction = { key: 'blackhole', blackhole: true, hops: [] };

function plainHop(loc: LocRib, address: string): FibNextHop | undefined {
  const resolved = loc.nextHops.get(address);
  if (resolved === undefined) return undefined;
  return {
    gateway: resolved.gateway ?? address,
    ...(resolved.link === undefined ? {} : { link: resolved.link }),
    ...(resolved.onlink === undefined ? {} : { onlink: resolved.onlink }),
  };
}

export class FibTable {
  readonly #multipath: number;
  readonly #actions = new Map<string, FibAction>();
  /** Our own prefix numbers: the RIB's are reused as soon as it is done with them. */
  readonly prefixes: Record<Family, PrefixTable> = { 4: new PrefixTable(4), 6: new PrefixTable(6) };
  readonly #routes: Record<Family, (FibAction | undefined)[]> = { 4: [], 6: [] };

  /** Changing it takes effect for what is updated from then on. */
  shape: FibShape | undefined;

  constructor(multipath: number) {
    this.#multipath = multipath;
  }

  get size(): number {
    return this.prefixes[4].size + this.prefixes[6].size;
  }

  action(family: Family, slot: number): FibAction | undefined {
    return this.#routes[family][slot];
  }

  /** Takes over what is chosen for `nets`; answers what changed. A removed slot is released by the caller. */
  update(loc: LocRib, nets: readonly number[]): FibChange[] {
    const changes: FibChange[] = [];
    const { family, nets: table } = loc.rib;
    const prefixes = this.prefixes[family];
    const routes = this.#routes[family];
    for (const net of nets) {
      const action = this.#wanted(loc, net);
      const at = net * table.stride;
      const length = table.lengths[net]!;
      // A new slot's route is undefined, so it always differs from what is wanted.
      const slot =
        action === undefined
          ? prefixes.find(table.words, at, length)
          : prefixes.intern(table.words, at, length);
      const before = slot < 0 ? undefined : routes[slot];
      if (action === before) continue;
      while (routes.length <= slot) routes.push(undefined);
      routes[slot] = action;
      changes.push({ family, slot, action, before });
    }
    return changes;
  }

  /** Gives the number of a removed route back, unless it was wanted again meanwhile. */
  release(family: Family, slot: number): void {
    if (this.#routes[family][slot] === undefined && this.prefixes[family].has(slot))
      this.prefixes[family].release(slot);
  }

  #wanted(loc: LocRib, net: number): FibAction | undefined {
    const best = loc.rib.best[net]!;
    if (best === NONE) return undefined;
    if (loc.rib.source[best] === 0) return loc.blackholes.has(net) ? BLACKHOLE : undefined;
    const hops = loc.nextHopsOf(net, this.#multipath);
    const shaped = this.#shaped(loc, net, hops);
    if (shaped !== undefined) return this.#action(`shaped ${JSON.stringify(shaped)}`, () => shaped);
    return this.#action(hops.length === 1 ? hops[0]! : hops.join(' '), () =>
      hops.flatMap(address => plainHop(loc, address) ?? []),
    );
  }

  /** Undefined when every next hop of the route is the plain one. */
  #shaped(loc: LocRib, net: number, hops: readonly string[]): FibNextHop[] | undefined {
    const { shape } = this;
    if (shape === undefined) return undefined;
    const destination = loc.rib.nets.cidr(net);
    const shaped = hops.map(hop => shape(destination, hop));
    if (shaped.every(hop => hop === undefined)) return undefined;
    return shaped.flatMap((hop, i) => hop ?? plainHop(loc, hops[i]!) ?? []);
  }

  #action(key: string, hops: () => FibNextHop[]): FibAction {
    let action = this.#actions.get(key);
    if (action === undefined) {
      action = { key, blackhole: false, hops: hops() };
      this.#actions.set(key, action);
    }
    return action;
  }

  /** Next hops resolve otherwise now: actions are worked out afresh. */
  forgetResolutions(): void {
    this.#actions.clear();
  }

  routeState(family: Family, slot: number, action: FibAction): RouteState {
    const route: RouteState = {
      destination: formatCidr(this.prefixes[family].cidr(slot)),
      protocol: ROUTE_PROTOCOL.bgp,
      metric: BGP_ROUTE_METRIC,
    };
    if (action.blackhole) return { ...route, type: 'blackhole' };
    const [first, ...others] = action.hops;
    if (first === undefined) return { ...route, type: 'unreachable' };
    return others.length === 0 ? { ...route, ...first } : { ...route, nexthops: [...action.hops] };
  }

  /** All routes, sorted by the order of their prefixes' text. */
  fragment(): KernelState {
    const routes: RouteState[] = [];
    for (const family of [4, 6] as const)
      this.#routes[family].forEach((action, slot) => {
        if (action !== undefined) routes.push(this.routeState(family, slot, action));
      });
    routes.sort((a, b) => (a.destination < b.destination ? -1 : a.destination > b.destination ? 1 : 0));
    return { routes };
  }
}
