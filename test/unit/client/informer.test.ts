// The informer's promises: no change lost, whatever happens to the watch or the server.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ConfigMap } from '../../../src/api/types.ts';
import { type Change, Informer } from '../../../src/client/informer.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { eventually, FakeApi } from '../../harness/fake-api.ts';

function map(name: string, value = '1'): ConfigMap {
  return { metadata: { name, namespace: 'default', labels: { v: value } }, data: { value } };
}

function setup(api = new FakeApi()) {
  const informer = new Informer(api.client(), RESOURCE.configMaps);
  const seen: string[] = [];
  informer.onChange((change: Change<ConfigMap>) => {
    seen.push(`${change.type} ${change.object.metadata.name}`);
  });
  return { api, informer, seen };
}

test('list, then watch: added, modified, deleted, with the state before', async () => {
  const { api, informer } = setup();
  api.put(RESOURCE.configMaps, map('a'));
  const changes: Change<ConfigMap>[] = [];
  informer.onChange(change => changes.push(change));
  informer.start();
  await informer.synced();
  assert.equal(informer.get('a', 'default')?.kind, 'ConfigMap');
  api.put(RESOURCE.configMaps, map('a', '2'));
  api.put(RESOURCE.configMaps, map('b'));
  api.remove(RESOURCE.configMaps, 'a', 'default');
  await eventually(() => changes.length === 4, 'four changes');
  assert.deepEqual(
    changes.map(({ type, object, previous }) => [type, object.data?.value, previous?.data?.value]),
    [
      ['added', '1', undefined],
      ['modified', '2', '1'],
      ['added', '1', undefined],
      ['deleted', '2', '2'],
    ],
  );
  assert.deepEqual(
    informer.list().map(object => object.metadata.name),
    ['b'],
  );
  await informer.stop();
  assert.equal(api.watchCount, 0);
});

test('after 410 the next list finds what was deleted and what was made again meanwhile', async () => {
  const { api, informer, seen } = setup();
  for (const name of ['gone', 'again', 'same']) api.put(RESOURCE.configMaps, map(name));
  informer.start();
  await informer.synced();
  await eventually(() => api.watchCount === 1, 'a watch');
  seen.length = 0;
  let away = true;
  api.intercept = () => {
    if (away) throw Object.assign(new Error('refused'), { code: 'ECONNREFUSED' });
  };
  api.cutWatches();
  api.remove(RESOURCE.configMaps, 'gone', 'default');
  api.remove(RESOURCE.configMaps, 'again', 'default');
  api.put(RESOURCE.configMaps, map('again'));
  api.compact();
  await new Promise(resolve => setTimeout(resolve, 100));
  assert.deepEqual(seen, []);
  assert.equal(informer.list().length, 3);
  away = false;
  await eventually(() => seen.length >= 3, 'the differences');
  assert.deepEqual(seen.sort(), ['added again', 'deleted again', 'deleted gone']);
  await informer.stop();
});

test('starts while the server is away', async () => {
  const { api, informer } = setup();
  api.put(RESOURCE.configMaps, map('a'));
  let refused = 0;
  api.intercept = () => {
    if (refused++ < 4) throw Object.assign(new Error('refused'), { code: 'ECONNREFUSED' });
  };
  informer.start();
  assert.equal(informer.hasSynced(), false);
  await informer.synced(AbortSignal.timeout(3_000));
  assert.equal(informer.list().length, 1);
  await informer.stop();
});

test('a stopped informer does not leave its waiters waiting', async () => {
  const { api, informer } = setup();
  api.intercept = () => {
    throw Object.assign(new Error('refused'), { code: 'ECONNREFUSED' });
  };
  informer.start();
  const waiting = informer.synced();
  await informer.stop();
  await assert.rejects(waiting, /was stopped/);
});

test('indexes follow changes; late handlers are told what is there; a failing handler harms nobody', async () => {
  const { api, informer, seen } = setup();
  informer.onChange(() => {
    throw new Error('handler');
  });
  informer.addIndex('value', object => [object.data?.value ?? '']);
  api.put(RESOURCE.configMaps, map('a'));
  informer.start();
  await informer.synced();
  api.put(RESOURCE.configMaps, map('b'));
  await eventually(() => informer.byIndex('value', '1').length === 2, 'both under 1');
  api.put(RESOURCE.configMaps, map('a', '2'));
  await eventually(() => informer.byIndex('value', '2').length === 1, 'a under 2');
  assert.equal(informer.byIndex('value', '1').length, 1);
  assert.deepEqual(seen, ['added a', 'added b', 'modified a']);
  const late: string[] = [];
  const off = informer.onChange(change => late.push(`${change.type} ${change.object.metadata.name}`));
  assert.deepEqual(late, ['added a', 'added b']);
  off();
  api.remove(RESOURCE.configMaps, 'a', 'default');
  await eventually(() => informer.list().length === 1, 'a gone');
  assert.equal(late.length, 2);
  await informer.stop();
});

test('keep: handlers get objects whole, the copy holds what was asked for', async () => {
  const api = new FakeApi();
  api.put(RESOURCE.configMaps, map('a'));
  const changes: Change<ConfigMap>[] = [];
  const informer = new Informer(api.client(), RESOURCE.configMaps, {
    pageSize: 1,
    keep: ({ apiVersion, kind, metadata: { name, namespace, uid, resourceVersion } }) => ({
      apiVersion,
      kind,
      metadata: { name, namespace, uid, resourceVersion },
    }),
  });
  informer.onChange(change => changes.push(change));
  informer.start();
  await informer.synced();
  api.put(RESOURCE.configMaps, map('a', '2'));
  await eventually(() => changes.length === 2, 'two changes');
  assert.deepEqual(
    changes.map(({ type, object, previous }) => [type, object.data?.value, previous?.data]),
    [
      ['added', '1', undefined],
      ['modified', '2', undefined],
    ],
  );
  assert.equal(informer.get('a', 'default')?.data, undefined);
  await informer.stop();
});
