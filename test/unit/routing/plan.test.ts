import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { leaseRules, type OverlayPlan, OverlayPlanner, planOverlay } from '../../../routing/plan.ts';
import { readLease } from '../../../routing/subnet/annotations.ts';
import { type NetConf, parseNetConf } from '../../../routing/subnet/net-conf.ts';
import { planSelf } from '../../../routing/subnet/self.ts';
import type { Underlay } from '../../../routing/subnet/underlay.ts';
import { NEXTHOP_OBJECTS_FROM } from '../../../routing/way-table.ts';
import type { Node } from '../../../src/api/types.ts';
import type { Problem } from '../../../src/lib/problem.ts';
import { assertGolden } from '../../harness/golden.ts';
import { makeNode, nthNode } from './node-fixtures.ts';

const PREFIX = 'flannel.alpha.coreos.com';
const UNDERLAY: Underlay = { link: 'eth0', addresses: ['192.168.64.1/24', 'fd64::1/64'], mtuBytes: 1500 };
const V4 = parseNetConf('{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}');
const DUAL = parseNetConf(
  '{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/56","Backend":{"Type":"vxlan","DirectRouting":true}}',
);
const SELF = makeNode('a', {
  podCidrs: ['10.244.1.0/24', 'fd00:10:244:1::/64'],
  mac: '12:00:00:00:00:01',
  mac6: '12:00:00:00:06:01',
});
const B = makeNode('b', {
  podCidrs: ['10.244.2.0/24', 'fd00:10:244:2::/64'],
  publicIp: '192.168.64.2',
  publicIpv6: 'fd64::2',
  mac: '12:c6:65:89:b4:e3',
  mac6: '12:c6:65:89:b4:e6',
});
const FAR = makeNode('far', {
  podCidrs: ['10.244.3.0/24'],
  publicIp: '172.16.0.3',
  mac: '12:c6:65:89:b4:03',
});

function plan(
  nodes: Node[],
  config: NetConf = V4,
  self: Node = SELF,
  underlay = UNDERLAY,
): OverlayPlan & { problems: Problem[] } {
  const rules = leaseRules(config, PREFIX);
  const readings = nodes.map(node => readLease(node, rules));
  const result = planOverlay(
    planSelf(self, config, underlay, PREFIX),
    readings.flatMap(reading => reading.lease ?? []),
    config,
    underlay,
  );
  return { ...result, problems: [...readings.flatMap(reading => reading.problems), ...result.problems] };
}

test("vxlan, IPv4: flannel's device, neighbour, FDB entry, onlink route and rules", () => {
  const { state, problems, mtuBytes } = plan([B, FAR]);
  assert.deepEqual(problems, []);
  assert.equal(mtuBytes, 1450);
  assertGolden('routing/vxlan-v4', state);
});

test('vxlan, dual stack with DirectRouting: plain routes on our link, the tunnel across the router', () => {
  const { state, problems, mtuBytes } = plan([B, FAR], DUAL);
  assert.deepEqual(problems, []);
  assert.equal(mtuBytes, 1430);
  assertGolden('routing/vxlan-dual-direct', state);
});

test('host-gw: plain routes; a peer behind a router is its own problem', () => {
  const config = parseNetConf('{"Network":"10.244.0.0/16","Backend":{"Type":"host-gw"}}');
  const nodes = [B, FAR].map(node => structuredClone(node));
  for (const node of nodes) node.metadata!.annotations![`${PREFIX}/backend-type`] = 'host-gw';
  const { state, problems, mtuBytes } = plan(nodes, config);
  assert.equal(mtuBytes, 1500);
  assert.deepEqual(state.routes, [
    { destination: '10.244.2.0/24', gateway: '192.168.64.2', link: 'eth0', protocol: 213 },
  ]);
  assert.deepEqual(
    problems.map(problem => [problem.name, problem.reason]),
    [['far', 'NotDirectlyReachable']],
  );
});

