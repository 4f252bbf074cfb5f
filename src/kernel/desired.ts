// What all rooms together want: their fragments, merged under keys, and which keys changed since the last look.
// A planner that keeps the objects of what did not change (the same references) costs a pointer comparison for each
// of them and real work only for what changed. Pure.
import {
  chainObject,
  emptyMaps,
  isAsWanted,
  jumpObject,
  KINDS,
  type Kind,
  keyOf,
  linksOf,
  type ObjectMaps,
  type ObjectTypes,
} from './objects.ts';
import { type KernelState, type LinkState, ROUTE_PROTOCOL, type XtablesTableState } from './state.ts';

/** One list of a fragment, or of one of its tables. */
interface Part {
  kind: Kind;
  items: readonly object[];
  /** The object that the reconciler works with, marked as the room's. */
  object: (index: number) => ObjectTypes[Kind];
}

interface Claim {
  room: string;
  object: ObjectTypes[Kind];
}

/** Two rooms want the same object differently. */
export interface Conflict {
  kind: Kind;
  key: string;
  /** Whose wish is done: the room named first. */
  winner: string;
  loser: string;
}

export type DirtyKeys = Map<Kind, Set<string>>;

/** The protocol number that marks what a room makes; rooms without a number leave no mark. */
export function markOf(room: string): number | undefined {
  return (ROUTE_PROTOCOL as Readonly<Record<string, number>>)[room];
}

export function aliasOf(room: string): string {
  return `podwire:${room}`;
}

export class DesiredIndex {
  /** The objects in force. */
  readonly objects: ObjectMaps = emptyMaps();
  /** How many desired objects need each link. */
  readonly linkUses = new Map<string, number>();
  /** Protocol numbers of all routes ever desired here. */
  readonly routeProtocols = new Set<number>();
  readonly #order: string[];
  readonly #parts = new Map<string, Map<string, Part>>();
  readonly #claims = new Map<Kind, Map<string, Claim[]>>(KINDS.map(kind => [kind, new Map()]));
  readonly #prefixes = new Map<string, Set<string>>();
  readonly #conflicts = new Map<string, Conflict>();
  #dirty: DirtyKeys = new Map();

  /** `rooms` in order of precedence; others come after them. */
  constructor(rooms: readonly string[] = []) {
    this.#order = [...rooms];
  }

