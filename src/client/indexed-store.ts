// Objects by `namespace/name`, and by the values of any number of indexes. The memory of an informer.
import type { KubeObject, Stored } from '../api/types.ts';
import { PodwireError } from '../lib/errors.ts';
import { keyOf } from './resources.ts';

interface Index<T extends KubeObject> {
  valuesOf(object: Stored<T>): readonly string[];
  entries: Map<string, Map<string, Stored<T>>>;
}

export class IndexedStore<T extends KubeObject> {
  readonly #objects = new Map<string, Stored<T>>();
  readonly #indexes = new Map<string, Index<T>>();

  get size(): number {
    return this.#objects.size;
  }

  get(key: string): Stored<T> | undefined {
    return this.#objects.get(key);
  }

  list(): Stored<T>[] {
    return [...this.#objects.values()];
  }

  /** Answers what was there before. */
  put(object: Stored<T>): Stored<T> | undefined {
    const key = keyOf(object);
    const previous = this.#objects.get(key);
    this.#objects.set(key, object);
    for (const index of this.#indexes.values()) {
      if (previous) unlink(index, key, previous);
      link(index, key, object);
    }
    return previous;
  }

  remove(key: string): Stored<T> | undefined {
    const previous = this.#objects.get(key);
    if (!previous) return undefined;
    this.#objects.delete(key);
    for (const index of this.#indexes.values()) unlink(index, key, previous);
    return previous;
  }

  addIndex(name: string, valuesOf: (object: Stored<T>) => readonly string[]): void {
    if (this.#indexes.has(name)) return;
    const index: Index<T> = { valuesOf, entries: new Map() };
    for (const [key, object] of this.#objects) link(index, key, object);
    this.#indexes.set(name, index);
  }

  byIndex(name: string, value: string): Stored<T>[] {
    const index = this.#indexes.get(name);
    if (!index) throw new PodwireError('NO_INDEX', `no index ${name}; call addIndex first`);
    return [...(index.entries.get(value)?.values() ?? [])];
  }
}

function link<T extends KubeObject>(index: Index<T>, key: string, object: Stored<T>): void {
  for (const value of index.valuesOf(object)) {
    const entry = index.entries.get(value);
    if (entry) entry.set(key, object);
    else index.entries.set(value, new Map([[key, object]]));
  }
}

function unlink<T extends KubeObject>(index: Index<T>, key: string, object: Stored<T>): void {
  for (const value of index.valuesOf(object)) {
    const entry = index.entries.get(value);
    entry?.delete(key);
    if (entry?.size === 0) index.entries.delete(value);
  }
}
