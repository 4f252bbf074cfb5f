// The agent's BGP side without kernel and API server: rules of pools, addresses for the CNI plugin, garbage.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PodwireIpam } from '../../../cni/ipam/podwire/podwire-ipam.ts';
import { dispatch } from '../../../cni/runtime/dispatch.ts';
import { KeyedLocks } from '../../../cni/runtime/locks.ts';
import { readPools } from '../../../routing/bgp/calico/pools.ts';
import { allocations } from '../../../routing/ipam/block.ts';
import { NodeAddresses } from '../../../src/agent/bgp/address-source.ts';
import { IpamGarbageCollector } from '../../../src/agent/bgp/garbage-collector.ts';
import { planPoolRules } from '../../../src/agent/bgp/pool-rules.ts';
import { planConflist } from '../../../src/agent/cni-config.ts';
import type { Pod, Stored } from '../../../src/api/types.ts';
import { defaultPools } from '../../../src/lab/calico.ts';
import { Netns } from '../../../src/linux/netns.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { MemoryIpamStore } from '../../harness/ipam/memory-store.ts';

const CIDRS = ['10.244.0.0/16', 'fd00:10:244::/56'];

test('rules: pods leave pools with the node address, and stay themselves among pools', () => {
  const { pools } = readPools(defaultPools(CIDRS));
  const { xtables = [], sysctls = [] } = planPoolRules(pools, [4, 6]);
  assert.deepEqual(
    sysctls.map(({ path }) => path),
    ['net/ipv4/ip_forward', 'net/ipv6/conf/all/forwarding'],
  );
  const nat = xtables.find(({ table, family }) => table === 'nat' && family === 4);
  const comment = '-m comment --comment "podwire pools"';
  assert.deepEqual(nat?.chains[0]?.rules, [
    `-m mark --mark 0x4000/0x4000 ${comment} -j RETURN`,
    `-d 10.244.0.0/16 ${comment} -j RETURN`,
    `-d 224.0.0.0/4 ${comment} -j RETURN`,
    `-s 10.244.0.0/16 ${comment} -j MASQUERADE --random-fully`,
  ]);
  const closed = readPools([{ metadata: { name: 'p' }, spec: { cidr: '10.0.0.0/16' } }]).pools;
  const rules = planPoolRules(closed, [4]).xtables?.find(({ table }) => table === 'nat')?.chains[0]?.rules;
  assert.ok(!rules?.some(rule => rule.includes('MASQUERADE')), 'only where natOutgoing says so');
});

test('the conflist asks podwire-ipam for the families of the node', () => {
  const list = planConflist({ kind: 'routed', families: [4], mtuBytes: 1500 }) as {
    plugins: { type: string; ipam?: object }[];
  };
  assert.deepEqual(list.plugins[0]?.ipam, {
    type: 'podwire-ipam',
    assign_ipv4: 'true',
    assign_ipv6: 'false',
  });
});

function node() {
  const store = new MemoryIpamStore(defaultPools(CIDRS));
  const addresses = new NodeAddresses({
    store,
    nodeName: 'n1',
    ready: Promise.resolve(),
    nodeLabels: () => ({}),
  });
  return { store, addresses, plugin: new PodwireIpam(addresses) };
}

async function cni(plugin: PodwireIpam, command: string, id: string, config: object = {}) {
  const environment = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: id,
    CNI_NETNS: '/proc/self/ns/net',
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/none',
    CNI_ARGS: `K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-${id}`,
  };
  using netns = Netns.current();
  const answer = await dispatch(
    {
      plugin: plugin.name,
      stdin: JSON.stringify({
        cniVersion: '1.1.0',
        name: 'podwire',
        type: 'ptp',
        ipam: { type: plugin.name, assign_ipv6: 'true' },
        ...config,
      }),
      environment,
      site: () => ({
        hostNetns: netns,
        openPodNetns: () => Netns.current(),
        environment,
        plugins: new Map(),
        exe: '',
        signal: AbortSignal.timeout(5000),
        locks: new KeyedLocks(),
        log: silentLogger(),
        stderr: [],
      }),
    },
    plugin,
  );
  return { code: answer.exitCode, body: answer.stdout === '' ? {} : JSON.parse(answer.stdout) };
}

