import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { Overlay, type OverlayOptions } from '../../../routing/overlay.ts';
import { parseNetConf } from '../../../routing/subnet/net-conf.ts';
import type { NodeStatusPatch } from '../../../routing/subnet/self.ts';
import type { SubnetEnv } from '../../../routing/subnet/subnet-env.ts';
import type { Node } from '../../../src/api/types.ts';
import type { KernelState } from '../../../src/kernel/state.ts';
import type { Problem } from '../../../src/lib/problem.ts';
import { makeNode } from './node-fixtures.ts';

const PREFIX = 'flannel.alpha.coreos.com';

function setUp(options: Partial<OverlayOptions> = {}) {
  const seen = {
    states: [] as KernelState[],
    patches: [] as NodeStatusPatch[],
    envs: [] as SubnetEnv[],
    problems: [] as Problem[],
  };
  const overlay = new Overlay({
    nodeName: 'a',
    config: parseNetConf('{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}'),
    underlay: { link: 'eth0', addresses: ['192.168.64.1/24'], mtuBytes: 1500 },
    setDesired: state => seen.states.push(state),
    patchNode: async patch => void seen.patches.push(patch),
    onSubnetEnv: env => seen.envs.push(env),
    onProblems: problems => seen.problems.push(...problems),
    now: () => new Date(0),
    ...options,
  });
  return { overlay, seen };
}

const bare: Node = {
  metadata: { name: 'a', uid: '1' },
  spec: { podCIDR: '10.244.1.0/24', podCIDRs: ['10.244.1.0/24'] },
};
const b = makeNode('b', { podCidrs: ['10.244.2.0/24'], publicIp: '192.168.64.2', mac: '12:00:00:00:00:02' });
const c = makeNode('c', { podCidrs: ['10.244.3.0/24'], publicIp: '192.168.64.3', mac: '12:00:00:00:00:03' });

test('nodes that come together are planned once; our annotations and the condition are published', async () => {
  const { overlay, seen } = setUp();
  overlay.setNodes([bare, b, c]);
  await turn();
  assert.equal(seen.states.length, 1);
  assert.equal(seen.states[0]?.routes?.length, 2);
  assert.equal(seen.envs.length, 1);
  assert.equal(seen.envs[0]?.mtuBytes, 1450);
  assert.equal(seen.patches.length, 1);
  const annotations = seen.patches[0]?.metadata?.annotations ?? {};
  assert.equal(annotations[`${PREFIX}/kube-subnet-manager`], 'true');
  assert.equal(annotations[`${PREFIX}/backend-type`], 'vxlan');
  assert.equal(annotations[`${PREFIX}/public-ip`], '192.168.64.1');
  assert.match(annotations[`${PREFIX}/backend-data`] ?? '', /^\{"VNI":1,"VtepMAC":"[0-9a-f:]{17}"\}$/);
  assert.equal(seen.patches[0]?.status?.conditions[0]?.type, 'NetworkUnavailable');
  assert.equal(seen.patches[0]?.status?.conditions[0]?.status, 'False');
});

test('what was published is not published again, and a heartbeat plans nothing', async () => {
  const { overlay, seen } = setUp();
  overlay.setNodes([bare, b]);
  await turn();
  const published: Node = {
    ...bare,
    metadata: { ...bare.metadata, annotations: seen.patches[0]?.metadata?.annotations },
    status: { conditions: [{ type: 'NetworkUnavailable', status: 'False' }] },
  };
  overlay.upsertNode(published);
  await turn();
  const states = seen.states.length;
  overlay.upsertNode({ ...published, status: { ...published.status, phase: 'beat' } });
  overlay.upsertNode({ ...b, status: { phase: 'beat' } });
  await turn();
  assert.equal(seen.patches.length, 1);
  assert.equal(seen.states.length, states);
  assert.equal(seen.states.at(-1)?.links?.[0]?.mac, seen.states[0]?.links?.[0]?.mac);
});

test('a node that goes, changes its MAC or its subnet changes exactly its part', async () => {
  const { overlay, seen } = setUp();
  overlay.setNodes([bare, b, c]);
  await turn();
  overlay.deleteNode('c');
  await turn();
  assert.deepEqual(
    seen.states.at(-1)?.routes?.map(route => route.destination),
    ['10.244.2.0/24'],
  );
  overlay.upsertNode(
    makeNode('b', { podCidrs: ['10.244.7.0/24'], publicIp: '192.168.64.8', mac: '12:00:00:00:00:22' }),
  );
  await turn();
  assert.deepEqual(seen.states.at(-1)?.fdb, [
    { link: 'flannel.1', mac: '12:00:00:00:00:22', destination: '192.168.64.8' },
  ]);
  assert.deepEqual(
    seen.states.at(-1)?.routes?.map(route => route.destination),
    ['10.244.7.0/24'],
  );
  overlay.setNodes([bare]);
  await turn();
  assert.deepEqual(seen.states.at(-1)?.routes, []);
});

test('without a pod CIDR it waits; when ours is lost later the kernel keeps its state', async () => {
  const { overlay, seen } = setUp();
  overlay.setNodes([{ metadata: { name: 'a' } }, b]);
  await turn();
  assert.equal(seen.states.length, 0);
  assert.match(overlay.status().reason ?? '', /pod cidr not assigned/);
  overlay.upsertNode(bare);
  await turn();
  assert.equal(seen.states.length, 1);
  overlay.upsertNode({ metadata: { name: 'a' } });
  await turn();
  assert.equal(seen.states.length, 1);
  assert.equal(overlay.status().ready, false);
});

test('a problem is reported once, and again after it was mended and came back', async () => {
  const { overlay, seen } = setUp();
  const broken = makeNode('b', { podCidrs: ['10.244.2.0/24'], publicIp: '192.168.64.2' });
  overlay.setNodes([bare, broken]);
  await turn();
  overlay.upsertNode(c);
  await turn();
  assert.equal(seen.problems.length, 1);
  overlay.upsertNode(b);
  await turn();
  overlay.upsertNode(broken);
  await turn();
  assert.equal(seen.problems.length, 2);
});

test('a refused patch is tried again', async () => {
  let attempts = 0;
  const { overlay } = setUp({
    patchNode: async () => {
      if (++attempts === 1) throw new Error('connection refused');
    },
  });
  overlay.setNodes([bare]);
  await sleep(300);
  assert.equal(attempts, 2);
  overlay.stop();
});

test('a changed host address or MTU reaches the device and the annotation', async () => {
  const { overlay, seen } = setUp();
  overlay.setNodes([bare, b]);
  await turn();
  overlay.setUnderlay({ link: 'eth0', addresses: ['192.168.64.77/24'], mtuBytes: 9000 });
  await turn();
  const device = seen.states.at(-1)?.links?.[0];
  assert.equal(device?.mtuBytes, 8950);
  assert.equal(device?.vxlan?.local, '192.168.64.77');
  assert.equal(seen.patches.at(-1)?.metadata?.annotations[`${PREFIX}/public-ip`], '192.168.64.77');
  assert.equal(seen.envs.at(-1)?.mtuBytes, 8950);
});

test('a pod network over the host network is refused at once', () => {
  assert.throws(
    () => setUp({ underlay: { link: 'eth0', addresses: ['10.244.0.5/24'], mtuBytes: 1500 } }),
    /overlaps the node's own network/,
  );
});
