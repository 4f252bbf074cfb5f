import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Service } from '../../../src/api/types.ts';
import { ServiceAllocator } from '../../../src/apiserver/services/service-allocator.ts';
import { at, ServerFixture } from './server-fixture.ts';

let server: ServerFixture;
before(async () => {
  server = await ServerFixture.start({
    serviceCidrs: ['10.97.0.0/27', 'fd00:97::/112'],
    nodePortRange: '30000-30019',
  });
});
after(() => server[Symbol.asyncDispose]());

const PATH = '/api/v1/namespaces/default/services';
const service = (name: string, spec: object = {}) => ({
  metadata: { name },
  spec: { ports: [{ port: 80 }], ...spec },
});
const create = (name: string, spec?: object) => server.request('POST', PATH, { body: service(name, spec) });

test('default/kubernetes is there with its endpoints', async () => {
  const { body } = await server.request('GET', `${PATH}/kubernetes`);
  assert.equal(at(body, 'spec.clusterIP'), '10.97.0.1');
  const slice = await server.request(
    'GET',
    '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes',
  );
  assert.deepEqual(at(slice.body, 'endpoints.0.addresses'), ['10.0.0.1']);
  const endpoints = await server.request('GET', '/api/v1/namespaces/default/endpoints/kubernetes');
  assert.equal(at(endpoints.body, 'subsets.0.ports.0.port'), server.port);
});

test('parallel creates get different addresses until the range is full; deletes give them back', async () => {
  const results = await Promise.all(Array.from({ length: 40 }, (_, index) => create(`many-${index}`)));
  const made = results.filter(result => result.status === 201);
  const addresses = new Set(made.map(result => at(result.body, 'spec.clusterIP')));
  // 32 addresses without network, broadcast and the one of default/kubernetes.
  assert.equal(made.length, 29);
  assert.equal(addresses.size, 29);
  const refused = results.find(result => result.status !== 201);
  assert.match(String(at(refused?.body, 'message')), /range is full/);
  await Promise.all(
    made.map(result => server.request('DELETE', `${PATH}/${at(result.body, 'metadata.name')}`)),
  );
  assert.equal((await create('again')).status, 201);
});

test('chosen addresses: in range, free, kept over updates, not changed', async () => {
  const chosen = await create('chosen', { clusterIP: '10.97.0.9' });
  assert.equal(at(chosen.body, 'spec.clusterIP'), '10.97.0.9');
  const taken = await create('taken', { clusterIP: '10.97.0.9' });
  assert.deepEqual([taken.status, /already allocated/.test(taken.text)], [422, true]);
  assert.equal((await create('outside', { clusterIP: '10.98.0.9' })).status, 422);
  assert.equal((await create('dry', { clusterIP: '10.97.0.10' })).status, 201);
  await server.request('DELETE', `${PATH}/dry`);
  const dry = await server.request('POST', `${PATH}?dryRun=All`, {
    body: service('dry2', { clusterIP: '10.97.0.10' }),
  });
  assert.equal(dry.status, 201);
  assert.equal((await create('after-dry', { clusterIP: '10.97.0.10' })).status, 201);
  const updated = await server.request('PUT', `${PATH}/chosen`, {
    body: service('chosen', { selector: { a: 'b' } }),
  });
  assert.equal(at(updated.body, 'spec.clusterIP'), '10.97.0.9', updated.text);
  const external = await server.request('PUT', `${PATH}/chosen`, {
    body: { metadata: { name: 'chosen' }, spec: { type: 'ExternalName', externalName: 'x.example' } },
  });
  assert.equal(at(external.body, 'spec.clusterIP'), undefined, external.text);
  assert.equal((await create('reuses', { clusterIP: '10.97.0.9' })).status, 201);
});

test('two families, headless, node ports', async () => {
  const dual = await create('dual', { ipFamilyPolicy: 'PreferDualStack' });
  assert.deepEqual(at(dual.body, 'spec.ipFamilies'), ['IPv4', 'IPv6']);
  assert.equal((at(dual.body, 'spec.clusterIPs') as string[]).length, 2);
  const six = await create('six', { ipFamilies: ['IPv6'] });
  assert.match(String(at(six.body, 'spec.clusterIP')), /^fd00:97::/);
  const headless = await create('headless', { clusterIP: 'None' });
  assert.deepEqual(at(headless.body, 'spec.clusterIPs'), ['None']);
  const port = await create('np', {
    type: 'NodePort',
    ports: [
      { name: 'a', port: 53, protocol: 'TCP' },
      { name: 'b', port: 53, protocol: 'UDP' },
      { name: 'c', port: 80, nodePort: 30005 },
    ],
  });
  assert.equal(port.status, 201, port.text);
  const ports = (at(port.body, 'spec.ports') as { nodePort: number }[]).map(each => each.nodePort);
  assert.equal(ports[0], ports[1], 'TCP and UDP of one port share');
  assert.equal(ports[2], 30005);
  assert.equal(
    (await create('np2', { type: 'NodePort', ports: [{ port: 1, nodePort: 30005 }] })).status,
    422,
  );
  assert.equal((await create('np3', { type: 'NodePort', ports: [{ port: 1, nodePort: 1234 }] })).status, 422);
  const back = await server.request('PATCH', `${PATH}/np`, {
    body: { spec: { type: 'ClusterIP' } },
    headers: { 'content-type': 'application/merge-patch+json' },
  });
  assert.equal(at(back.body, 'spec.ports.2.nodePort'), undefined, back.text);
  const reused = await create('np4', { type: 'NodePort', ports: [{ port: 1, nodePort: 30005 }] });
  assert.equal(reused.status, 201, reused.text);
});

test('what existing Services hold is taken over at start', async () => {
  await create('held', { clusterIP: '10.97.0.20' });
  await server.stopServer();
  await server.boot({ serviceCidrs: ['10.97.0.0/27', 'fd00:97::/112'], nodePortRange: '30000-30019' });
  assert.equal((await create('thief', { clusterIP: '10.97.0.20' })).status, 422);
});

test('a failed write gives everything back', () => {
  const allocator = new ServiceAllocator(['10.96.0.0/28']);
  const make = (name: string): Service => ({
    metadata: { name, namespace: 'n' },
    spec: { type: 'NodePort', ports: [{ port: 80 }] },
  });
  for (let round = 0; round < 100; round++) {
    const allocation = allocator.allocate(make(`s${round}`));
    assert.deepEqual(allocation.causes, []);
    allocation.rollback();
  }
});
