// Overlay and service proxy on the same nodes: a client outside reaches a pod on another node through a node port, pods
// reach it by its cluster IP, and the envelopes on the underlay are never translated a second time (what is marked for
// masquerading carries its mark into the outer packet: kubernetes#87852).
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ServiceProxy } from '../../../proxy/proxy.ts';
import { parseNetConf } from '../../../routing/subnet/net-conf.ts';
import { Conntrack } from '../../../src/linux/conntrack.ts';
import { SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { endpoint, service, slice } from '../../unit/proxy/object-fixtures.ts';
import { OverlayCluster, type OverlayHost } from './cluster.ts';

const VXLAN_PORT = 8472;

function startProxy(host: OverlayHost): ServiceProxy {
  const { reconciler } = host;
  const proxy = new ServiceProxy({
    nodeName: host.name,
    families: [4],
    iptables: { localDetector: { mode: 'cidr', v4: '10.244.0.0/16' } },
    setDesired: state => reconciler.setDesired('proxy', state),
    settled: () => reconciler.settled(),
  });
  const ports = [{ port: 80, nodePort: 30080 }];
  proxy.setServices([service('a/web', { type: 'NodePort', clusterIP: '10.96.0.1', ports })]);
  proxy.setEndpointSlices([slice('a/web', [endpoint('10.244.2.2', { node: 'n2' })], [{ port: 80 }])]);
  return proxy;
}

test('Services over the overlay, both ways; envelopes keep their addresses and ports', {
  skip: SKIP_UNLESS_ROOT,
  timeout: 30_000,
}, async () => {
  const cluster = new OverlayCluster(
    'ovp',
    parseNetConf('{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}'),
  );
  after(() => cluster.close());
  const one = await cluster.addHost({ n: 1 });
  await cluster.addHost({ n: 2 });
  const three = await cluster.addHost({ n: 3 });
  await cluster.sync();
  const proxies = cluster.hosts.map(startProxy);
  for (const proxy of proxies) await proxy.settled();

  assert.deepEqual(await one.pod.ask('10.96.0.1', 80), { server: 'n2', client: '10.244.1.2' });
  assert.equal(await one.host.outcome('10.96.0.1', 80), 'n2');
  assert.equal(await one.host.outcome('127.0.0.1', 30080), 'n2');
  // Host three stands for a client outside: the node that forwards takes the answer back, so it puts its own address.
  assert.deepEqual(await three.host.ask('10.99.0.1', 30080), { server: 'n2', client: '10.244.1.0' });

  for (const { host } of cluster.hosts) {
    using conntrack = Conntrack.open(host.netns);
    const envelopes = conntrack
      .list({ protocol: 17 })
      .filter(flow => flow.original.destinationPort === VXLAN_PORT);
    // Host three only spoke to host one's own address.
    assert.equal(envelopes.length > 0, host !== three.host);
    for (const { original, reply } of envelopes) {
      assert.equal(reply.destination, original.source);
      assert.equal(reply.source, original.destination);
      assert.equal(reply.destinationPort, original.sourcePort);
    }
  }
  for (const { reconciler } of cluster.hosts) assert.deepEqual(await reconciler.verify(), []);
  for (const proxy of proxies) proxy.stop();
  await cluster.close();
});
