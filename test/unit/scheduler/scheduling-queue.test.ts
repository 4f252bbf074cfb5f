// The order of service, and who comes back when.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PLUGINS } from '../../../src/scheduler/plugin-table.ts';
import { viewPod } from '../../../src/scheduler/pod-view.ts';
import { SchedulingQueue } from '../../../src/scheduler/scheduling-queue.ts';
import { FakeClock } from '../../harness/fake-clock.ts';
import { makePod } from './objects.ts';

function setup() {
  const clock = new FakeClock();
  return { clock, queue: new SchedulingQueue(PLUGINS, clock, () => {}) };
}

const pod = (name: string, priority = 0) => viewPod(makePod(name, { priority }));

test('priority first, then age', async () => {
  const { clock, queue } = setup();
  for (const [name, priority] of [
    ['a', 0],
    ['b', 5],
    ['c', 0],
    ['d', 5],
    ['e', 9],
  ] as const) {
    queue.add(pod(name, priority));
    await clock.advance(1);
  }
  queue.remove('uid-d');
  const order = [];
  for (let next = queue.pop(); next; next = queue.pop()) order.push(next.view.pod.metadata.name);
  assert.deepEqual(order, ['e', 'b', 'a', 'c']);
});

test('only events that concern the refusing plugin bring a pod back, after its back-off', async () => {
  const { clock, queue } = setup();
  queue.add(pod('a'));
  const entry = queue.pop();
  assert.ok(entry);
  queue.putUnschedulable(entry, new Set(['TaintToleration']));
  queue.moveOn('pod-removed');
  assert.deepEqual(queue.sizes, { active: 0, backoff: 0, unschedulable: 1 });
  queue.moveOn('node-taints');
  assert.deepEqual(queue.sizes, { active: 0, backoff: 1, unschedulable: 0 });
  await clock.advance(1_000);
  assert.equal(queue.pop()?.attempts, 2);
});

test('nobody waits for ever: after five minutes without any event', async () => {
  const { clock, queue } = setup();
  queue.add(pod('a'));
  const entry = queue.pop();
  assert.ok(entry);
  queue.putUnschedulable(entry, new Set(['NodeName']));
  await clock.advance(5 * 60_000);
  assert.equal(queue.sizes.active, 1);
});

test('a change of the pod itself is tried at once', () => {
  const { queue } = setup();
  queue.add(pod('a'));
  const entry = queue.pop();
  assert.ok(entry);
  queue.putUnschedulable(entry, new Set(['NodeName']));
  queue.add(pod('a'));
  assert.equal(queue.sizes.active, 1);
  assert.equal(queue.pop()?.attempts, 2);
});
