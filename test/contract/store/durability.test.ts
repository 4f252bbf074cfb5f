// What only a durable driver must do: keep everything acknowledged, across a restart and across kill -9.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openSqliteStore } from '../../../src/store/sqlite.ts';
import type { StoreEvent } from '../../../src/store/store.ts';

const directory = mkdtempSync(join(tmpdir(), 'podwire-store-'));
after(() => rmSync(directory, { recursive: true, force: true }));

test('a restart keeps state, revision and the history watchers resume from', async () => {
  const file = join(directory, 'restart.db');
  const first = openSqliteStore({ file });
  const a = await first.create('/r/a', '1');
  await first.create('/r/b', 'b');
  await first.update('/r/a', '2', a.revision);
  await first.delete('/r/b');
  await first.close();

  const second = openSqliteStore({ file });
  assert.equal(second.revision(), 4);
  assert.equal((await second.get('/r/a'))?.value, '2');
  assert.equal((await second.get('/r/a'))?.createRevision, 1);
  const seen: StoreEvent[] = [];
  second.watch('/r/', 1, events => seen.push(...events));
  assert.deepEqual(
    seen.map(event => [event.key, event.entry?.value, event.previous?.value]),
    [
      ['/r/b', 'b', undefined],
      ['/r/a', '2', '1'],
      ['/r/b', undefined, 'b'],
    ],
  );
  await second.compact(3);
  assert.equal((await second.create('/r/c', 'c')).revision, 5);
  await second.close();

  const third = openSqliteStore({ file });
  assert.throws(() => third.watch('/r/', 2, () => {}), { code: 'COMPACTED' });
  const after3: StoreEvent[] = [];
  third.watch('/r/', 3, events => after3.push(...events));
  assert.deepEqual(
    after3.map(event => [event.key, event.previous?.value]),
    [
      ['/r/b', 'b'],
      ['/r/c', undefined],
    ],
  );
  assert.equal((await third.list('/r/')).entries.length, 2);
  await third.close();
});

test('a second process is refused the same file', async () => {
  const file = join(directory, 'locked.db');
  const first = openSqliteStore({ file });
  await first.create('/r/a', '1');
  assert.throws(() => openSqliteStore({ file }), { code: 'IO' });
  await first.close();
});

test('power cut: kill -9 in a burst of writes loses nothing acknowledged', async () => {
  const file = join(directory, 'power-cut.db');
  let acknowledged = new Map<string, number>();
  for (let round = 0; round < 3; round++) {
    const child = spawn(
      process.execPath,
      [
        '--disable-warning=ExperimentalWarning',
        join(import.meta.dirname, 'burst-writer.ts'),
        file,
        String(round),
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let text = '';
    child.stdout.setEncoding('utf8');
    const exited = new Promise(resolve => child.once('close', resolve));
    await new Promise<void>(resolve => {
      child.stdout.on('data', chunk => {
        text += chunk;
        if (text.length > 8_000) {
          child.kill('SIGKILL');
          resolve();
        }
      });
      child.once('close', () => resolve());
    });
    await exited;
    const lines = text.split('\n').slice(0, -1);
    assert.ok(lines.length > 100, `the burst acknowledged only ${lines.length} writes`);
    acknowledged = new Map([
      ...acknowledged,
      ...lines.map(line => {
        const [key, revision] = line.split(' ');
        return [key!, Number(revision)] as const;
      }),
    ]);

    const store = openSqliteStore({ file });
    const found = new Map((await store.list('/')).entries.map(entry => [entry.key, entry.revision]));
    for (const [key, revision] of acknowledged)
      assert.equal(found.get(key), revision, `${key} was acknowledged at ${revision}`);
    assert.ok(store.revision() >= Math.max(...acknowledged.values()));
    await store.close();
  }
});
