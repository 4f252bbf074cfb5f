// The recent changes in memory: what a watch replays and what turns the present state back into an earlier one. Bounded
// by count; what falls out is as good as compacted for watchers.
import { type StoreEntry, StoreError, type StoreEvent } from './store.ts';

export class History {
  #events: StoreEvent[] = [];
  /** Changes up to and including this revision are not held any more. */
  #floor: number;
  readonly #capacity: number;

  constructor(floor: number, capacity: number) {
    this.#floor = floor;
    this.#capacity = capacity;
  }

  get floor(): number {
    return this.#floor;
  }

  push(events: readonly StoreEvent[]): void {
    for (const event of events) this.#events.push(event);
    // Trimming a quarter at a time keeps the cost per change constant.
    if (this.#events.length > this.#capacity * 1.25) this.#dropFirst(this.#events.length - this.#capacity);
  }

  dropUpTo(revision: number): void {
    this.#dropFirst(this.#indexAfter(revision));
    if (revision > this.#floor) this.#floor = revision;
  }

  /** Changes after `revision`, oldest first. */
  since(revision: number): StoreEvent[] {
    if (revision < this.#floor)
      throw new StoreError(
        'COMPACTED',
        `the history after revision ${revision} is gone; the oldest revision to watch from is ${this.#floor}`,
      );
    return this.#events.slice(this.#indexAfter(revision));
  }

  /** The entries below a prefix as they were right after `revision`, made by undoing what happened since. */
  undo(entries: readonly StoreEntry[], prefix: string, revision: number, after?: string): StoreEntry[] {
    const then = new Map<string, StoreEntry | undefined>();
    for (const event of this.since(revision).reverse())
      if (event.key.startsWith(prefix) && (after === undefined || event.key > after))
        then.set(event.key, event.previous);
    if (then.size === 0) return [...entries];
    const result = entries.filter(entry => !then.has(entry.key));
    for (const entry of then.values()) if (entry) result.push(entry);
    return result.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  }

  #dropFirst(count: number): void {
    if (count <= 0) return;
    this.#floor = this.#events[count - 1]!.revision;
    this.#events.splice(0, count);
  }

  #indexAfter(revision: number): number {
    let low = 0;
    let high = this.#events.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#events[middle]!.revision <= revision) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
