// Pods that wait for a node, in three places:
//   active         ready to be tried, by priority, then by the time they came
//   backoff        tried in vain and worth another try, after 10 ms, 20 ms, … 10 s
//   unschedulable  tried in vain; an event that a refusing plugin cares about brings them back, at the latest 5 minutes
// Source: kube-scheduler internal/queue PriorityQueue.
import { backoffMs } from '../lib/backoff.ts';
import type { Clock } from '../lib/clock.ts';
import type { ClusterEvent, PluginTable } from './framework.ts';
import type { PodView } from './pod-view.ts';

export interface QueuedPod {
  view: PodView;
  /** When it first came, for the order within one priority and for the latency metric. */
  addedMs: number;
  attempts: number;
  lastTriedMs: number;
  rejectedBy: ReadonlySet<string>;
}

/**
 * kube-scheduler starts at 1 s. Here a pod only comes back when something that concerns it has happened, so the first
 * tries may be quick: a cluster that is starting must not wait a second for its first node.
 */
const BACKOFF = { baseMs: 10, maxMs: 10_000, jitter: 0 };
const FLUSH_AFTER_MS = 5 * 60_000;

export class SchedulingQueue {
  readonly #clock: Clock;
  readonly #interest: ReadonlyMap<string, ReadonlySet<ClusterEvent>>;
  readonly #onReady: () => void;
  readonly #active: QueuedPod[] = [];
  readonly #activeUids = new Set<string>();
  readonly #backoff = new Map<string, { entry: QueuedPod; cancel: () => void }>();
  readonly #unschedulable = new Map<string, { entry: QueuedPod; cancel: () => void }>();

  /** `onReady` is called whenever a pod enters the active queue. */
  constructor(table: PluginTable, clock: Clock, onReady: () => void) {
    this.#clock = clock;
    this.#onReady = onReady;
    this.#interest = new Map(table.filters.map(plugin => [plugin.name, new Set(plugin.requeueOn)]));
  }

  get sizes(): { active: number; backoff: number; unschedulable: number } {
    return {
      active: this.#active.length,
      backoff: this.#backoff.size,
      unschedulable: this.#unschedulable.size,
    };
  }

  /** A pod that needs a node, new or changed. A change of the pod itself is always worth a try. */
  add(view: PodView): void {
    const entry = this.remove(view.uid);
    const now = this.#clock.now();
    this.#activate(
      entry ? { ...entry, view } : { view, addedMs: now, attempts: 0, lastTriedMs: 0, rejectedBy: new Set() },
    );
  }

  /** Only replaces what is known of a waiting pod (its status changed), without another try. */
  refresh(view: PodView): void {
    for (const waiting of [this.#backoff.get(view.uid), this.#unschedulable.get(view.uid)])
      if (waiting) waiting.entry.view = view;
    if (!this.#activeUids.has(view.uid)) return;
    const active = this.#active.find(entry => entry.view.uid === view.uid);
    if (active) active.view = view;
  }

  remove(uid: string): QueuedPod | undefined {
    for (const place of [this.#backoff, this.#unschedulable]) {
      const waiting = place.get(uid);
      if (!waiting) continue;
      waiting.cancel();
      place.delete(uid);
      return waiting.entry;
    }
    if (!this.#activeUids.delete(uid)) return undefined;
    return removeAt(
      this.#active,
      this.#active.findIndex(entry => entry.view.uid === uid),
    );
  }

  pop(): QueuedPod | undefined {
    const entry = removeAt(this.#active, 0);
    if (!entry) return undefined;
    this.#activeUids.delete(entry.view.uid);
    entry.attempts++;
    entry.lastTriedMs = this.#clock.now();
    return entry;
  }

  /** No node fits. */
  putUnschedulable(entry: QueuedPod, rejectedBy: ReadonlySet<string>): void {
    const { uid } = entry.view;
    entry.rejectedBy = rejectedBy;
    const cancel = this.#clock.after(FLUSH_AFTER_MS, () => {
      this.#unschedulable.delete(uid);
      this.#activate(entry);
    });
    this.#unschedulable.set(uid, { entry, cancel });
  }

  /** Something outside the pod failed (the binding): try again after its back-off. */
  putBackoff(entry: QueuedPod): void {
    const { uid } = entry.view;
    const waitMs =
      entry.lastTriedMs + backoffMs(BACKOFF, Math.max(0, entry.attempts - 1)) - this.#clock.now();
    if (waitMs <= 0) {
      this.#activate(entry);
      return;
    }
    const cancel = this.#clock.after(waitMs, () => {
      this.#backoff.delete(uid);
      this.#activate(entry);
    });
    this.#backoff.set(uid, { entry, cancel });
  }

  /** Brings back those for whom `event` may have changed the answer. */
  moveOn(event: ClusterEvent): void {
    for (const [uid, { entry, cancel }] of [...this.#unschedulable]) {
      if (!this.#concerns(entry, event)) continue;
      cancel();
      this.#unschedulable.delete(uid);
      this.putBackoff(entry);
    }
  }

  /** Cancels all timers. */
  close(): void {
    for (const place of [this.#backoff, this.#unschedulable]) {
      for (const { cancel } of place.values()) cancel();
      place.clear();
    }
    this.#active.length = 0;
    this.#activeUids.clear();
  }

  #concerns(entry: QueuedPod, event: ClusterEvent): boolean {
    if (entry.rejectedBy.size === 0) return true;
    for (const plugin of entry.rejectedBy) if (this.#interest.get(plugin)?.has(event)) return true;
    return false;
  }

  #activate(entry: QueuedPod): void {
    push(this.#active, entry);
    this.#activeUids.add(entry.view.uid);
    this.#onReady();
  }
}

function before(a: QueuedPod, b: QueuedPod): boolean {
  if (a.view.priority !== b.view.priority) return a.view.priority > b.view.priority;
  return a.addedMs < b.addedMs;
}

/** Binary heap over an array; the first is served first. */
function push(heap: QueuedPod[], entry: QueuedPod): void {
  heap.push(entry);
  siftUp(heap, heap.length - 1);
}

function removeAt(heap: QueuedPod[], at: number): QueuedPod | undefined {
  const removed = heap[at];
  const last = heap.pop();
  if (removed === undefined || last === undefined || removed === last) return removed;
  heap[at] = last;
  siftUp(heap, at);
  siftDown(heap, at);
  return removed;
}

function swap(heap: QueuedPod[], a: number, b: number): void {
  const entry = heap[a] as QueuedPod;
  heap[a] = heap[b] as QueuedPod;
  heap[b] = entry;
}

function siftUp(heap: QueuedPod[], start: number): void {
  for (let at = start; at > 0; ) {
    const parent = (at - 1) >> 1;
    if (!before(heap[at] as QueuedPod, heap[parent] as QueuedPod)) return;
    swap(heap, at, parent);
    at = parent;
  }
}

function siftDown(heap: QueuedPod[], start: number): void {
  for (let at = start; ; ) {
    const left = at * 2 + 1;
    const right = left + 1;
    let first = at;
    if (left < heap.length && before(heap[left] as QueuedPod, heap[first] as QueuedPod)) first = left;
    if (right < heap.length && before(heap[right] as QueuedPod, heap[first] as QueuedPod)) first = right;
    if (first === at) return;
    swap(heap, at, first);
    at = first;
  }
}