test('ipip: one tunnel device, the peer itself as the onlink gateway; plain on our link with DirectRouting', () => {
  const config = parseNetConf('{"Network":"10.244.0.0/16","Backend":{"Type":"ipip","DirectRouting":true}}');
  const nodes = [B, FAR].map(node => structuredClone(node));
  for (const node of nodes) node.metadata!.annotations![`${PREFIX}/backend-type`] = 'ipip';
  const { state, problems, mtuBytes } = plan(nodes, config);
  assert.deepEqual(problems, []);
  assert.equal(mtuBytes, 1480);
  assert.deepEqual(state.links, [
    {
      name: 'flannel.ipip',
      kind: 'ipip',
      up: true,
      mtuBytes: 1480,
      alias: 'podwire:overlay',
      ipip: { local: '192.168.64.1' },
    },
  ]);
  assert.deepEqual(state.addresses, [{ link: 'flannel.ipip', address: '10.244.1.0/32' }]);
  assert.deepEqual(state.routes, [
    { destination: '10.244.2.0/24', gateway: '192.168.64.2', protocol: 213, link: 'eth0' },
    {
      destination: '10.244.3.0/24',
      gateway: '172.16.0.3',
      protocol: 213,
      link: 'flannel.ipip',
      onlink: true,
    },
  ]);
});

test('a bad peer is left out with a reason, the others are untouched', () => {
  const bad: [string, string, Parameters<typeof makeNode>[1]][] = [
    ['no data', 'BadBackendData', { podCidrs: ['10.244.9.0/24'], publicIp: '192.168.64.9' }],
    [
      'bad JSON',
      'BadBackendData',
      {
        podCidrs: ['10.244.9.0/24'],
        publicIp: '192.168.64.9',
        annotations: { [`${PREFIX}/backend-data`]: '{"VNI":1,' },
      },
    ],
    [
      'bad MAC',
      'BadBackendData',
      { podCidrs: ['10.244.9.0/24'], publicIp: '192.168.64.9', mac: 'zz:00:00:00:00:09' },
    ],
    [
      'multicast MAC',
      'BadBackendData',
      { podCidrs: ['10.244.9.0/24'], publicIp: '192.168.64.9', mac: '01:00:5e:00:00:01' },
    ],
    [
      'other VNI',
      'BadBackendData',
      { podCidrs: ['10.244.9.0/24'], publicIp: '192.168.64.9', mac: '12:00:00:00:00:09', vni: 2 },
    ],
    [
      'null data',
      'BadBackendData',
      {
        podCidrs: ['10.244.9.0/24'],
        publicIp: '192.168.64.9',
        annotations: { [`${PREFIX}/backend-data`]: 'null' },
      },
    ],
    [
      'bad IP',
      'BadPublicIP',
      { podCidrs: ['10.244.9.0/24'], publicIp: '192.168.64.999', mac: '12:00:00:00:00:09' },
    ],
    ['no IP', 'BadPublicIP', { podCidrs: ['10.244.9.0/24'], mac: '12:00:00:00:00:09' }],
    [
      'loopback',
      'BadPublicIP',
      { podCidrs: ['10.244.9.0/24'], publicIp: '127.0.0.1', mac: '12:00:00:00:00:09' },
    ],
    [
      'multicast',
      'BadPublicIP',
      { podCidrs: ['10.244.9.0/24'], publicIp: '224.0.0.1', mac: '12:00:00:00:00:09' },
    ],
    [
      'wrong family',
      'BadPublicIP',
      { podCidrs: ['10.244.9.0/24'], publicIp: 'fd64::9', mac: '12:00:00:00:00:09' },
    ],
    [
      'our address',
      'OverlayConflict',
      { podCidrs: ['10.244.9.0/24'], publicIp: '192.168.64.1', mac: '12:00:00:00:00:09' },
    ],
    [
      'our MAC',
      'OverlayConflict',
      { podCidrs: ['10.244.9.0/24'], publicIp: '192.168.64.9', mac: '12:00:00:00:00:01' },
    ],
    [
      'our subnet',
      'OverlayConflict',
      { podCidrs: ['10.244.1.0/24'], publicIp: '192.168.64.9', mac: '12:00:00:00:00:09' },
    ],
    [
      'around our subnet',
      'OverlayConflict',
      { podCidrs: ['10.244.0.0/20'], publicIp: '192.168.64.9', mac: '12:00:00:00:00:09' },
    ],
    [
      'inside our subnet',
      'OverlayConflict',
      { podCidrs: ['10.244.1.128/25'], publicIp: '192.168.64.9', mac: '12:00:00:00:00:09' },
    ],
    [
      'the whole network',
      'BadPodCIDR',
      { podCidrs: ['10.244.0.0/16'], publicIp: '192.168.64.9', mac: '12:00:00:00:00:09' },
    ],
    [
      'outside',
      'BadPodCIDR',
      { podCidrs: ['10.9.1.0/24'], publicIp: '192.168.64.9', mac: '12:00:00:00:00:09' },
    ],
    [
      'not a network',
      'BadPodCIDR',
      { podCidrs: ['10.244.9.0/33'], publicIp: '192.168.64.9', mac: '12:00:00:00:00:09' },
    ],
    [
      'other backend',
      'BackendMismatch',
      { podCidrs: ['10.244.9.0/24'], backendType: 'host-gw', publicIp: '192.168.64.9' },
    ],
    [
      "b's subnet",
      'OverlayConflict',
      { podCidrs: ['10.244.2.0/24'], publicIp: '192.168.64.9', mac: '12:00:00:00:00:09' },
    ],
    [
      "b's MAC",
      'OverlayConflict',
      { podCidrs: ['10.244.9.0/24'], publicIp: '192.168.64.9', mac: '12:c6:65:89:b4:e3' },
    ],
  ];
  const good = plan([B, FAR]).state;
  for (const [what, reason, options] of bad) {
    const evil = makeNode('evil', { ...options, createdAt: '2026-06-01T00:00:00Z' });
    const { state, problems } = plan([evil, B, FAR]);
    assert.deepEqual(
      problems.map(problem => [problem.name, problem.reason]),
      [['evil', reason]],
      what,
    );
    assert.deepEqual(state, good, what);
  }
});

