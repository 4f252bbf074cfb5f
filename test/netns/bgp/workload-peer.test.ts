// A pod that speaks BGP with its node (localWorkloadSelector): it learns the cluster's blocks, and what it announces reaches
// the node's kernel as far as a BGPFilter says, and no further.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BGPFilter, BGPPeer } from '../../../routing/bgp/calico/types.ts';
import { TcpTransport } from '../../../routing/bgp/session/tcp.ts';
import { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import { CALICO } from '../../../src/agent/bgp/resources.ts';
import type { Pod } from '../../../src/api/types.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { AgentCluster, nodeIps } from '../../harness/bgp/agent-cluster.ts';
import { chosen, eventually, originate } from '../../harness/bgp/pair.ts';
import { SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';

test('a pod peers with its node; only what a filter accepts is taken', {
  skip: SKIP_UNLESS_ROOT,
  timeout: 60_000,
}, async () => {
  await using cluster = await AgentCluster.start('work', { 4: {}, 6: {} });
  const [one, two] = cluster.nodes;
  const podIp = one!.podIps[4];
  const pod: Pod = {
    metadata: { name: 'router', namespace: 'default', labels: { app: 'router' } },
    spec: { nodeName: one!.name, containers: [] },
    status: { phase: 'Running', podIP: podIp, podIPs: [{ ip: podIp }] },
  };
  cluster.api.put(RESOURCE.pods, pod);
  const peer = (filters: string[]): BGPPeer => ({
    metadata: { name: 'pods' },
    spec: { localWorkloadSelector: "app == 'router'", asNumber: 65100, filters },
  });
  cluster.api.put(CALICO.peers, peer([]));
  const speaker = new Speaker({
    config: {
      ...{ asn: 65100, routerId: podIp, listen: [], nextHops: { 4: podIp } },
      peers: [
        {
          name: 'node',
          address: nodeIps(1)[4],
          asn: 64512,
          families: [4],
          connectRetryMs: 300,
          multihop: 64,
        },
      ],
      originate: originate('198.51.100.0/24', '203.0.113.0/24'),
    },
    transport: new TcpTransport(one!.pod!.netns),
    log: silentLogger(),
  });
  try {
    await speaker.start();
    const block = `${two!.podIps[4].split('.').slice(0, 3).join('.')}.`;
    const learned = (): boolean => chosen(speaker).some(route => route.startsWith(block));
    assert.ok(await eventually(learned, Boolean), 'the pod learns where pods of other nodes are');
    const taken = (): string[] => one!.routes().filter(route => /^(198\.51|203\.0)/.test(route));
    assert.deepEqual(taken(), [], 'nothing without a filter');
    const filter: BGPFilter = {
      metadata: { name: 'from-pods' },
      spec: { importV4: [{ cidr: '198.51.100.0/24', matchOperator: 'In', action: 'Accept' }] },
    };
    cluster.api.put(CALICO.filters, filter);
    cluster.api.put(CALICO.peers, peer(['from-pods']));
    const wanted = [`198.51.100.0/24 ${podIp} cali0`];
    assert.deepEqual(await eventually(taken, list => list.length > 0), wanted);
    assert.ok(!two!.routes().some(route => route.startsWith('198.51')), 'and not told to other nodes');
    cluster.api.put(RESOURCE.pods, { ...pod, status: { ...pod.status, phase: 'Succeeded' } });
    assert.deepEqual(await eventually(taken, list => list.length === 0), [], 'gone with the pod');
  } finally {
    await speaker.stop();
  }
});
