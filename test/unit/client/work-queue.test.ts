// Each key once waiting, once in work, again if it changed meanwhile; failures later and later.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WorkQueue } from '../../../src/client/work-queue.ts';
import { FakeClock } from '../../harness/fake-clock.ts';

test('a key added many times is worked on once; added while in work, once more', async () => {
  const stop = new AbortController();
  const queue = new WorkQueue();
  const worked: string[] = [];
  for (let i = 0; i < 5; i++) queue.add('a');
  queue.add('b');
  assert.equal(queue.length, 2);
  let again = true;
  await queue.run(
    3,
    async key => {
      worked.push(key);
      if (key === 'a' && again) {
        again = false;
        queue.add('a');
        queue.add('a');
      }
      await Promise.resolve();
      if (worked.length === 3) stop.abort();
    },
    stop.signal,
  );
  assert.deepEqual(worked, ['a', 'b', 'a']);
});

test('one key is never in work twice at a time', async () => {
  const stop = new AbortController();
  const queue = new WorkQueue();
  let inWork = 0;
  let runs = 0;
  const running = queue.run(
    4,
    async () => {
      assert.equal(++inWork, 1);
      if (++runs < 5) queue.add('a');
      await new Promise(resolve => setTimeout(resolve, 1));
      inWork--;
      if (runs === 5) stop.abort();
    },
    stop.signal,
  );
  queue.add('a');
  await running;
  assert.equal(runs, 5);
});

test('failures back off exponentially per key; success starts afresh', async () => {
  const clock = new FakeClock();
  const stop = new AbortController();
  const queue = new WorkQueue({ clock });
  const times: number[] = [];
  const running = queue.run(
    1,
    async () => {
      times.push(clock.now());
      if (times.length < 5) throw new Error('not yet');
    },
    stop.signal,
  );
  queue.add('a');
  for (let i = 0; i < 100; i++) await clock.advance(1);
  assert.deepEqual(
    times.map(time => time - (times[0] as number)),
    [0, 5, 15, 35, 75],
  );
  assert.equal(queue.failuresOf('a'), 0);
  stop.abort();
  await running;
});

test('the bucket slows many failing keys together', () => {
  const clock = new FakeClock();
  const queue = new WorkQueue({ clock, burst: 2, perSecond: 10 });
  for (const key of ['a', 'b', 'c', 'd']) queue.addRateLimited(key);
  assert.deepEqual(clock.pending(), [5, 5, 100, 200]);
});

test('of two delays the shorter wins; requeueAfterMs is honoured', async () => {
  const clock = new FakeClock();
  const stop = new AbortController();
  const queue = new WorkQueue({ clock });
  const times: number[] = [];
  const start = clock.now();
  const running = queue.run(
    1,
    async () => {
      times.push(clock.now() - start);
      return times.length === 1 ? { requeueAfterMs: 30 } : undefined;
    },
    stop.signal,
  );
  queue.addAfter('a', 100);
  queue.addAfter('a', 10);
  queue.addAfter('a', 50);
  for (let i = 0; i < 12; i++) await clock.advance(10);
  assert.deepEqual(times, [10, 40]);
  stop.abort();
  await running;
});