test('a node without flannel annotations takes no part and is no problem', () => {
  const { state, problems } = plan([{ metadata: { name: 'plain' }, spec: { podCIDR: '10.244.7.0/24' } }]);
  assert.deepEqual(problems, []);
  assert.deepEqual(state.routes, []);
});

test('one bad family of a dual-stack node leaves the other alone', () => {
  const half = structuredClone(B);
  half.metadata!.annotations![`${PREFIX}/backend-v6-data`] = 'rubbish';
  const { peers, problems } = plan([half], DUAL);
  assert.deepEqual(
    peers.map(peer => peer.subnet),
    ['10.244.2.0/24'],
  );
  assert.equal(problems.length, 1);
});

test('public-ip-overwrite wins over public-ip', () => {
  const nat = structuredClone(B);
  nat.metadata!.annotations![`${PREFIX}/public-ip-overwrite`] = '203.0.113.7';
  assert.equal(plan([nat]).state.fdb?.[0]?.destination, '203.0.113.7');
});

test('our own node: pod CIDR missing or outside is one clear sentence', () => {
  assert.throws(() => plan([], V4, makeNode('a')), /node "a" pod cidr not assigned/);
  assert.throws(
    () => plan([], V4, makeNode('a', { podCidrs: ['10.9.0.0/24'] })),
    /doesn't contain "10.9.0.0\/24" PodCIDR of the "a" node/,
  );
  assert.throws(
    () => plan([], V4, SELF, { ...UNDERLAY, addresses: ['fd64::1/64'] }),
    /eth0 has no IPv4 address/,
  );
});

test('the VTEP MAC of our annotation is kept; a new node gets one from its name', () => {
  assert.equal(plan([]).state.links?.[0]?.mac, '12:00:00:00:00:01');
  const fresh = plan([], V4, makeNode('a', { podCidrs: ['10.244.1.0/24'] })).state.links?.[0]?.mac;
  assert.match(fresh ?? '', /^[0-9a-f][26ae](:[0-9a-f]{2}){5}$/);
  assert.equal(plan([], V4, makeNode('a', { podCidrs: ['10.244.1.0/24'] })).state.links?.[0]?.mac, fresh);
});

