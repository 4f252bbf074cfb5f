// Pods on different hosts reach each other over the planned overlay, each backend and family; what crosses the underlay
// is what the backend promises; a pod's packets to the outside carry the host's address, those to pods their own.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { parseNetConf } from '../../../routing/subnet/net-conf.ts';
import { SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { OverlayCluster, type OverlayHost } from './cluster.ts';

const limits = { skip: SKIP_UNLESS_ROOT, timeout: 60_000 };
const NETWORKS = '"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/56"';

interface Case {
  name: string;
  backend: string;
  /** Hosts behind the router, by number. */
  far: number[];
}

const CASES: Case[] = [
  { name: 'vxlan', backend: '{"Type":"vxlan"}', far: [] },
  { name: 'vxlan across a router', backend: '{"Type":"vxlan","VNI":7,"Port":4789}', far: [3] },
  {
    name: 'vxlan with DirectRouting across a router',
    backend: '{"Type":"vxlan","DirectRouting":true}',
    far: [3],
  },
  { name: 'host-gw', backend: '{"Type":"host-gw"}', far: [] },
];

async function everybodyReachesEverybody(hosts: OverlayHost[]): Promise<void> {
  for (const from of hosts)
    for (const to of hosts) {
      if (from === to) continue;
      const { v4, v6 } = to.podAddresses;
      assert.deepEqual(await from.pod.ask(v4, 80), { server: to.name, client: from.podAddresses.v4 });
      assert.deepEqual(await from.pod.ask(v6, 80), { server: to.name, client: from.podAddresses.v6 });
      assert.equal(await from.pod.outcome(v4, 53, { protocol: 'udp' }), to.name);
      // From the host itself.
      assert.equal(await from.host.outcome(v4, 80), to.name);
    }
}

for (const [index, { name, backend, far }] of CASES.entries())
  test(`${name}: pods and hosts reach pods, IPv4 and IPv6`, limits, async t => {
    const cluster = new OverlayCluster(`ov${index}`, parseNetConf(`{${NETWORKS},"Backend":${backend}}`));
    after(() => cluster.close());
    for (const n of [1, 2, 3]) await cluster.addHost({ n, behindRouter: far.includes(n) });
    await cluster.sync();
    await everybodyReachesEverybody(cluster.hosts);

    await t.test("Docker's FORWARD DROP does not cut the pods off", async () => {
      for (const { host } of cluster.hosts)
        for (const tool of ['iptables-nft', 'ip6tables-nft']) await host.run(tool, ['-P', 'FORWARD', 'DROP']);
      await everybodyReachesEverybody(cluster.hosts);
    });

    await t.test("outside, a pod has its host's address", async () => {
      const [one] = cluster.hosts;
      const outside = cluster.lab.namespace('out');
      cluster.lab.wire(outside, 'eth0', one!.host, 'out0');
      one!.host.address('out0', '203.0.113.1/24');
      outside.address('eth0', '203.0.113.9/24');
      outside.tcpServer(80, 'outside');
      assert.deepEqual(await one!.pod.ask('203.0.113.9', 80), { server: 'outside', client: '203.0.113.1' });
    });

    await t.test('a verification finds nothing to mend', async () => {
      for (const { reconciler } of cluster.hosts) assert.deepEqual(await reconciler.verify(), []);
    });

    await t.test('a node that left leaves nothing behind', async () => {
      cluster.deleteNode('n3');
      await cluster.sync();
      const [one] = cluster.hosts;
      const routes = one!.host.rt.listRoutes().filter(route => route.protocol === 213);
      assert.equal(routes.length, 2);
      assert.ok(
        routes.every(route => !route.destination.includes('244.3.') && !route.destination.includes(':3::')),
      );
    });
    await cluster.close();
  });
