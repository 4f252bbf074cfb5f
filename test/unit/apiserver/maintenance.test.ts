import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Maintenance } from '../../../src/apiserver/maintenance.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';

const event = (lastTimestamp: string) =>
  JSON.stringify({ apiVersion: 'v1', kind: 'Event', metadata: { name: 'e' }, lastTimestamp });

test('events live an hour; history is compacted two rounds late and never below what watchers may need', async () => {
  const store = createMemoryStore();
  const now = Date.parse('2026-01-01T12:00:00Z');
  await store.create('/registry/events/default/old', event('2026-01-01T10:59:00Z'));
  await store.create('/registry/events/default/young', event('2026-01-01T11:30:00Z'));
  const maintenance = new Maintenance(store, silentLogger());
  await maintenance.round(now);
  const left = (await store.list('/registry/events/')).entries.map(entry => entry.key);
  assert.deepEqual(left, ['/registry/events/default/young']);
  for (let n = 0; n < 1_500; n++) await store.create(`/registry/configmaps/default/c${n}`, '{}');
  await maintenance.round(now);
  assert.equal(store.compactedRevision(), 2, 'what was there a round ago');
  await maintenance.round(now);
  assert.equal(store.compactedRevision(), store.revision() - 1_000);
  await store.close();
});