test('the order of the nodes does not matter', () => {
  const config = parseNetConf('{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}');
  const self = makeNode('a', { podCidrs: ['10.244.1.0/24'] });
  const nodes = Array.from({ length: 40 }, (_, n) => nthNode(n));
  const expected = plan(nodes, config, self);
  fc.assert(
    fc.property(fc.shuffledSubarray(nodes, { minLength: 40 }), shuffled => {
      assert.deepEqual(plan(shuffled, config, self), expected);
    }),
    { numRuns: 20 },
  );
});

test("whatever annotations say, peers never claim our subnet, each other's, or anything outside the network", () => {
  const text = fc.oneof(
    fc.string(),
    fc.constantFrom('', 'null', '{}', '{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}'),
  );
  const cidr = fc
    .tuple(fc.nat(3), fc.constantFrom(16, 20, 24, 25, 40))
    .map(([n, length]) => `10.244.${n}.0/${length}`);
  const node = fc.record({
    cidrs: fc.array(fc.oneof(cidr, fc.string()), { maxLength: 2 }),
    ip: fc.oneof(fc.ipV4(), text),
    data: text,
  });
  fc.assert(
    fc.property(fc.array(node, { maxLength: 6 }), nodes => {
      const { state } = plan(
        nodes.map(({ cidrs, ip, data }, n) =>
          makeNode(`n${n}`, {
            podCidrs: cidrs,
            publicIp: ip,
            annotations: { [`${PREFIX}/backend-data`]: data },
          }),
        ),
      );
      const routes = state.routes ?? [];
      for (const route of routes) {
        assert.match(route.destination, /^10\.244\./);
        assert.notEqual(route.destination, '10.244.1.0/24');
      }
      assert.equal(new Set(routes.map(route => route.destination)).size, routes.length);
      assert.equal(new Set(state.fdb?.map(entry => entry.mac)).size, state.fdb?.length);
    }),
  );
});

test('5,000 peers are planned in well under a second', () => {
  const config = parseNetConf('{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}');
  const nodes = Array.from({ length: 5000 }, (_, n) => nthNode(n));
  const { state } = plan(nodes, config, makeNode('a', { podCidrs: ['10.255.1.0/24'] }));
  assert.equal(state.routes?.length, 5000);
  // So many go through next-hop objects, each with a number of its own.
  assert.equal(state.nexthops?.length, 5000);
  const ids = new Set(state.nexthops?.map(nexthop => nexthop.id));
  assert.equal(ids.size, 5000);
  assert.ok(state.routes?.every(route => ids.has(route.nexthopId ?? 0) && route.gateway === undefined));
});

test('crossing the number of peers where next-hop objects begin, and back', () => {
  const config = parseNetConf('{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}');
  const self = planSelf(makeNode('a', { podCidrs: ['10.255.1.0/24'] }), config, UNDERLAY, PREFIX);
  const rules = leaseRules(config, PREFIX);
  const leases = Array.from({ length: NEXTHOP_OBJECTS_FROM }, (_, n) => readLease(nthNode(n), rules).lease!);
  const planner = new OverlayPlanner(config);
  planner.setSelf(self, UNDERLAY);
  const at = (count: number) => {
    for (const [n, lease] of leases.entries()) planner.setLease(lease.node, n < count ? lease : undefined);
    return planner.plan().state;
  };
  const few = at(NEXTHOP_OBJECTS_FROM - 1);
  assert.equal(few.nexthops, undefined);
  assert.ok(few.routes?.every(route => route.gateway !== undefined && route.onlink));
  const many = at(NEXTHOP_OBJECTS_FROM);
  assert.equal(many.nexthops?.length, NEXTHOP_OBJECTS_FROM);
  assert.equal(at(NEXTHOP_OBJECTS_FROM).routes?.[7], many.routes?.[7]);
  assert.deepEqual(at(NEXTHOP_OBJECTS_FROM - 1), few);
});
