// What a node may do with Calico's resources, and which secrets it may read because a BGPPeer names them.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { ServerFixture } from './server-fixture.ts';

const CRDS = join(import.meta.dirname, '../../../deploy/crds');
const CALICO = '/apis/crd.projectcalico.org/v1';

test('a node writes IPAM, reads peers, and reads the secrets that peers name', async () => {
  await using server = await ServerFixture.start();
  for (const plural of ['bgppeers', 'ipamblocks', 'ippools']) {
    const body: unknown = parse(readFileSync(join(CRDS, `crd.projectcalico.org_${plural}.yaml`), 'utf8'));
    const path = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
    assert.equal((await server.request('POST', path, { body })).status, 201);
  }
  const deadline = Date.now() + 5000;
  while ((await server.request('GET', `${CALICO}/ippools`)).status !== 200) assert.ok(Date.now() < deadline);
  const secret = (name: string) => ({
    path: `/api/v1/namespaces/kube-system/secrets/${name}`,
    body: { apiVersion: 'v1', kind: 'Secret', metadata: { name }, data: { key: 'c2VjcmV0' } },
  });
  for (const name of ['bgp', 'other'])
    await server.request('POST', '/api/v1/namespaces/kube-system/secrets', { body: secret(name).body });
  const agent = server.agentFor('system:node:n1', ['system:nodes']);
  const status = async (method: string, path: string, body?: unknown) =>
    (await server.request(method, path, { agent, ...(body === undefined ? {} : { body }) })).status;

  assert.equal(await status('GET', secret('bgp').path), 403, 'nobody names it yet');
  const peer = {
    metadata: { name: 'tor' },
    spec: { peerIP: '10.0.0.1', asNumber: 65000, password: { secretKeyRef: { name: 'bgp', key: 'key' } } },
  };
  assert.equal(await status('POST', `${CALICO}/bgppeers`, peer), 403, 'peers are not for nodes to make');
  assert.equal((await server.request('POST', `${CALICO}/bgppeers`, { body: peer })).status, 201);
  assert.equal(await status('GET', `${CALICO}/bgppeers/tor`), 200);
  assert.equal(await status('GET', secret('bgp').path), 200);
  assert.equal(await status('GET', secret('other').path), 403);
  assert.equal(await status('GET', '/api/v1/namespaces/kube-system/secrets'), 403, 'no listing');
  const block = {
    metadata: { name: '10-0-0-0-26' },
    spec: {
      cidr: '10.0.0.0/26',
      affinity: 'host:n1',
      allocations: [null],
      unallocated: [0],
      attributes: [],
      strictAffinity: false,
    },
  };
  assert.equal(await status('POST', `${CALICO}/ipamblocks`, block), 201);
  assert.equal(
    await status('POST', `${CALICO}/ippools`, { metadata: { name: 'p' }, spec: { cidr: '10.0.0.0/8' } }),
    403,
  );
});