test('podwire-ipam: ADD gives both families, again the same; CHECK, DEL, GC', async () => {
  const { store, plugin } = node();
  const first = await cni(plugin, 'ADD', 'a1');
  assert.equal(first.code, 0, JSON.stringify(first.body));
  assert.deepEqual(
    first.body.ips.map((ip: { gateway: string }) => ip.gateway),
    ['169.254.1.1', 'fe80::1'],
  );
  assert.deepEqual(first.body.routes, [{ dst: '0.0.0.0/0' }, { dst: '::/0' }]);
  assert.deepEqual((await cni(plugin, 'ADD', 'a1')).body.ips, first.body.ips, 'an ADD that is repeated');
  await cni(plugin, 'ADD', 'b2');
  assert.equal((await cni(plugin, 'CHECK', 'a1')).code, 0);
  await cni(plugin, 'DEL', 'a1');
  assert.equal((await cni(plugin, 'DEL', 'a1')).code, 0, 'a DEL that is repeated');
  assert.equal((await cni(plugin, 'CHECK', 'a1')).body.code, 3);
  await cni(plugin, 'ADD', 'c3');
  await cni(plugin, 'GC', '', {
    'cni.dev/valid-attachments': [{ containerID: 'c3', ifname: 'eth0' }],
  });
  const left = (await store.blocks.list()).flatMap(({ spec }) => allocations(spec));
  assert.deepEqual([...new Set(left.map(({ handle }) => handle))], ['podwire.c3']);
});

test('podwire-ipam without an agent says so, and asks to be tried again', async () => {
  const answer = await cni(new PodwireIpam(), 'ADD', 'a1');
  assert.equal(answer.body.code, 11);
  assert.match(answer.body.msg, /node agent/);
});

test('garbage: the address of a pod that is gone comes back at the second look, others stay', async () => {
  const { store, addresses } = node();
  const pod = (name: string) => ({ metadata: { namespace: 'default', name } }) as Stored<Pod>;
  const owner = (name: string) => ({
    handle: `podwire.${name}`,
    family: 4 as const,
    attributes: { namespace: 'default', pod: name },
  });
  await addresses.assign(owner('here'));
  await addresses.assign(owner('gone'));
  const collector = new IpamGarbageCollector({
    nodeName: 'n1',
    store,
    pods: async () => [pod('here')],
    nodes: () => new Set(['n1']),
    log: silentLogger(),
    graceMs: 1000,
  });
  const handles = async () => (await addresses.handles()).toSorted();
  await collector.collect(0);
  assert.deepEqual(await handles(), ['podwire.gone', 'podwire.here']);
  await collector.collect(2000);
  assert.deepEqual(await handles(), ['podwire.here']);
  assert.equal(await store.handles.get('podwire.gone'), undefined);
});

test('garbage: blocks of a node that is gone are given up by the others, one of them at a time', async () => {
  const { store, addresses } = node();
  await addresses.assign({
    handle: 'podwire.left',
    family: 4,
    attributes: { namespace: 'default', pod: 'left' },
  });
  const collectorOf = (nodeName: string, nodes: string[]) =>
    new IpamGarbageCollector({
      nodeName,
      store,
      pods: async () => [],
      nodes: () => new Set(nodes),
      log: silentLogger(),
      intervalMs: 1000,
      graceMs: 1000,
    });
  const unsure = collectorOf('n4', []);
  for (const nowMs of [0, 2000, 4000, 6000]) await unsure.collect(nowMs);
  assert.equal((await store.blocks.list()).length, 1, 'who knows no node calls none gone');
  const still = collectorOf('n2', ['n1', 'n2', 'n3']);
  for (const nowMs of [0, 2000, 4000, 6000]) await still.collect(nowMs);
  assert.equal((await store.blocks.list()).length, 1, 'the node is there');
  const others = ['n2', 'n3'].map(name => collectorOf(name, ['n2', 'n3']));
  for (let nowMs = 0; nowMs <= 10_000; nowMs += 1000)
    await Promise.all(others.map(collector => collector.collect(nowMs)));
  assert.deepEqual(await store.blocks.list(), []);
  assert.deepEqual(await store.affinities.list(), []);
  assert.equal(await store.handles.get('podwire.left'), undefined);
});
