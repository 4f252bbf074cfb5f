// Housekeeping of the store: history older than a few minutes is compacted (as etcd's compactor does for Kubernetes), and
// Events live for an hour.
import { resourceOf } from '../api/resources.ts';
import type { CoreEvent, KubeObject } from '../api/types.ts';
import { errorMessage } from '../lib/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { Store } from '../store/store.ts';
import { decodeEntry } from './storage/object-codec.ts';

/** k8s.io/apiserver etcd3 compactInterval. */
const COMPACT_INTERVAL_MS = 300_000;
/** kube-apiserver --event-ttl. */
const EVENT_TTL_MS = 3_600_000;
/** So many changes are kept whatever their age, for watchers that come back. */
const KEEP_REVISIONS = 1_000;

export class Maintenance {
  readonly #store: Store;
  readonly #log: Logger;
  #timer: NodeJS.Timeout | undefined;
  /** The revision at the last round: all before it is older than one interval. */
  #marked = 0;

  constructor(store: Store, log: Logger) {
    this.#store = store;
    this.#log = log;
  }

  start(): void {
    this.#marked = this.#store.revision();
    this.#timer = setInterval(() => {
      this.round().catch((error: unknown) =>
        this.#log.warn({ error: errorMessage(error) }, 'store maintenance failed; it is tried again'),
      );
    }, COMPACT_INTERVAL_MS);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async round(now = Date.now()): Promise<void> {
    const upTo = Math.min(this.#marked, this.#store.revision() - KEEP_REVISIONS);
    this.#marked = this.#store.revision();
    if (upTo > this.#store.compactedRevision()) await this.#store.compact(upTo);
    await this.#expireEvents(now);
  }

  async #expireEvents(now: number): Promise<void> {
    const { entries } = await this.#store.list(resourceOf('v1', 'Event').storageKey('', ''));
    const expired = entries.filter(
      entry => now - lastSeen(decodeEntry(entry) as KubeObject as CoreEvent) > EVENT_TTL_MS,
    );
    // One that was counted up in the meantime stays: the revision tells.
    await Promise.allSettled(expired.map(entry => this.#store.delete(entry.key, entry.revision)));
  }
}

function lastSeen(event: CoreEvent): number {
  const times = [
    event.series?.lastObservedTime,
    event.lastTimestamp,
    event.eventTime,
    event.metadata?.creationTimestamp,
  ];
  const known = times.flatMap(time => (time ? [Date.parse(time)] : [])).filter(Number.isFinite);
  return known.length > 0 ? Math.max(...known) : Date.now();
}
