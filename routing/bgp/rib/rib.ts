// The routing table of one family: all paths of all sources (Adj-RIB-In, RFC 4271 section 3.2) and which one is chosen
// (Loc-RIB). Paths are rows of typed arrays, linked per net: half a million of them are some ten arrays for the
// collector and not as many objects. The decision itself is decision/decide.ts; this file only keeps and tells.
import type { Cidr } from '../../../src/lib/cidr.ts';
import type { Family } from '../packet/context.ts';
import type { AttributeEntry, AttributeStore } from './attribute-store.ts';
import { PrefixTable } from './prefix-table.ts';

/** Row flags. */
export const PATH_FLAG = {
  /** Kept over a restart of its peer, until refreshed or swept (RFC 4724 section 4.2). */
  STALE: 1,
  /** Refused by import: kept so that a policy change needs no route refresh, never chosen. */
  REFUSED: 2,
} as const;

export const NONE = -1;
const INITIAL_ROWS = 128;

export class Rib {
  readonly family: Family;
  readonly nets: PrefixTable;
  readonly store: AttributeStore;
  /** Rows by path number. `received` is before import policy, `entry` after it. */
  next = new Int32Array(INITIAL_ROWS);
  netOf = new Int32Array(INITIAL_ROWS);
  source = new Uint16Array(INITIAL_ROWS);
  pathId = new Uint32Array(INITIAL_ROWS);
  flags = new Uint8Array(INITIAL_ROWS);
  entry: (AttributeEntry | undefined)[] = [];
  received: (AttributeEntry | undefined)[] = [];
  /** By net: the first path, and the chosen one. */
  head: Int32Array;
  best: Int32Array;
  /** Paths by source index. */
  readonly counts: number[] = [];
  /** Paths in the table. */
  size = 0;
  #rows = 0;
  #freeRow = NONE;
  #dirty: Uint8Array;
  #changed: number[] = [];
  #onDirty: () => void;

  /** `onDirty` is called when the first net since the last takeChanged has changed. */
  constructor(family: Family, store: AttributeStore, onDirty: () => void) {
    this.family = family;
    this.store = store;
    this.nets = new PrefixTable(family);
    this.head = new Int32Array(this.nets.capacity).fill(NONE);
    this.best = new Int32Array(this.nets.capacity).fill(NONE);
    this.#dirty = new Uint8Array(this.nets.capacity);
    this.#onDirty = onDirty;
  }

  /** The net of a prefix; makes it, so a path should follow. */
  net(words: Uint32Array, at: number, length: number): number {
    const net = this.nets.intern(words, at, length);
    if (net >= this.head.length) this.#growNets();
    return net;
  }

  netOfCidr(cidr: Cidr): number {
    const net = this.nets.internCidr(cidr);
    if (net >= this.head.length) this.#growNets();
    return net;
  }

  /** The path of a source to a net, or NONE. */
  findPath(net: number, source: number, pathId: number): number {
    for (let path = this.head[net]!; path !== NONE; path = this.next[path]!)
      if (this.source[path] === source && this.pathId[path] === pathId) return path;
    return NONE;
  }

  /**
   * Adds or replaces the path of a source. `entry` undefined means import refused it. Answers true when something
   * changed; the same attributes again only take the stale mark away.
   */
  update(
    net: number,
    source: number,
    pathId: number,
    received: AttributeEntry,
    entry: AttributeEntry | undefined,
  ): boolean {
    const flags = entry === undefined ? PATH_FLAG.REFUSED : 0;
    const kept = entry ?? received;
    let path = this.findPath(net, source, pathId);
    if (path !== NONE) {
      const same = this.received[path] === received && this.entry[path] === kept;
      const wasRefused = (this.flags[path]! & PATH_FLAG.REFUSED) !== 0;
      this.flags[path] = flags;
      if (same && wasRefused === (entry === undefined)) return false;
      received.references++;
      kept.references++;
      this.#releaseEntries(path);
    } else {
      path = this.#newRow();
      this.netOf[path] = net;
      this.source[path] = source;
      this.pathId[path] = pathId;
      this.flags[path] = flags;
      this.next[path] = this.head[net]!;
      this.head[net] = path;
      this.counts[source] = (this.counts[source] ?? 0) + 1;
      this.size++;
      received.references++;
      kept.references++;
    }
    this.received[path] = received;
    this.entry[path] = kept;
    this.touch(net);
    return true;
  }

  /** Removes the path of a source; false when there is none. */
  withdraw(net: number, source: number, pathId: number): boolean {
    let previous = NONE;
    for (let path = this.head[net]!; path !== NONE; previous = path, path = this.next[path]!) {
      if (this.source[path] !== source || this.pathId[path] !== pathId) continue;
      this.#unlink(net, path, previous);
      return true;
    }
    return false;
  }

