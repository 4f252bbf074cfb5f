// Our kube-proxy beside a real kube-apiserver 1.20, which has EndpointSlices as v1beta1 only, with the rights that RBAC
// gives system:kube-proxy there: traffic in each mode, changes, Events, and the server away for a while.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { RESOURCE } from '../../../src/client/resources.ts';
import { ProxyNode } from '../../netns/proxy/node.ts';
import { endpoint, service, slice } from '../../unit/proxy/object-fixtures.ts';
import { bringIn, eventually } from '../overlay/flanneld-process.ts';
import { KubeProxyProcess } from './kube-proxy-process.ts';
import { skipWithout } from './peers.ts';
import { RealControlPlane } from './real-control-plane.ts';

const limits = { skip: skipWithout('kube-apiserver'), timeout: 200_000 };
const NODE_ADDRESS = '10.9.0.1';
const PORTS = [
  { name: 'web', port: 80, protocol: 'TCP' },
  { name: 'dns', port: 53, protocol: 'UDP' },
];

let plane: RealControlPlane;
let net: ProxyNode;
let end: () => void = () => {};
let web = '';

before(async () => {
  if (limits.skip) return;
  plane = await RealControlPlane.start();
  net = new ProxyNode('k8p');
  await net.reconciler.stop();
  end = bringIn(net.node, plane.port);
  const { admin } = plane;
  await admin.create(RESOURCE.nodes, { metadata: { name: 'node' }, spec: { podCIDRs: ['10.244.1.0/24'] } });
  await admin.patch(
    RESOURCE.nodes,
    'node',
    { status: { addresses: [{ type: 'InternalIP', address: NODE_ADDRESS }] } },
    { type: 'strategic', subresource: 'status' },
  );
  const made = await admin.create(
    RESOURCE.services,
    service('default/web', { type: 'NodePort', ports: [{ ...PORTS[0]!, nodePort: 30080 }, PORTS[1]!] }),
  );
  web = made.spec?.clusterIP ?? '';
  await admin.create(
    RESOURCE.endpointSlices,
    slice('default/web', [endpoint('10.244.1.3', { node: 'node' })], PORTS),
  );
});

after(async () => {
  end();
  await net?.close();
  await plane?.stop();
});

async function becomes(wanted: string): Promise<void> {
  await eventually(wanted, async () => (await net.client.outcome(web, 80, { timeoutMs: 500 })) === wanted);
}

async function setEndpoints(...addresses: string[]): Promise<void> {
  await plane.admin.patch(
    RESOURCE.endpointSlices,
    'web-1',
    { endpoints: addresses.map(address => endpoint(address, { node: 'node' })) },
    { namespace: 'default', type: 'merge' },
  );
}

for (const mode of ['iptables', 'nftables', 'userspace'] as const)
  describe(`our kube-proxy, mode ${mode}, at a real kube-apiserver`, limits, () => {
    let proxy: KubeProxyProcess;
    before(async () => {
      await setEndpoints('10.244.1.3');
      proxy = new KubeProxyProcess({
        namespace: net.node,
        whose: 'ours',
        kubeconfig: plane.pki.kubeconfigs.kubeProxy,
        fields: { mode, clusterCIDR: '10.244.0.0/16', healthzBindAddress: '0.0.0.0:10256' },
      });
      proxy.start();
      await proxy.ready();
    });
    after(() => proxy?.close());

    test('ClusterIP and NodePort, TCP and UDP, from a pod, the node and outside', limits, async () => {
      await becomes('pod2');
      for (const from of [net.pods[0]!, net.node, net.client]) {
        assert.equal(await from.outcome(web, 80), 'pod2', from.name);
        assert.equal(await from.outcome(web, 53, { protocol: 'udp' }), 'pod2', from.name);
        assert.equal(await from.outcome(NODE_ADDRESS, 30080), 'pod2', from.name);
      }
    });

    test('changes arrive; without endpoints it is refused', limits, async () => {
      await setEndpoints('10.244.1.4');
      await becomes('pod3');
      await setEndpoints();
      await becomes('ECONNREFUSED');
      await setEndpoints('10.244.1.2');
      await becomes('pod1');
    });

    test('its Events are accepted', limits, async () => {
      await eventually('an Event on the Node', async () =>
        (await plane.admin.list(RESOURCE.events)).items.find(
          event => event.source?.component === 'kube-proxy' && event.involvedObject.name === 'node',
        ),
      );
    });

    test('nothing is refused: no warnings about rights', limits, () => {
      assert.doesNotMatch(proxy.log, /[Ff]orbidden|"level":"(error|fatal)"/);
    });

    test('the server away: Services go on; back: changes arrive', limits, async () => {
      await plane.stopApiServer();
      assert.equal(await net.client.outcome(web, 80), 'pod1');
      await plane.startApiServer();
      await setEndpoints('10.244.1.3');
      await eventually(
        'the change after the absence',
        async () => (await net.client.outcome(web, 80, { timeoutMs: 500 })) === 'pod2',
        30_000,
      );
    });
  });
