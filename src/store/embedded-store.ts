// The store that lives in this process: the whole current state and recent history in memory, made durable by a journal.
//
//   write ──decide (CAS against accepted state)──▶ queue ──one batch at a time──▶ journal (fsync) ──▶ committed state,
//                                                                                                     watchers, caller
//
// Group commit needs no timer: while one batch is being synced the next one gathers. Readers and watchers see only what
// is durable; a compare-and-swap sees what was accepted before it. If a batch fails, everything accepted since fails too,
// because it may build on it.

import { errorMessage } from '../lib/errors.ts';
import { History } from './history.ts';
import type { Journal, JournalContents, JournalRecord } from './journal.ts';
import { SortedEntries } from './sorted-entries.ts';
import {
  type ListOptions,
  type Store,
  type StoreEntry,
  StoreError,
  type StoreEvent,
  type StoreList,
  type StoreWatch,
} from './store.ts';

/** Changes kept in memory for watchers and paged lists. */
export const HISTORY_EVENTS = 10_000;

interface PendingWrite {
  event: StoreEvent;
  resolve: (event: StoreEvent) => void;
  reject: (error: Error) => void;
}

interface Watcher {
  prefix: string;
  listener: (events: readonly StoreEvent[]) => void;
}

export class EmbeddedStore implements Store {
  readonly #journal: Journal;
  readonly #entries = new SortedEntries();
  readonly #history: History;
  /** Accepted but not yet durable, by key; undefined stands for deleted. */
  readonly #accepted = new Map<string, StoreEntry | undefined>();
  readonly #watchers = new Set<Watcher>();
  #queue: PendingWrite[] = [];
  #committed: number;
  #assigned: number;
  #flushing: Promise<void> | undefined;
  #closed = false;
  #problem: string | undefined;

