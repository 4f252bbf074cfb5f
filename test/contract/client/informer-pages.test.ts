// An informer that lists by pages and keeps a part of each object, against the real API server.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Informer } from '../../../src/client/informer.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { startControlPlane } from '../../harness/control-plane.ts';

test('pages are one list, and what is kept is what the transform leaves', async t => {
  const plane = await startControlPlane();
  t.after(() => plane.stop());
  const names = ['a', 'b', 'c', 'd', 'e'];
  for (const name of names)
    await plane.admin.create(RESOURCE.nodes, { metadata: { name, labels: { big: 'x'.repeat(60) } } });
  const informer = new Informer(plane.admin, RESOURCE.nodes, {
    pageSize: 2,
    transform: ({ apiVersion, kind, metadata: { name, uid, resourceVersion, annotations } }) => ({
      apiVersion,
      kind,
      metadata: { name, uid, resourceVersion, annotations },
    }),
  });
  t.after(() => informer.stop());
  const seen: string[] = [];
  informer.onChange(({ type, object }) => seen.push(`${type} ${object.metadata.name}`));
  informer.start();
  await informer.synced();
  assert.deepEqual(
    informer.list().map(node => node.metadata.name),
    names,
  );
  assert.ok(informer.list().every(node => node.kind === 'Node' && node.metadata.labels === undefined));
  await plane.admin.patch(RESOURCE.nodes, 'c', { metadata: { annotations: { k: 'v' } } }, { type: 'merge' });
  await plane.admin.delete(RESOURCE.nodes, 'd');
  const until = Date.now() + 5000;
  while (seen.length < 7 && Date.now() < until) await new Promise(resolve => setTimeout(resolve, 20));
  assert.deepEqual(seen, [...names.map(name => `added ${name}`), 'modified c', 'deleted d']);
  assert.equal(informer.get('c')?.metadata.annotations?.k, 'v');
});