  get conflicts(): Conflict[] {
    return [...this.#conflicts.values()];
  }

  /** Tables that hold chains, jumps or owned names of ours, as `4 nat`. */
  get tables(): Set<string> {
    return new Set(this.#prefixes.keys());
  }

  /** True for chain names that a planner declared to be its own. */
  ownsChain(family: 4 | 6, table: string, name: string): boolean {
    for (const prefix of this.#prefixes.get(`${family} ${table}`) ?? [])
      if (name.startsWith(prefix)) return true;
    return false;
  }

  /** What changed since the last call. */
  takeDirty(): DirtyKeys {
    const dirty = this.#dirty;
    this.#dirty = new Map();
    return dirty;
  }

  get isDirty(): boolean {
    return this.#dirty.size > 0;
  }

  /** Whether this object became dirty after the last takeDirty(). */
  isDirtyKey(kind: Kind, key: string): boolean {
    return this.#dirty.get(kind)?.has(key) === true;
  }

  /** The rooms that want this object. */
  roomsOf(kind: Kind, key: string): string[] {
    return (this.#claims.get(kind)?.get(key) ?? []).map(claim => claim.room);
  }

  /** Replaces what `room` wanted. */
  update(room: string, fragment: KernelState): void {
    if (!this.#order.includes(room)) this.#order.push(room);
    const before = this.#parts.get(room) ?? new Map<string, Part>();
    const after = this.#split(room, fragment);
    for (const [scope, part] of before) if (!after.has(scope)) this.#replace(room, part, undefined);
    for (const [scope, part] of after) this.#replace(room, before.get(scope), part);
    this.#parts.set(room, after);
  }

  #split(room: string, f: KernelState): Map<string, Part> {
    const parts = new Map<string, Part>();
    const mark = markOf(room);
    const add = <T extends object>(
      scope: string,
      kind: Kind,
      items: readonly T[] | undefined,
      object: (item: T, index: number) => ObjectTypes[Kind],
    ): void => {
      if (items !== undefined && items.length > 0)
        parts.set(scope, { kind, items, object: index => object(items[index]!, index) });
    };
    const marked = <T extends { protocol?: number }>(item: T): T =>
      mark === undefined || item.protocol !== undefined ? item : { ...item, protocol: mark };
    add('links', 'link', f.links, link => markLink(link, room));
    add('addresses', 'address', f.addresses, marked);
    add('nexthops', 'nexthop', f.nexthops, marked);
    add('routes', 'route', f.routes, route => route);
    add('rules', 'rule', f.rules, marked);
    add('neighbours', 'neighbour', f.neighbours, marked);
    add('fdb', 'fdb', f.fdb, entry => entry);
    add('sysctls', 'sysctl', f.sysctls, sysctl => sysctl);
    add('features', 'feature', f.features, feature => feature);
    for (const table of f.xtables ?? []) {
      const scope = `${table.family} ${table.table}`;
      this.#learnPrefixes(scope, table);
      add(`chains ${scope}`, 'chain', table.chains, chain => chainObject(table, chain));
      add(`jumps ${scope}`, 'jump', table.jumps, (_, index) => jumpObject(table, index));
    }
    return parts;
  }

  #learnPrefixes(scope: string, table: XtablesTableState): void {
    let prefixes = this.#prefixes.get(scope);
    if (prefixes === undefined) {
      prefixes = new Set();
      this.#prefixes.set(scope, prefixes);
    }
    for (const prefix of table.ownedPrefixes ?? []) prefixes.add(prefix);
  }

  /** Lists are compared from both ends by reference; only what lies between is looked at. */
  #replace(room: string, before: Part | undefined, after: Part | undefined): void {
    const kind = (after ?? before)!.kind;
    const old = before?.items ?? [];
    const now = after?.items ?? [];
    if (old === now) return;
    let start = 0;
    while (start < old.length && start < now.length && old[start] === now[start]) start++;
    let oldEnd = old.length;
    let nowEnd = now.length;
    while (oldEnd > start && nowEnd > start && old[oldEnd - 1] === now[nowEnd - 1]) {
      oldEnd--;
      nowEnd--;
    }
    const gone = new Map<string, object>();
    for (let i = start; i < oldEnd; i++) {
      const object = before!.object(i);
      gone.set(keyOf(kind, object as never), old[i]!);
    }
    for (let i = start; i < nowEnd; i++) {
      const object = after!.object(i);
      const key = keyOf(kind, object as never);
      const same = gone.get(key) === now[i];
      gone.delete(key);
      if (!same) this.#claim(kind, key, room, object);
    }
    for (const key of gone.keys()) this.#release(kind, key, room);
  }

  #claim(kind: Kind, key: string, room: string, object: ObjectTypes[Kind]): void {
    const all = this.#claims.get(kind)!;
    const others = all.get(key)?.filter(claim => claim.room !== room) ?? [];
    const claims = [...others, { room, object }];
    if (others.length > 0) claims.sort((a, b) => this.#order.indexOf(a.room) - this.#order.indexOf(b.room));
    all.set(key, claims);
    this.#settle(kind, key, claims);
  }

  #release(kind: Kind, key: string, room: string): void {
    const all = this.#claims.get(kind)!;
    const claims = (all.get(key) ?? []).filter(claim => claim.room !== room);
    if (claims.length > 0) all.set(key, claims);
    else all.delete(key);
    this.#settle(kind, key, claims);
  }

  #settle(kind: Kind, key: string, claims: readonly Claim[]): void {
    const map = this.objects[kind] as Map<string, ObjectTypes[Kind]>;
    const before = map.get(key);
    const [first] = claims;
    if (this.#conflicts.size > 0 || claims.length > 1) this.#findConflict(kind, key, claims);
    if (before === first?.object) return;
    if (before !== undefined) this.#count(kind, before, -1);
    if (first === undefined) map.delete(key);
    else {
      map.set(key, first.object);
      if (kind === 'route') this.routeProtocols.add((first.object as ObjectTypes['route']).protocol);
      this.#count(kind, first.object, 1);
    }
    let keys = this.#dirty.get(kind);
    if (keys === undefined) {
      keys = new Set();
      this.#dirty.set(kind, keys);
    }
    keys.add(key);
  }

  #findConflict(kind: Kind, key: string, claims: readonly Claim[]): void {
    const [first, ...others] = claims;
    const name = `${kind} ${key}`;
    const other = others.find(claim => !isAsWanted(kind, first!.object as never, claim.object as never));
    if (first === undefined || other === undefined) this.#conflicts.delete(name);
    else this.#conflicts.set(name, { kind, key, winner: first.room, loser: other.room });
  }

  #count(kind: Kind, object: ObjectTypes[Kind], by: number): void {
    for (const link of linksOf(kind, object as never)) {
      const uses = (this.linkUses.get(link) ?? 0) + by;
      if (uses > 0) this.linkUses.set(link, uses);
      else this.linkUses.delete(link);
    }
  }
}

/** A link somebody else made gets no mark: what is marked is ours to delete. */
function markLink(link: LinkState, room: string): LinkState {
  if (link.kind !== 'existing') return link.alias === undefined ? { ...link, alias: aliasOf(room) } : link;
  if (link.alias === undefined) return link;
  const { alias: _, ...rest } = link;
  return rest;
}
