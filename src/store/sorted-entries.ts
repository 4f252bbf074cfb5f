// The current versions in key order: a map for single keys beside a sorted key array for ranges. A flat array wins over
// a tree here: inserting moves 8 bytes a key (40 µs at 100,000 keys), and ranges are read far more often.
import type { StoreEntry } from './store.ts';

export class SortedEntries {
  #byKey = new Map<string, StoreEntry>();
  #keys: string[] = [];

  /** Takes entries that are already in key order. */
  load(entries: readonly StoreEntry[]): void {
    this.#byKey = new Map(entries.map(entry => [entry.key, entry]));
    this.#keys = entries.map(entry => entry.key);
  }

  get(key: string): StoreEntry | undefined {
    return this.#byKey.get(key);
  }

  set(entry: StoreEntry): void {
    if (!this.#byKey.has(entry.key)) this.#keys.splice(this.#firstAtOrAfter(entry.key), 0, entry.key);
    this.#byKey.set(entry.key, entry);
  }

  delete(key: string): void {
    if (this.#byKey.delete(key)) this.#keys.splice(this.#firstAtOrAfter(key), 1);
  }

  /** All entries below the prefix whose key is greater than `after`, in key order. */
  range(prefix: string, after?: string): StoreEntry[] {
    const found: StoreEntry[] = [];
    const from = after !== undefined && after > prefix ? after : prefix;
    for (let index = this.#firstAtOrAfter(from); index < this.#keys.length; index++) {
      const key = this.#keys[index]!;
      if (!key.startsWith(prefix)) break;
      if (after !== undefined && key <= after) continue;
      found.push(this.#byKey.get(key)!);
    }
    return found;
  }

  get size(): number {
    return this.#keys.length;
  }

  #firstAtOrAfter(key: string): number {
    let low = 0;
    let high = this.#keys.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#keys[middle]! < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