  /** Removes every path of a source that `doomed` accepts (all when absent); answers how many. */
  removeSource(source: number, doomed?: (path: number) => boolean): number {
    let removed = 0;
    for (let path = 0; path < this.#rows; path++) {
      if (this.entry[path] === undefined || this.source[path] !== source) continue;
      if (doomed !== undefined && !doomed(path)) continue;
      const net = this.netOf[path]!;
      let previous = NONE;
      for (let at = this.head[net]!; at !== path; at = this.next[at]!) previous = at;
      this.#unlink(net, path, previous);
      removed++;
    }
    return removed;
  }

  /** RFC 4724 section 4.2: the peer went down and may come back; its paths stay in use until refreshed or swept. */
  markStale(source: number): number {
    let marked = 0;
    this.forEachPath(path => {
      if (this.source[path] !== source) return;
      this.flags[path]! |= PATH_FLAG.STALE;
      marked++;
    });
    return marked;
  }

  sweepStale(source: number): number {
    return this.removeSource(source, path => (this.flags[path]! & PATH_FLAG.STALE) !== 0);
  }

  /** Replaces what import made of a path, after a policy change. */
  setImported(path: number, entry: AttributeEntry | undefined): void {
    const kept = entry ?? this.received[path]!;
    const flags = (this.flags[path]! & ~PATH_FLAG.REFUSED) | (entry === undefined ? PATH_FLAG.REFUSED : 0);
    if (this.entry[path] === kept && this.flags[path] === flags) return;
    kept.references++;
    this.store.release(this.entry[path]!);
    this.entry[path] = kept;
    this.flags[path] = flags;
    this.touch(this.netOf[path]!);
  }

  forEachPath(visit: (path: number) => void): void {
    for (let path = 0; path < this.#rows; path++) if (this.entry[path] !== undefined) visit(path);
  }

  /** Path numbers of a net. */
  pathsOf(net: number): number[] {
    const paths: number[] = [];
    for (let path = this.head[net]!; path !== NONE; path = this.next[path]!) paths.push(path);
    return paths;
  }

  /** Marks a net for the decision process. */
  touch(net: number): void {
    if (this.#dirty[net] !== 0) return;
    this.#dirty[net] = 1;
    if (this.#changed.push(net) === 1) this.#onDirty();
  }

  /** The nets touched since the last call; they are clean again. */
  takeChanged(): readonly number[] {
    const changed = this.#changed;
    this.#changed = [];
    for (const net of changed) this.#dirty[net] = 0;
    return changed;
  }

  /** Gives nets without paths back. Nothing may be advertised for them any more. */
  releaseEmpty(nets: readonly number[]): void {
    for (const net of nets)
      if (this.head[net] === NONE && this.nets.has(net) && this.#dirty[net] === 0) {
        this.best[net] = NONE;
        this.nets.release(net);
      }
  }

  #unlink(net: number, path: number, previous: number): void {
    if (previous === NONE) this.head[net] = this.next[path]!;
    else this.next[previous] = this.next[path]!;
    if (this.best[net] === path) this.best[net] = NONE;
    this.#releaseEntries(path);
    this.entry[path] = undefined;
    this.received[path] = undefined;
    this.counts[this.source[path]!]!--;
    this.size--;
    this.next[path] = this.#freeRow;
    this.#freeRow = path;
    this.touch(net);
  }

  #releaseEntries(path: number): void {
    this.store.release(this.received[path]!);
    this.store.release(this.entry[path]!);
  }

  #newRow(): number {
    if (this.#freeRow !== NONE) {
      const row = this.#freeRow;
      this.#freeRow = this.next[row]!;
      return row;
    }
    const row = this.#rows++;
    if (row >= this.next.length) {
      this.next = doubled(this.next, new Int32Array(row * 2));
      this.netOf = doubled(this.netOf, new Int32Array(row * 2));
      this.source = doubled(this.source, new Uint16Array(row * 2));
      this.pathId = doubled(this.pathId, new Uint32Array(row * 2));
      this.flags = doubled(this.flags, new Uint8Array(row * 2));
    }
    this.entry.push(undefined);
    this.received.push(undefined);
    return row;
  }

  #growNets(): void {
    const { capacity } = this.nets;
    const from = this.head.length;
    this.head = doubled(this.head, new Int32Array(capacity));
    this.best = doubled(this.best, new Int32Array(capacity));
    this.#dirty = doubled(this.#dirty, new Uint8Array(capacity));
    this.head.fill(NONE, from);
    this.best.fill(NONE, from);
  }
}

function doubled<T extends Int32Array | Uint32Array | Uint16Array | Uint8Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
