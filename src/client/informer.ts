// A local copy of one resource, kept current: list, then watch from the list's resourceVersion, for as long as it takes.
//
//   list ──▶ diff against the copy (added, modified, deleted) ──▶ watch ──▶ events, bookmarks move resourceVersion
//    ▲                                                              │
//    └── 410 Expired, or anything the watch could not express ◀─────┴── ended, idle, broken: watch again from there
//
// No change is lost: what was deleted while no watch ran is found by the diff of the next list. While the API server is
// away the copy stays as it is and the informer tries on with growing pauses. Source: client-go tools/cache Reflector.
import type { KubeList, KubeObject, Stored } from '../api/types.ts';
import { Backoff } from '../lib/backoff.ts';
import { sleep } from '../lib/clock.ts';
import { errorMessage } from '../lib/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { KubeClient } from './client.ts';
import { IndexedStore } from './indexed-store.ts';
import type { TypedRef } from './resources.ts';
import { keyOf } from './resources.ts';
import { isExpired } from './status.ts';
import type { WatchEvent } from './watch-stream.ts';

export interface Change<T extends KubeObject> {
  type: 'added' | 'modified' | 'deleted';
  object: Stored<T>;
  /** What the copy held before; for `deleted` found by a relist, `object` itself is the last state seen. */
  previous?: Stored<T>;
}

export interface InformerOptions {
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  /** Hands every object to the handlers again this often (`previous` is the object itself); default never. */
  resyncMs?: number;
  /** Silence of the watch that means the peer is gone. */
  idleMs?: number;
  /** Lists by so many at once, from the store: for who must stay small beside a large cluster. */
  pageSize?: number;
  log?: Logger;
}

export interface TransformingOptions<T extends KubeObject> extends InformerOptions {
  /** What of an object is kept; name, uid and resourceVersion must be. */
  transform?: (object: Stored<T>) => Stored<T>;
  /**
   * What of an object stays in the copy, as above, while handlers still get it whole as it arrives: for who keeps
   * what he needs himself. `previous`, deletions found by a list, and handlers that come late have only this.
   */
  keep?: (object: Stored<T>) => Stored<T>;
}

/** Fast first tries (a cluster that is starting), then patient ones (a server that is away). */
const RETRY = { baseMs: 25, maxMs: 10_000, factor: 1.7, jitter: 0.5 };

/** A watch that lived this long was no failure, even if nothing happened in it. */
const HEALTHY_WATCH_MS = 5_000;

export class Informer<T extends KubeObject> {
  readonly ref: TypedRef<T>;
  readonly #client: KubeClient;
  readonly #options: TransformingOptions<T>;
  readonly #store = new IndexedStore<T>();
  readonly #handlers = new Set<(change: Change<T>) => void>();
  readonly #backoff = new Backoff(RETRY);
  #resourceVersion: string | undefined;
  #synced = Promise.withResolvers<void>();
  #hasSynced = false;
  #healthySinceMs: number | undefined;
  #stop: AbortController | undefined;
  #running: Promise<void> | undefined;
  #resync: NodeJS.Timeout | undefined;

  constructor(client: KubeClient, ref: TypedRef<T>, options: TransformingOptions<T> = {}) {
    this.#client = client;
    this.ref = ref;
    this.#options = options;
    this.#synced.promise.catch(() => {});
  }

