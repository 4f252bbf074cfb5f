// Node agents in BGP mode at a real kube-apiserver that has Calico's CustomResourceDefinitions: pools, blocks, affinities and
// handles are kept there by nodes with the rights of Calico's own ClusterRole, and pods reach each other by routes.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { CALICO } from '../../../src/agent/bgp/resources.ts';
import type { Pod } from '../../../src/api/types.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { installCalicoResources } from '../../../src/lab/calico.ts';
import { HELLO_IMAGE, HELLO_PORT } from '../../../src/lab/images.ts';
import { eventually } from '../overlay/flanneld-process.ts';
import { AgentNode, SKIP_WITHOUT_CONTAINERD } from './agent-node.ts';
import { bindRole, createRole, Underlay } from './our-parts.ts';
import { skipWithout } from './peers.ts';
import { RealControlPlane } from './real-control-plane.ts';

const limits = { skip: skipWithout('kube-apiserver') || SKIP_WITHOUT_CONTAINERD, timeout: 120_000 };
const SERVER = '10.99.0.100';
const NODES = [1, 2].map(n => ({ name: `node${n}`, addresses: [`10.99.0.${n}`] }));
const CRDS = join(import.meta.dirname, '../../../deploy/crds');
const ALL = ['get', 'list', 'watch', 'create', 'update', 'patch', 'delete'];
/** What ClusterRole calico-node has of these. */
const RULES = [
  {
    apiGroups: ['crd.projectcalico.org'],
    resources: ['ippools', 'bgpconfigurations', 'bgppeers', 'bgpfilters', 'ipreservations', 'ipamconfigs'],
    verbs: ['get', 'list', 'watch'],
  },
  {
    apiGroups: ['crd.projectcalico.org'],
    resources: ['blockaffinities', 'ipamblocks', 'ipamhandles', 'caliconodestatuses'],
    verbs: ALL,
  },
  {
    apiGroups: ['crd.projectcalico.org'],
    resources: ['caliconodestatuses/status'],
    verbs: ['update', 'patch'],
  },
];

describe('agents in BGP mode at a real kube-apiserver', limits, () => {
  let underlay: Underlay;
  let plane: RealControlPlane;
  const nodes: AgentNode[] = [];

  before(async () => {
    underlay = new Underlay('k8b');
    const namespace = underlay.host('cp', SERVER);
    plane = await RealControlPlane.start({ nodes: NODES, home: { namespace, address: SERVER } });
    await createRole(plane, 'calico-node', RULES);
    await bindRole(plane, 'calico-node', { kind: 'Group', name: 'system:nodes' });
    const signal = AbortSignal.timeout(30_000);
    await installCalicoResources(plane.admin, { clusterCidrs: ['10.244.0.0/16'] }, CRDS, signal);
    for (const { name, addresses } of NODES) {
      const address = addresses[0]!;
      const args = ['--routing', 'bgp'];
      const node = new AgentNode({ name, address, args, namespace: underlay.host(name, address), plane });
      nodes.push(node);
      await node.start();
    }
  });

  after(async () => {
    for (const node of nodes) await node.close();
    await plane?.stop();
    underlay?.lab.close();
  });

  const soon = <T>(what: string, look: () => Promise<T | undefined | false>, ms = 30_000): Promise<T> =>
    eventually(what, look, ms).catch(error => {
      throw new Error(`${error.message}\n${nodes.map(({ log }) => log.slice(-4000)).join('\n')}`);
    });

  test('each node takes a block, gives a pod of it an address, and routes to the other', limits, async () => {
    const pod = (node: string): Pod => ({
      metadata: { name: `on-${node}`, namespace: 'default' },
      spec: { nodeName: node, containers: [{ name: 'hello', image: HELLO_IMAGE }] },
    });
    for (const { name } of NODES) {
      await soon(`${name} is registered`, () => plane.admin.get(RESOURCE.nodes, name).catch(() => undefined));
      await plane.admin.create(RESOURCE.pods, pod(name));
    }
    const addresses = await soon('both pods run', async () => {
      const { items } = await plane.admin.list(RESOURCE.pods, { namespace: 'default' });
      const found = items.map(({ status }) => (status?.phase === 'Running' ? status.podIP : undefined));
      return found.every(address => address !== undefined) ? found : undefined;
    });
    for (const node of nodes)
      for (const address of addresses)
        await soon(`${node.name} reaches ${address}`, async () =>
          (await node.http(address!, HELLO_PORT).catch(() => '')).includes('on-node'),
        );
    const { items: affinities } = await plane.admin.list(CALICO.affinities);
    assert.deepEqual(affinities.map(({ spec }) => spec?.node).sort(), ['node1', 'node2']);
    const { items: blocks } = await plane.admin.list(CALICO.blocks);
    assert.equal(blocks.length, 2);
    for (const node of nodes) {
      const { stdout } = await node.namespace.run('ip', ['route', 'show', 'proto', 'bird']);
      const ours = await node.namespace.run('ip', ['route']);
      assert.match(stdout + ours.stdout, /10\.244\.\d+\.\d+\/26 via 10\.99\.0\.\d/, node.name);
    }
  });

  test('a deleted pod gives its address back', limits, async () => {
    await plane.admin.delete(RESOURCE.pods, 'on-node1', { namespace: 'default', gracePeriodSeconds: 1 });
    await soon('one handle is left', async () => {
      const { items } = await plane.admin.list(CALICO.handles);
      return items.filter(({ spec }) => !spec?.handleID?.includes('tunnel')).length === 1;
    });
  });

  test('nobody was forbidden anything', limits, () => {
    const forbidden = nodes
      .flatMap(({ log }) => log.split('\n'))
      .filter(line => / is forbidden: /.test(line));
    assert.deepEqual(forbidden, []);
  });
});
