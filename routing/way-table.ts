// The way to each peer, kept in order of the subnets: what a change of one peer adds and removes, and the whole as lists
// for a KernelState. The objects of a peer that did not change stay the same, so that a reconciler compares references.
import type { FdbState, KernelState, NeighbourState, NexthopState, RouteState } from '../src/kernel/state.ts';
import { compareCidr } from '../src/lib/cidr.ts';
import type { Problem } from '../src/lib/problem.ts';
import type { Peer } from './subnet/peers.ts';

/** What one peer adds. */
export interface PeerWays {
  route: RouteState;
  nexthop?: NexthopState;
  neighbour?: NeighbourState;
  fdb?: FdbState;
}

/** How a backend reaches a peer; undefined when it needs nothing, a Problem when it cannot. */
export type WayPlanner = (peer: Peer, viaNexthop: boolean) => PeerWays | Problem | undefined;

/**
 * Above so many peers routes go through next-hop objects: the kernel's own search for an equal next hop is linear, and
 * 5,000 plain routes over one device take 0.5 s of system time where this takes 0.1 s. Below it the routes look as
 * flannel's do.
 */
export const NEXTHOP_OBJECTS_FROM = 256;

/** From so many changes at once on, all is sorted and assembled anew. */
const MANY = 10;

type Lists = Required<Pick<KernelState, 'routes' | 'neighbours' | 'fdb' | 'nexthops'>>;

interface Entry {
  peer: Peer;
  ways?: PeerWays;
  problem?: Problem;
}

function bySubnet(left: Entry, right: Entry): number {
  return compareCidr(left.peer.cidr, right.peer.cidr);
}

function assemble(entries: readonly Entry[]): Lists {
  const lists: Lists = { routes: [], neighbours: [], fdb: [], nexthops: [] };
  for (const { ways } of entries) {
    if (ways === undefined) continue;
    lists.routes.push(ways.route);
    if (ways.nexthop) lists.nexthops.push(ways.nexthop);
    if (ways.neighbour) lists.neighbours.push(ways.neighbour);
    if (ways.fdb) lists.fdb.push(ways.fdb);
  }
  return lists;
}

/** The lists with one entry of `count` gone from, or come to, place `at`; undefined where that place cannot be told. */
function patch(
  lists: Lists,
  count: number,
  at: number,
  gone: PeerWays | undefined,
  come: PeerWays | undefined,
): Lists | undefined {
  const routes = patchList(lists.routes, count, at, gone?.route, come?.route);
  const neighbours = patchList(lists.neighbours, count, at, gone?.neighbour, come?.neighbour);
  const fdb = patchList(lists.fdb, count, at, gone?.fdb, come?.fdb);
  const nexthops = patchList(lists.nexthops, count, at, gone?.nexthop, come?.nexthop);
  return routes && neighbours && fdb && nexthops && { routes, neighbours, fdb, nexthops };
}

function patchList<T>(
  list: T[],
  count: number,
  at: number,
  gone: T | undefined,
  come: T | undefined,
): T[] | undefined {
  if (gone === undefined && come === undefined) return list;
  // Entries and list have the same places only when every entry has something in it.
  if (list.length !== count) return undefined;
  return come === undefined ? list.toSpliced(at, 1) : list.toSpliced(at, 0, come);
}

export class WayTable {
  readonly #plan: WayPlanner;
  #entries: Entry[] = [];
  /** Who has a next-hop number: two IPv6 subnets may have the same one, and the second goes without. */
  readonly #holders = new Map<number, Entry>();
  readonly #without = new Set<Entry>();
  readonly #unreachable = new Set<Entry>();
  #viaNexthops = false;
  /** As last assembled; undefined when it must be done again. */
  #lists: Lists | undefined;

  constructor(plan: WayPlanner) {
    this.#plan = plan;
  }

  get peers(): Peer[] {
    return this.#entries.map(entry => entry.peer);
  }

