// The scheduler against an API in memory: binds on the event, reports what does not fit, tries again when it may.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RESOURCE } from '../../../src/client/resources.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { Scheduler } from '../../../src/scheduler/scheduler.ts';
import { eventually, FakeApi } from '../../harness/fake-api.ts';
import { makeNode, makePod } from './objects.ts';

async function started(api: FakeApi): Promise<Scheduler> {
  const scheduler = new Scheduler({ client: api.client(), log: silentLogger() });
  await scheduler.start();
  return scheduler;
}

const nodeOf = (api: FakeApi, name: string) => api.find(RESOURCE.pods, name, 'default')?.spec?.nodeName;

test('pods that are there and pods that come are spread and bound, with an Event', async () => {
  const api = new FakeApi();
  for (const name of ['a', 'b', 'c']) api.put(RESOURCE.nodes, makeNode(name));
  for (const name of ['p0', 'p1']) api.put(RESOURCE.pods, makePod(name, { owner: 'rs' }));
  api.put(RESOURCE.pods, makePod('foreign', { schedulerName: 'other' }));
  api.put(RESOURCE.pods, makePod('gated', { schedulingGates: [{ name: 'g' }] }));
  const scheduler = await started(api);
  api.put(RESOURCE.pods, makePod('p2', { owner: 'rs' }));
  const nodes = await eventually(() => {
    const found = ['p0', 'p1', 'p2'].map(name => nodeOf(api, name));
    return found.every(Boolean) && found;
  }, 'three bindings');
  assert.equal(new Set(nodes).size, 3);
  await scheduler.stop();
  assert.equal(nodeOf(api, 'foreign'), undefined);
  assert.equal(nodeOf(api, 'gated'), undefined);
  const messages = api.all(RESOURCE.events).map(event => `${event.reason} ${event.message}`);
  assert.ok(messages.includes(`Scheduled Successfully assigned default/p0 to ${nodes[0]}`));
});

test('what does not fit gets a condition and an Event, and a node when room appears', async () => {
  const api = new FakeApi();
  api.put(RESOURCE.nodes, makeNode('small', { cpu: '1' }));
  const scheduler = await started(api);
  api.put(RESOURCE.pods, makePod('big', { requests: { cpu: '2' } }));
  const condition = await eventually(
    () => api.find(RESOURCE.pods, 'big', 'default')?.status?.conditions?.[0],
    'a condition',
  );
  const text = '0/1 nodes are available: 1 Insufficient cpu.';
  assert.deepEqual(
    [condition.type, condition.status, condition.reason, condition.message],
    ['PodScheduled', 'False', 'Unschedulable', text],
  );
  await eventually(() => api.all(RESOURCE.events).some(event => event.message === text), 'the Event');
  api.put(RESOURCE.nodes, makeNode('large', { cpu: '4' }));
  assert.equal(await eventually(() => nodeOf(api, 'big'), 'a binding'), 'large');
  await scheduler.stop();
});

test('a pod that ends makes room for one that waits', async () => {
  const api = new FakeApi();
  api.put(RESOURCE.nodes, makeNode('only', { cpu: '1' }));
  api.put(RESOURCE.pods, makePod('first', { requests: { cpu: '1' }, nodeName: 'only' }));
  const scheduler = await started(api);
  api.put(RESOURCE.pods, makePod('second', { requests: { cpu: '1' } }));
  await eventually(() => api.find(RESOURCE.pods, 'second', 'default')?.status?.conditions, 'refused');
  const first = api.find(RESOURCE.pods, 'first', 'default');
  assert.ok(first);
  api.put(RESOURCE.pods, { ...first, status: { phase: 'Succeeded' } });
  assert.equal(await eventually(() => nodeOf(api, 'second'), 'a binding'), 'only');
  await scheduler.stop();
});

test('a refused binding is taken back and tried again', async () => {
  const api = new FakeApi();
  api.put(RESOURCE.nodes, makeNode('a'));
  let refusals = 0;
  api.intercept = request => {
    if (request.path.endsWith('/binding') && refusals++ < 1) throw new Error('broken');
  };
  const scheduler = await started(api);
  api.put(RESOURCE.pods, makePod('p'));
  assert.equal(await eventually(() => nodeOf(api, 'p'), 'a binding'), 'a');
  assert.equal(refusals, 2);
  await scheduler.stop();
});

test('a thousand pods on a hundred nodes, none overcommitted', async () => {
  const api = new FakeApi();
  for (let i = 0; i < 100; i++) api.put(RESOURCE.nodes, makeNode(`n${i}`, { cpu: '10' }));
  for (let i = 0; i < 1000; i++) api.put(RESOURCE.pods, makePod(`p${i}`, { requests: { cpu: '1' } }));
  const scheduler = await started(api);
  await eventually(() => api.all(RESOURCE.pods).every(pod => pod.spec?.nodeName), 'all bound', 20_000);
  const counts = new Map<string, number>();
  for (const pod of api.all(RESOURCE.pods)) {
    const name = pod.spec?.nodeName ?? '';
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  assert.ok([...counts.values()].every(count => count === 10));
  await scheduler.stop();
});
