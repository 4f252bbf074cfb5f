// ServiceCIDR objects: of either version, of a server that has none, and their changes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ServiceNetworks } from '../../../src/agent/service-networks.ts';
import { KubeClient } from '../../../src/client/client.ts';
import type { TypedRef } from '../../../src/client/resources.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { eventually, FakeApi } from '../../harness/fake-api.ts';

const REF: TypedRef<{ metadata: { name: string }; spec: { cidrs: string[] } }> = {
  group: 'networking.k8s.io',
  version: 'v1',
  plural: 'servicecidrs',
  kind: 'ServiceCIDR',
  namespaced: false,
};

function start(client: KubeClient) {
  const stop = new AbortController();
  let changes = 0;
  const networks = new ServiceNetworks({ client, onChange: () => changes++, log: silentLogger() });
  networks.start(stop.signal);
  return {
    networks,
    changes: () => changes,
    asked: () => networks.asked(5000, stop.signal),
    end: async () => {
      stop.abort();
      await networks.stop();
    },
  };
}

/** Answers unknown paths of the group as a server that has only `version` (or none) of it. */
function serving(api: FakeApi, version: string | undefined, status = 404): KubeClient {
  return new KubeClient(
    { server: 'http://fake' },
    {
      transport: {
        request: async request => {
          const asked = /networking\.k8s\.io\/(\w+)\//.exec(request.path)?.[1];
          if (asked === undefined || asked === version) return api.request(request);
          const text = JSON.stringify({ kind: 'Status', status: 'Failure', code: status, reason: 'No' });
          return {
            status,
            headers: { 'content-type': 'application/json' },
            body: (async function* () {
              yield Buffer.from(text);
            })(),
            text: async () => text,
          };
        },
        close: async () => {},
      },
    },
  );
}

test('the networks of all objects, canonical, and what changes in them', async () => {
  const api = new FakeApi();
  api.put(REF, { metadata: { name: 'kubernetes' }, spec: { cidrs: ['10.96.0.0/12', 'fd96:0::/108'] } });
  const { networks, asked, changes, end } = start(api.client());
  await asked();
  assert.deepEqual(networks.cidrs, ['10.96.0.0/12', 'fd96::/108']);
  api.put(REF, { metadata: { name: 'more' }, spec: { cidrs: ['10.112.0.0/16', 'nonsense'] } });
  await eventually(() => networks.cidrs.length === 3, 'the second object');
  assert.ok(changes() >= 2);
  await end();
});

test('v1beta1, where there is no v1', async () => {
  const api = new FakeApi();
  api.put({ ...REF, version: 'v1beta1' }, { metadata: { name: 'k' }, spec: { cidrs: ['10.96.0.0/12'] } });
  const { networks, asked, end } = start(serving(api, 'v1beta1'));
  await asked();
  assert.deepEqual(networks.cidrs, ['10.96.0.0/12']);
  await end();
});

for (const status of [404, 403])
  test(`a server that answers ${status}: none, and nobody waits`, async () => {
    const { networks, asked, end } = start(serving(new FakeApi(), undefined, status));
    const from = performance.now();
    await asked();
    assert.ok(performance.now() - from < 2000);
    assert.deepEqual(networks.cidrs, []);
    await end();
  });