  get problems(): Problem[] {
    return [...this.#unreachable].sort(bySubnet).flatMap(({ problem }) => problem ?? []);
  }

  /** `gone` are of this table; of a subnet that moved to another peer, the one goes before the other comes. */
  change(gone: readonly Peer[], come: readonly Peer[]): void {
    const viaNexthops = this.#entries.length - gone.length + come.length >= NEXTHOP_OBJECTS_FROM;
    if (viaNexthops !== this.#viaNexthops) {
      const staying = new Set(this.peers);
      for (const peer of gone) staying.delete(peer);
      this.#viaNexthops = viaNexthops;
      this.#entries = [];
      this.#holders.clear();
      this.#without.clear();
      this.#unreachable.clear();
      this.#lists = undefined;
      this.#changeMany([], [...staying, ...come]);
    } else if (gone.length + come.length > MANY) this.#changeMany(gone, come);
    else {
      for (const peer of gone) this.#remove(peer);
      for (const peer of come) this.#insert(peer);
    }
  }

  /** Routes, neighbours, forwarding entries and next hops; the lists are not changed afterwards. */
  state(): Pick<KernelState, keyof Lists> {
    this.#lists ??= assemble(this.#entries);
    const { nexthops, ...rest } = this.#lists;
    return nexthops.length > 0 ? { nexthops, ...rest } : rest;
  }

  #entry(peer: Peer): Entry {
    const planned = this.#plan(peer, this.#viaNexthops);
    if (planned === undefined) return { peer };
    if ('reason' in planned) {
      const entry: Entry = { peer, problem: planned };
      this.#unreachable.add(entry);
      return entry;
    }
    const entry: Entry = { peer, ways: planned };
    if (planned.nexthop !== undefined) this.#claim(planned.nexthop.id, entry);
    return entry;
  }

  /** The lower subnet has the number. */
  #claim(id: number, entry: Entry): void {
    const holder = this.#holders.get(id);
    if (holder === undefined || compareCidr(entry.peer.cidr, holder.peer.cidr) < 0) {
      this.#holders.set(id, entry);
      if (holder !== undefined) this.#goWithout(holder);
    } else this.#goWithout(entry);
  }

  #goWithout(entry: Entry): void {
    this.#lists = undefined;
    entry.ways = this.#plan(entry.peer, false) as PeerWays;
    this.#without.add(entry);
  }

  /** Where this peer is, or belongs. */
  #place(peer: Peer): number {
    let low = 0;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareCidr(this.#entries[middle]!.peer.cidr, peer.cidr) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #remove(peer: Peer): void {
    const at = this.#place(peer);
    const entry = this.#entries[at];
    if (entry?.peer !== peer) return;
    this.#lists &&= patch(this.#lists, this.#entries.length, at, entry.ways, undefined);
    this.#entries.splice(at, 1);
    this.#release(entry);
  }

  #insert(peer: Peer): void {
    const entry = this.#entry(peer);
    const at = this.#place(peer);
    this.#lists &&= patch(this.#lists, this.#entries.length, at, undefined, entry.ways);
    this.#entries.splice(at, 0, entry);
  }

  /** A number that comes free goes to who had to do without it. */
  #release(entry: Entry): void {
    this.#without.delete(entry);
    this.#unreachable.delete(entry);
    const id = entry.ways?.nexthop?.id;
    if (id === undefined) return;
    this.#holders.delete(id);
    for (const other of [...this.#without]) {
      const ways = this.#plan(other.peer, true) as PeerWays;
      if (ways.nexthop?.id !== id) continue;
      this.#without.delete(other);
      this.#lists = undefined;
      other.ways = ways;
      this.#claim(id, other);
    }
  }

  #changeMany(gone: readonly Peer[], come: readonly Peer[]): void {
    this.#lists = undefined;
    const going = new Set(gone);
    const staying: Entry[] = [];
    for (const entry of this.#entries) {
      if (going.has(entry.peer)) this.#release(entry);
      else staying.push(entry);
    }
    for (const peer of come) staying.push(this.#entry(peer));
    this.#entries = staying.sort(bySubnet);
  }
}
