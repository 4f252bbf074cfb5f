// The Store contract: what the API server needs of a durable, revisioned key-value store, in etcd's terms (one global
// revision, compare-and-swap on a key's last revision, watch from a revision, compaction). Every driver passes the same
// suite in test/contract/store. Values are opaque text; the store never looks inside them.
import { PodwireError } from '../lib/errors.ts';

export type StoreErrorCode =
  | 'EXISTS'
  | 'NOT_FOUND'
  | 'CONFLICT'
  | 'COMPACTED'
  | 'FUTURE_REVISION'
  | 'CLOSED'
  | 'IO';

/** A refusal of the store. Callers branch on `code`. */
export class StoreError extends PodwireError {
  constructor(code: StoreErrorCode, message: string, options?: ErrorOptions) {
    super(code, message, options);
  }
}

/** One version of one key. Never changes once made, except for `decoded`. */
export interface StoreEntry {
  readonly key: string;
  readonly value: string;
  /** Revision that created the key (etcd create_revision). */
  readonly createRevision: number;
  /** Revision that wrote this version (etcd mod_revision). */
  readonly revision: number;
  /** A place for the reader to keep its decoded form, so that a version is decoded at most once. */
  decoded?: unknown;
}

/** One change. A delete has no `entry`; `previous` is the version that went away. */
export interface StoreEvent {
  readonly key: string;
  readonly revision: number;
  readonly entry: StoreEntry | undefined;
  readonly previous: StoreEntry | undefined;
}

export interface ListOptions {
  /** At most so many entries; 0 or absent means all. */
  limit?: number;
  /** Only keys after this one: the last key of the page before. */
  after?: string;
  /** The state as it was right after this revision; absent means now. */
  revision?: number;
}

export interface StoreList {
  entries: StoreEntry[];
  /** The revision this list shows. */
  revision: number;
  /** How many more entries there are behind a limit. */
  remaining: number;
}

export interface StoreWatch {
  close(): void;
}

export interface Store {
  /** The newest durable version. */
  get(key: string): Promise<StoreEntry | undefined>;
  /** The newest accepted version, durable or not yet: the one a compare-and-swap must name. Not for answering readers. */
  getForUpdate(key: string): Promise<StoreEntry | undefined>;
  list(prefix: string, options?: ListOptions): Promise<StoreList>;
  /** EXISTS if the key is there. Resolves once durable, as all writes do. */
  create(key: string, value: string, decoded?: unknown): Promise<StoreEntry>;
  /** NOT_FOUND, or CONFLICT if the key's last revision is another. */
  update(key: string, value: string, expectedRevision: number, decoded?: unknown): Promise<StoreEntry>;
  /** NOT_FOUND, or CONFLICT. Resolves with the delete's own event. */
  delete(key: string, expectedRevision?: number): Promise<StoreEvent>;
  /**
   * Calls the listener with every change below the prefix after `fromRevision`, in order, a batch at a time; what is
   * already past is delivered before this returns. Throws COMPACTED if that history is gone.
   */
  watch(prefix: string, fromRevision: number, listener: (events: readonly StoreEvent[]) => void): StoreWatch;
  /** Resolves once this revision is durable; rejects with IO if it never will be. */
  durable(revision: number): Promise<void>;
  /** The newest durable revision. */
  revision(): number;
  /** History up to and including this revision is gone. */
  compactedRevision(): number;
  /** Forgets history up to and including `revision`; current versions stay. */
  compact(revision: number): Promise<void>;
  /** Why the last write could not be made durable; undefined while all is well. */
  problem(): string | undefined;
  /** Waits for writes under way, then releases the storage. */
  close(): Promise<void>;
}
