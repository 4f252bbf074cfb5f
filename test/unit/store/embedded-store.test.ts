import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EmbeddedStore } from '../../../src/store/embedded-store.ts';
import type { JournalRecord } from '../../../src/store/journal.ts';
import { SortedEntries } from '../../../src/store/sorted-entries.ts';

const EMPTY = { revision: 0, compactedRevision: 0, entries: [], history: [] };

/** A journal that is told when to finish, and how. */
class SteeredJournal {
  batches: (readonly JournalRecord[])[] = [];
  #waiting: { resolve: () => void; reject: (error: Error) => void }[] = [];

  append(batch: readonly JournalRecord[]): Promise<void> {
    this.batches.push(batch);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  async finish(error?: Error): Promise<void> {
    while (this.#waiting.length === 0) await new Promise(resolve => setImmediate(resolve));
    const { resolve, reject } = this.#waiting.shift()!;
    if (error) reject(error);
    else resolve();
  }

  async compact(): Promise<void> {}
  async close(): Promise<void> {}
}

test('writes of one turn share a batch, those that come during a sync share the next', async () => {
  const journal = new SteeredJournal();
  const store = new EmbeddedStore(journal, EMPTY);
  const first = [store.create('/a', '1'), store.create('/b', '1')];
  await new Promise(resolve => setImmediate(resolve));
  const second = [store.create('/c', '1'), store.create('/d', '1'), store.create('/e', '1')];
  assert.equal(await store.get('/a'), undefined, 'not durable, not seen');
  assert.equal(store.revision(), 0);
  await journal.finish();
  await Promise.all(first);
  assert.equal(store.revision(), 2);
  await journal.finish();
  await Promise.all(second);
  assert.deepEqual(
    journal.batches.map(batch => batch.length),
    [2, 3],
  );
});

test('a batch that fails takes down what was built on it, and nothing else', async () => {
  const journal = new SteeredJournal();
  const store = new EmbeddedStore(journal, EMPTY);
  const settled = store.create('/a', '1');
  await journal.finish();
  const { revision } = await settled;
  const failing = store.update('/a', '2', revision);
  await new Promise(resolve => setImmediate(resolve));
  const builtOnIt = store.update('/a', '3', revision + 1);
  const other = store.create('/b', '1');
  const outcome = Promise.allSettled([failing, builtOnIt, other]);
  await journal.finish(new Error('disk full'));
  for (const result of await outcome) {
    assert.equal(result.status, 'rejected');
    assert.equal((result as PromiseRejectedResult).reason.code, 'IO');
  }
  assert.equal(store.problem(), 'disk full');
  assert.equal((await store.get('/a'))?.value, '1');
  const again = store.update('/a', '4', revision);
  await journal.finish();
  assert.equal((await again).revision, revision + 1);
  assert.equal(store.problem(), undefined);
});

test('ranges of a sorted map, with and without a start', () => {
  const entries = new SortedEntries();
  const keys = ['/a/1', '/a/2', '/a/3', '/ab/1', '/b/1'];
  for (const key of [...keys].reverse()) entries.set({ key, value: '', createRevision: 1, revision: 1 });
  const range = (prefix: string, after?: string) => entries.range(prefix, after).map(entry => entry.key);
  assert.deepEqual(range('/'), keys);
  assert.deepEqual(range('/a/'), keys.slice(0, 3));
  assert.deepEqual(range('/a/', '/a/1'), keys.slice(1, 3));
  assert.deepEqual(range('/a/', '/a/15'), keys.slice(1, 3));
  assert.deepEqual(range('/c'), []);
  entries.delete('/a/2');
  entries.delete('/none');
  assert.deepEqual(range('/a/'), ['/a/1', '/a/3']);
  assert.equal(entries.size, 4);
});