  constructor(journal: Journal, contents: JournalContents, historyEvents = HISTORY_EVENTS) {
    this.#journal = journal;
    this.#committed = contents.revision;
    this.#assigned = contents.revision;
    this.#entries.load(contents.entries);
    const first = contents.history[0];
    this.#history = new History(
      first ? Math.max(contents.compactedRevision, first.revision - 1) : contents.revision,
      historyEvents,
    );
    this.#history.push(restoreEvents(contents, this.#entries));
  }

  async get(key: string): Promise<StoreEntry | undefined> {
    return this.#entries.get(key);
  }

  async getForUpdate(key: string): Promise<StoreEntry | undefined> {
    return this.#latest(key);
  }

  async list(prefix: string, options: ListOptions = {}): Promise<StoreList> {
    const revision = options.revision ?? this.#committed;
    if (revision > this.#committed)
      throw new StoreError(
        'FUTURE_REVISION',
        `revision ${revision} is in the future; the newest is ${this.#committed}`,
      );
    let entries = this.#entries.range(prefix, options.after);
    if (revision < this.#committed) entries = this.#history.undo(entries, prefix, revision, options.after);
    const limit = options.limit ?? 0;
    const remaining = limit > 0 ? Math.max(0, entries.length - limit) : 0;
    return { entries: remaining > 0 ? entries.slice(0, limit) : entries, revision, remaining };
  }

  async create(key: string, value: string, decoded?: unknown): Promise<StoreEntry> {
    if (this.#latest(key)) throw new StoreError('EXISTS', `create ${key}: the key exists`);
    const revision = this.#assigned + 1;
    const entry: StoreEntry = { key, value, createRevision: revision, revision, decoded };
    await this.#write({ key, revision, entry, previous: undefined });
    return entry;
  }

  async update(key: string, value: string, expectedRevision: number, decoded?: unknown): Promise<StoreEntry> {
    const previous = this.#expect('update', key, expectedRevision);
    const revision = this.#assigned + 1;
    const entry: StoreEntry = { key, value, createRevision: previous.createRevision, revision, decoded };
    await this.#write({ key, revision, entry, previous });
    return entry;
  }

  async delete(key: string, expectedRevision?: number): Promise<StoreEvent> {
    const previous = this.#expect('delete', key, expectedRevision);
    return this.#write({ key, revision: this.#assigned + 1, entry: undefined, previous });
  }

  watch(prefix: string, fromRevision: number, listener: Watcher['listener']): StoreWatch {
    if (fromRevision > this.#committed)
      throw new StoreError(
        'FUTURE_REVISION',
        `revision ${fromRevision} is in the future; the newest is ${this.#committed}`,
      );
    const past = this.#history.since(fromRevision).filter(event => event.key.startsWith(prefix));
    if (past.length > 0) listener(past);
    const watcher: Watcher = { prefix, listener };
    this.#watchers.add(watcher);
    return { close: () => void this.#watchers.delete(watcher) };
  }

  async durable(revision: number): Promise<void> {
    while (this.#committed < revision && this.#flushing) await this.#flushing;
    if (this.#committed < revision)
      throw new StoreError('IO', `revision ${revision} was not written; the newest is ${this.#committed}`);
  }

  revision(): number {
    return this.#committed;
  }

  compactedRevision(): number {
    return this.#history.floor;
  }

  async compact(revision: number): Promise<void> {
    const upTo = Math.min(revision, this.#committed);
    this.#history.dropUpTo(upTo);
    await this.#journal.compact(upTo);
  }

  problem(): string | undefined {
    return this.#problem;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#watchers.clear();
    while (this.#flushing) await this.#flushing;
    await this.#journal.close();
  }

  #latest(key: string): StoreEntry | undefined {
    return this.#accepted.has(key) ? this.#accepted.get(key) : this.#entries.get(key);
  }

  #expect(verb: string, key: string, expectedRevision: number | undefined): StoreEntry {
    const latest = this.#latest(key);
    if (!latest) throw new StoreError('NOT_FOUND', `${verb} ${key}: no such key`);
    if (expectedRevision !== undefined && latest.revision !== expectedRevision)
      throw new StoreError(
        'CONFLICT',
        `${verb} ${key}: it is at revision ${latest.revision}, not ${expectedRevision}`,
      );
    return latest;
  }

  #write(event: StoreEvent): Promise<StoreEvent> {
    if (this.#closed)
      return Promise.reject(new StoreError('CLOSED', `write ${event.key}: the store is closed`));
    this.#assigned = event.revision;
    this.#accepted.set(event.key, event.entry);
    return new Promise((resolve, reject) => {
      this.#queue.push({ event, resolve, reject });
      // The turn of the event loop that brings the first write often brings more: let it finish.
      this.#flushing ??= new Promise<void>(done => setImmediate(done)).then(() => this.#flush());
    });
  }

  async #flush(): Promise<void> {
    while (this.#queue.length > 0) {
      const batch = this.#queue;
      this.#queue = [];
      try {
        await this.#journal.append(batch.map(write => recordOf(write.event)));
        this.#problem = undefined;
      } catch (cause) {
        this.#problem = errorMessage(cause);
        this.#fail([...batch, ...this.#queue], cause);
        continue;
      }
      this.#commit(batch);
    }
    this.#flushing = undefined;
  }

  #commit(batch: readonly PendingWrite[]): void {
    const events = batch.map(write => write.event);
    for (const event of events) {
      if (event.entry) this.#entries.set(event.entry);
      else this.#entries.delete(event.key);
      if (this.#accepted.get(event.key) === event.entry) this.#accepted.delete(event.key);
    }
    this.#committed = events[events.length - 1]!.revision;
    this.#history.push(events);
    for (const write of batch) write.resolve(write.event);
    for (const watcher of [...this.#watchers]) {
      const mine = events.filter(event => event.key.startsWith(watcher.prefix));
      if (mine.length > 0) watcher.listener(mine);
    }
  }

  #fail(writes: readonly PendingWrite[], cause: unknown): void {
    this.#queue = [];
    this.#accepted.clear();
    this.#assigned = this.#committed;
    for (const write of writes)
      write.reject(new StoreError('IO', `write ${write.event.key}: the journal refused it`, { cause }));
  }
}

function recordOf(event: StoreEvent): JournalRecord {
  return {
    revision: event.revision,
    key: event.key,
    value: event.entry?.value,
    createRevision: event.entry?.createRevision ?? event.previous?.createRevision ?? event.revision,
    previousRevision: event.previous?.revision,
  };
}

/** History rows as events that share their entries with each other and with the current state. */
function restoreEvents(contents: JournalContents, current: SortedEntries): StoreEvent[] {
  const last = new Map<string, StoreEntry | undefined>();
  return contents.history.map(row => {
    const { key, revision, createRevision } = row;
    let entry: StoreEntry | undefined;
    if (row.value !== undefined) {
      const now = current.get(key);
      entry = now?.revision === revision ? now : { key, value: row.value, createRevision, revision };
    }
    let previous = last.get(key);
    if (row.previousRevision === undefined) previous = undefined;
    else if (previous?.revision !== row.previousRevision && row.previousValue !== undefined)
      previous = {
        key,
        value: row.previousValue,
        createRevision: row.previousCreateRevision ?? createRevision,
        revision: row.previousRevision,
      };
    last.set(key, entry);
    return { key, revision, entry, previous };
  });
}
