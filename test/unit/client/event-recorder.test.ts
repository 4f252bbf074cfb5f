// Events: repeats are counted, storms are cut, nothing ever throws.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '../../../src/api/types.ts';
import { EventRecorder } from '../../../src/client/event-recorder.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { FakeApi } from '../../harness/fake-api.ts';

const pod: Pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p', namespace: 'ns', uid: 'u' } };

test('the same event again counts up', async () => {
  const api = new FakeApi();
  const recorder = new EventRecorder({ client: api.client(), component: 'test', host: 'node-1' });
  for (let i = 0; i < 3; i++) recorder.event(pod, 'Normal', 'Started', 'container a');
  recorder.event(pod, 'Warning', 'Failed', 'container b');
  await recorder.flush();
  const events = api.all(RESOURCE.events);
  assert.deepEqual(
    events.map(({ reason, type, message, count }) => [reason, type, message, count]),
    [
      ['Started', 'Normal', 'container a', 3],
      ['Failed', 'Warning', 'container b', 1],
    ],
  );
  assert.deepEqual(events[0]?.involvedObject, {
    apiVersion: 'v1',
    kind: 'Pod',
    name: 'p',
    namespace: 'ns',
    uid: 'u',
  });
  assert.deepEqual(events[0]?.source, { component: 'test', host: 'node-1' });
});

test('many similar ones are combined, then cut', async () => {
  const api = new FakeApi();
  const recorder = new EventRecorder({ client: api.client(), component: 'test' });
  for (let i = 0; i < 100; i++) recorder.event(pod, 'Warning', 'Failed', `attempt ${i}`);
  await recorder.flush();
  const messages = api.all(RESOURCE.events).map(event => event.message ?? '');
  assert.equal(messages.filter(message => message.startsWith('(combined')).length, 15);
  assert.equal(messages.length, 25);
});

test('a server that refuses does not disturb', async () => {
  const api = new FakeApi();
  api.intercept = () => {
    throw Object.assign(new Error('no'), { status: 403 });
  };
  const recorder = new EventRecorder({ client: api.client(), component: 'test' });
  recorder.event(pod, 'Normal', 'A', 'b');
  await recorder.flush();
});

test('what every node sees is written by one of them', async () => {
  const api = new FakeApi();
  const recorders = Array.from(
    { length: 50 },
    (_, n) => new EventRecorder({ client: api.client(), component: 'test', host: `node-${n}` }),
  );
  const node = { apiVersion: 'v1', kind: 'Node', metadata: { name: 'bad', uid: 'u1' } };
  const tell = async (uid: string, message: string): Promise<void> => {
    for (const recorder of recorders)
      recorder.event({ ...node, metadata: { name: 'bad', uid } }, 'Warning', 'BadData', message, {
        shared: true,
      });
    await Promise.all(recorders.map(recorder => recorder.flush()));
  };
  await tell('u1', 'is not JSON');
  await tell('u1', 'is not JSON');
  await tell('u1', 'has no MAC');
  // Deleted and made again: another node, and news again.
  await tell('u2', 'is not JSON');
  const events = api.all(RESOURCE.events);
  assert.deepEqual(
    events.map(({ involvedObject, message, count }) => [involvedObject.uid, message, count]),
    [
      ['u1', 'is not JSON', 1],
      ['u1', 'has no MAC', 1],
      ['u2', 'is not JSON', 1],
    ],
  );
  assert.ok(events.every(({ metadata }) => /^bad\.[0-9a-f]{16}$/.test(metadata.name)));
});