  /**
   * Every change, in order, synchronously with the change of the copy. A handler that comes late first gets all that is
   * there as `added`. The answer takes the handler off again.
   */
  onChange(handler: (change: Change<T>) => void): () => void {
    const own = (change: Change<T>): void => handler(change);
    this.#handlers.add(own);
    for (const object of this.#store.list()) this.#call(own, { type: 'added', object });
    return () => this.#handlers.delete(own);
  }

  get(name: string, namespace?: string): Stored<T> | undefined {
    return this.#store.get(namespace ? `${namespace}/${name}` : name);
  }

  /** By `namespace/name` (keyOf). */
  getByKey(key: string): Stored<T> | undefined {
    return this.#store.get(key);
  }

  list(): Stored<T>[] {
    return this.#store.list();
  }

  get size(): number {
    return this.#store.size;
  }

  /** `fn` names the values under which an object is found by byIndex. May be added at any time; a name only once. */
  addIndex(name: string, fn: (object: Stored<T>) => readonly string[]): void {
    this.#store.addIndex(name, fn);
  }

  byIndex(name: string, value: string): Stored<T>[] {
    return this.#store.byIndex(name, value);
  }

  /** True once the first list is in the copy. */
  hasSynced(): boolean {
    return this.#hasSynced;
  }

  /**
   * Since when (epoch) changes have been arriving without a break; undefined while the server cannot be heard.
   * Whoever concludes something from silence must not count the time before.
   */
  get healthySinceMs(): number | undefined {
    return this.#healthySinceMs;
  }

  /** Resolves with the first list; rejects when `signal` aborts or the informer stops before. */
  async synced(signal?: AbortSignal): Promise<void> {
    if (this.#hasSynced) return;
    signal?.throwIfAborted();
    if (!signal) return this.#synced.promise;
    const aborted = Promise.withResolvers<void>();
    const onAbort = (): void => aborted.reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await Promise.race([this.#synced.promise, aborted.promise]);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Starts once; further calls do nothing. */
  start(signal?: AbortSignal): void {
    if (this.#stop) return;
    const stop = new AbortController();
    this.#stop = stop;
    if (signal?.aborted) stop.abort();
    else signal?.addEventListener('abort', () => stop.abort(), { once: true });
    const { resyncMs } = this.#options;
    if (resyncMs) {
      this.#resync = setInterval(() => this.#resyncAll(), resyncMs);
      this.#resync.unref();
    }
    this.#running = this.#run(stop.signal).finally(() => {
      clearInterval(this.#resync);
      this.#synced.reject(new Error(`informer of ${this.ref.plural} was stopped`));
    });
  }

  /** Resolves when the watch is closed. The copy stays readable. */
  async stop(): Promise<void> {
    this.#stop?.abort();
    await this.#running;
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (this.#resourceVersion === undefined) await this.#relist(signal);
        await this.#watch(signal);
      } catch (error) {
        this.#healthySinceMs = undefined;
        if (signal.aborted) return;
        if (isExpired(error)) {
          this.#options.log?.info({ resource: this.ref.plural }, 'watch is too old, listing again');
          this.#resourceVersion = undefined;
          // The first answer to 410 is immediate; a server that keeps saying it gets the back-off.
          if (this.#backoff.failures === 0) {
            this.#backoff.nextMs();
            continue;
          }
        }
        const waitMs = this.#backoff.nextMs();
        this.#options.log?.debug(
          { resource: this.ref.plural, waitMs, error: errorMessage(error) },
          'watch broke',
        );
        await sleep(waitMs, signal);
      }
    }
  }

  async #relist(signal: AbortSignal): Promise<void> {
    const { namespace, labelSelector, fieldSelector, pageSize } = this.#options;
    // "0" is answered from the server's cache, whole; after a 410 only the present state will do.
    const resourceVersion = this.#hasSynced || pageSize !== undefined ? undefined : '0';
    const seen = new Set<string>();
    let list: KubeList<T> | undefined;
    do {
      list = await this.#client.list(this.ref, {
        namespace,
        labelSelector,
        fieldSelector,
        resourceVersion,
        limit: pageSize,
        continue: list?.metadata.continue,
        signal,
        retries: 0,
      });
      const kind = list.kind?.replace(/List$/, '') || this.ref.kind;
      for (const object of list.items ?? []) {
        // Built-in types come without them inside a list.
        object.apiVersion ??= list.apiVersion;
        object.kind ??= kind;
        seen.add(keyOf(object));
        this.#put(object);
      }
    } while (list.metadata.continue);
    for (const object of this.#store.list()) if (!seen.has(keyOf(object))) this.#remove(object);
    this.#resourceVersion = list.metadata.resourceVersion;
    if (!this.#hasSynced) {
      this.#hasSynced = true;
      this.#synced.resolve();
    }
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const { namespace, labelSelector, fieldSelector, idleMs } = this.#options;
    const events = this.#client.watch(this.ref, {
      namespace,
      labelSelector,
      fieldSelector,
      idleMs,
      resourceVersion: this.#resourceVersion,
      signal,
      onOpen: () => {
        this.#healthySinceMs ??= Date.now();
      },
    });
    const startedAt = Date.now();
    let count = 0;
    try {
      for await (const event of events) {
        count++;
        this.#backoff.reset();
        this.#apply(event);
      }
    } finally {
      if (Date.now() - startedAt > HEALTHY_WATCH_MS) this.#backoff.reset();
    }
    // A server that accepts watches and closes them at once must not be asked in a tight loop.
    if (count === 0 && Date.now() - startedAt < 1_000) await sleep(this.#backoff.nextMs(), signal);
  }

  #apply(event: WatchEvent<T>): void {
    const { object } = event;
    if (event.type === 'DELETED') {
      this.#remove(object);
    } else if (event.type !== 'BOOKMARK') {
      object.kind ??= this.ref.kind;
      this.#put(object);
    }
    this.#resourceVersion = object.metadata.resourceVersion;
  }

  #put(whole: Stored<T>): void {
    const object = this.#options.transform?.(whole) ?? whole;
    const previous = this.#store.put(this.#options.keep?.(object) ?? object);
    if (previous?.metadata.resourceVersion === object.metadata.resourceVersion) return;
    if (previous && previous.metadata.uid !== object.metadata.uid) {
      // Deleted and made again while nobody watched: two changes, or owners by uid would never hear of the first.
      this.#emit({ type: 'deleted', object: previous, previous });
      this.#emit({ type: 'added', object });
      return;
    }
    this.#emit(previous ? { type: 'modified', object, previous } : { type: 'added', object });
  }

  #remove(object: Stored<T>): void {
    const previous = this.#store.remove(keyOf(object));
    if (previous) this.#emit({ type: 'deleted', object, previous });
  }

  #resyncAll(): void {
    for (const object of this.#store.list()) this.#emit({ type: 'modified', object, previous: object });
  }

  #emit(change: Change<T>): void {
    for (const handler of this.#handlers) this.#call(handler, change);
  }

  #call(handler: (change: Change<T>) => void, change: Change<T>): void {
    try {
      handler(change);
    } catch (error) {
      this.#options.log?.error(
        { resource: this.ref.plural, object: keyOf(change.object), error },
        'handler failed',
      );
    }
  }
}
