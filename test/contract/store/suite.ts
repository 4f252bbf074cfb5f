// What every store driver must do: the same cases are run against each of them.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Store, StoreEvent } from '../../../src/store/store.ts';

export function storeContract(name: string, open: () => Promise<Store> | Store): void {
  const withStore = (title: string, body: (store: Store) => Promise<void>) =>
    test(title, async () => {
      const store = await open();
      try {
        await body(store);
      } finally {
        await store.close();
      }
    });
  const refuses = (promise: Promise<unknown>, code: string) =>
    assert.rejects(promise, (error: { code?: string }) => error.code === code);

  describe(`store contract: ${name}`, () => {
    withStore('one revision counts all changes, a key remembers its own', async store => {
      assert.equal(store.revision(), 0);
      const a = await store.create('/r/a', 'a1');
      const b = await store.create('/r/b', 'b1');
      const a2 = await store.update('/r/a', 'a2', a.revision);
      assert.deepEqual([a.revision, b.revision, a2.revision, a2.createRevision], [1, 2, 3, 1]);
      assert.equal((await store.get('/r/a'))?.value, 'a2');
      const gone = await store.delete('/r/a', 3);
      assert.equal(gone.revision, 4);
      assert.equal(gone.previous?.value, 'a2');
      assert.equal(await store.get('/r/a'), undefined);
      assert.equal(store.revision(), 4);
    });

    withStore('refuses a second create, a stale update, a missing key', async store => {
      const entry = await store.create('/r/a', '1');
      await refuses(store.create('/r/a', '2'), 'EXISTS');
      await store.update('/r/a', '2', entry.revision);
      await refuses(store.update('/r/a', '3', entry.revision), 'CONFLICT');
      await refuses(store.update('/r/none', '3', 1), 'NOT_FOUND');
      await refuses(store.delete('/r/a', entry.revision), 'CONFLICT');
      await refuses(store.delete('/r/none'), 'NOT_FOUND');
      await store.delete('/r/a');
      assert.equal((await store.create('/r/a', 'again')).createRevision, 4);
    });

    withStore('of many concurrent updates from one revision exactly one wins', async store => {
      const entry = await store.create('/r/a', '0');
      const results = await Promise.allSettled(
        Array.from({ length: 20 }, (_, index) => store.update('/r/a', String(index), entry.revision)),
      );
      assert.equal(results.filter(result => result.status === 'fulfilled').length, 1);
    });

    withStore('getForUpdate sees what was accepted, get only what is durable', async store => {
      const pending = store.create('/r/a', '1');
      const latest = await store.getForUpdate('/r/a');
      assert.equal(latest?.value, '1');
      const next = store.update('/r/a', '2', latest!.revision);
      await Promise.all([pending, next]);
      assert.equal((await store.get('/r/a'))?.value, '2');
    });

    withStore('durable waits for what is accepted and refuses what is not', async store => {
      const pending = store.create('/r/a', '1');
      const latest = await store.getForUpdate('/r/a');
      await store.durable(latest!.revision);
      assert.equal((await store.get('/r/a'))?.value, '1');
      await pending;
      await refuses(store.durable(99), 'IO');
    });

    withStore('lists a prefix in key order, in pages, at an old revision', async store => {
      for (const key of ['/r/c', '/r/a', '/r/b', '/s/a']) await store.create(key, key);
      const first = await store.list('/r/', { limit: 2 });
      assert.deepEqual(
        first.entries.map(entry => entry.key),
        ['/r/a', '/r/b'],
      );
      assert.equal(first.remaining, 1);
      await store.delete('/r/c');
      await store.create('/r/bb', 'new');
      await store.update('/r/a', 'changed', first.entries[0]!.revision);
      const second = await store.list('/r/', { after: '/r/b', revision: first.revision });
      assert.deepEqual(
        second.entries.map(entry => entry.key),
        ['/r/c'],
      );
      const old = await store.list('/r/', { revision: first.revision });
      assert.deepEqual(
        old.entries.map(entry => entry.value),
        ['/r/a', '/r/b', '/r/c'],
      );
      assert.equal((await store.list('/none/')).entries.length, 0);
      await refuses(store.list('/r/', { revision: 99 }), 'FUTURE_REVISION');
    });

    withStore('watch replays history after a revision, then follows, and stops when closed', async store => {
      const a = await store.create('/r/a', '1');
      await store.update('/r/a', '2', a.revision);
      await store.create('/s/other', 'x');
      const seen: StoreEvent[] = [];
      const watch = store.watch('/r/', a.revision, events => seen.push(...events));
      await store.create('/r/b', '1');
      await store.delete('/r/a');
      watch.close();
      await store.create('/r/c', '1');
      assert.deepEqual(
        seen.map(event => [event.key, event.revision, event.entry?.value, event.previous?.value]),
        [
          ['/r/a', 2, '2', '1'],
          ['/r/b', 4, '1', undefined],
          ['/r/a', 5, undefined, '2'],
        ],
      );
    });

    withStore('every watcher sees every change once, in order, under concurrent writers', async store => {
      const seen: number[] = [];
      store.watch('/', 0, events => seen.push(...events.map(event => event.revision)));
      await Promise.all(
        Array.from({ length: 10 }, async (_, writer) => {
          for (let n = 0; n < 10; n++) await store.create(`/r/${writer}/${n}`, 'x');
        }),
      );
      assert.deepEqual(
        seen,
        Array.from({ length: 100 }, (_, index) => index + 1),
      );
    });

    withStore('compaction forgets history and keeps the present', async store => {
      let entry = await store.create('/r/a', '0');
      await store.create('/r/b', 'b');
      for (let n = 1; n <= 5; n++) entry = await store.update('/r/a', String(n), entry.revision);
      await store.compact(5);
      assert.equal(store.compactedRevision(), 5);
      assert.throws(() => store.watch('/r/', 4, () => {}), { code: 'COMPACTED' });
      await refuses(store.list('/r/', { revision: 3 }), 'COMPACTED');
      const seen: StoreEvent[] = [];
      store.watch('/r/', 5, events => seen.push(...events)).close();
      assert.deepEqual(
        seen.map(event => event.entry?.value),
        ['4', '5'],
      );
      assert.deepEqual(
        (await store.list('/r/')).entries.map(each => each.value),
        ['5', 'b'],
      );
      assert.throws(() => store.watch('/r/', 1_000, () => {}), { code: 'FUTURE_REVISION' });
    });

    withStore('a closed store refuses writes', async store => {
      await store.create('/r/a', '1');
      await store.close();
      await refuses(store.create('/r/b', '1'), 'CLOSED');
    });
  });
}
