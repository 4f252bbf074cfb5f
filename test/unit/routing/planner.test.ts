// The planner that goes from node to node gives what a plan at one go gives, and what a walk by the rules gives.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { leaseRules, OverlayPlanner, planOverlay } from '../../../routing/plan.ts';
import { type NodeLease, readLease } from '../../../routing/subnet/annotations.ts';
import { parseNetConf } from '../../../routing/subnet/net-conf.ts';
import { type Peer, PeerSelection } from '../../../routing/subnet/peers.ts';
import { claimsOf, planSelf } from '../../../routing/subnet/self.ts';
import type { Underlay } from '../../../routing/subnet/underlay.ts';
import { NEXTHOP_OBJECTS_FROM, type PeerWays, WayTable } from '../../../routing/way-table.ts';
import { cidrsOverlap, requireCidr } from '../../../src/lib/cidr.ts';
import { makeNode, nthNode } from './node-fixtures.ts';

const PREFIX = 'flannel.alpha.coreos.com';
const UNDERLAY: Underlay = { link: 'eth0', addresses: ['192.168.64.1/24', 'fd64::1/64'], mtuBytes: 1500 };
const CONFIG = parseNetConf(
  '{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/56","Backend":{"Type":"vxlan","DirectRouting":true}}',
);
const RULES = leaseRules(CONFIG, PREFIX);
const SELF = planSelf(
  makeNode('self', { podCidrs: ['10.244.1.0/24', 'fd00:10:244:1::/64'] }),
  CONFIG,
  UNDERLAY,
  PREFIX,
);

/** Few values of everything, so that nodes collide in every way: subnets, nested subnets, MACs, our own. */
const lease = fc
  .record({
    name: fc.nat(7),
    born: fc.nat(2),
    v4: fc.constantFrom('0.0/23', '2.0/24', '2.128/25', '3.0/24', '4.0/24', '5.0/24', '4.0/22'),
    v6: fc.constantFrom('1', '2', '3', '4'),
    mac: fc.constantFrom('01', '02', '03', '04', '05'),
    ip: fc.constantFrom('192.168.64.1', '192.168.64.7', '172.16.0.9'),
    dual: fc.boolean(),
  })
  .map(({ name, born, v4, v6, mac, ip, dual }) => {
    const node = makeNode(`n${name}`, {
      podCidrs: [`10.244.${v4}`, ...(dual ? [`fd00:10:244:${v6}::/64`] : [])],
      publicIp: ip,
      publicIpv6: 'fd65::9',
      mac: `02:00:00:00:00:${mac}`,
      mac6: `02:00:00:00:06:${mac}`,
      createdAt: `2026-01-0${born + 1}T00:00:00Z`,
    });
    return { node: `n${name}`, lease: readLease(node, RULES).lease };
  });
const event = fc.oneof(
  { weight: 4, arbitrary: lease },
  { weight: 1, arbitrary: fc.nat(7).map(n => ({ node: `n${n}`, lease: undefined })) },
);

/** The rule, written as it is said: oldest first, each is taken that contradicts none taken before it. */
function takenByRule(leases: readonly NodeLease[]): string[] {
  const own = claimsOf(SELF);
  const order = leases.toSorted(
    (a, b) => a.createdAt.localeCompare(b.createdAt) || (a.node < b.node ? -1 : 1),
  );
  const taken: Peer[] = [];
  for (const peer of order.flatMap(({ families }) => families)) {
    const clash = (other: Peer): boolean =>
      cidrsOverlap(other.cidr, peer.cidr) ||
      (other.family === peer.family && other.vtep?.mac === peer.vtep?.mac);
    const ours =
      own.subnets.some(subnet => cidrsOverlap(subnet, peer.cidr)) ||
      own.publicIps.includes(peer.publicIp) ||
      own.vtepMacs.some(({ family, mac }) => family === peer.family && mac === peer.vtep?.mac);
    if (!ours && !taken.some(clash)) taken.push(peer);
  }
  return taken.map(({ node, subnet }) => `${node} ${subnet}`).sort();
}

test('node by node, in any order, the plan is that of all at once', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(event, fc.boolean()), { maxLength: 40 }), events => {
      const planner = new OverlayPlanner(CONFIG);
      planner.setSelf(SELF, UNDERLAY);
      const there = new Map<string, NodeLease>();
      for (const [{ node, lease: said }, planned] of events) {
        planner.setLease(node, said);
        if (said === undefined) there.delete(node);
        else there.set(node, said);
        if (!planned) continue;
        const step = planner.plan();
        assert.deepEqual(step, planOverlay(SELF, there.values(), CONFIG, UNDERLAY));
        const taken = step.peers.map(peer => `${peer.node} ${peer.subnet}`).sort();
        assert.deepEqual(taken, takenByRule([...there.values()]));
        const claims = [...there.values()].flatMap(({ families }) => families).length;
        assert.equal(step.problems.length, claims - step.peers.length);
      }
      const before = planner.plan();
      // A new underlay, and back: nothing of the first is left over.
      planner.setSelf(SELF, { ...UNDERLAY, link: 'eth1' });
      assert.deepEqual(
        planner.plan(),
        planOverlay(SELF, there.values(), CONFIG, { ...UNDERLAY, link: 'eth1' }),
      );
      planner.setSelf(SELF, UNDERLAY);
      assert.deepEqual(planner.plan(), before);
    }),
    { numRuns: 300 },
  );
});

test('around the number where next-hop objects begin, too', () => {
  const config = parseNetConf('{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}');
  const rules = leaseRules(config, PREFIX);
  const self = planSelf(makeNode('self', { podCidrs: ['10.255.1.0/24'] }), config, UNDERLAY, PREFIX);
  const leases = Array.from(
    { length: NEXTHOP_OBJECTS_FROM + 8 },
    (_, n) => readLease(nthNode(n), rules).lease!,
  );
  fc.assert(
    fc.property(fc.array(fc.nat(leases.length - 1), { maxLength: 30 }), switched => {
      const planner = new OverlayPlanner(config);
      planner.setSelf(self, UNDERLAY);
      const there = new Set(leases.slice(0, NEXTHOP_OBJECTS_FROM - 4));
      for (const one of there) planner.setLease(one.node, one);
      for (const n of switched) {
        const one = leases[n]!;
        if (there.delete(one)) planner.setLease(one.node, undefined);
        else {
          there.add(one);
          planner.setLease(one.node, one);
        }
        const { state } = planner.plan();
        assert.equal(state.routes?.length, there.size);
        assert.equal(state.nexthops?.length, there.size >= NEXTHOP_OBJECTS_FROM ? there.size : undefined);
      }
      assert.deepEqual(planner.plan(), planOverlay(self, there, config, UNDERLAY));
    }),
    { numRuns: 20 },
  );
});

test('two subnets with one next-hop number: the lower has it, the other a plain route, whatever the order', () => {
  const peer = (n: number): Peer => ({
    node: `n${n}`,
    family: 6,
    subnet: `fd00:0:0:${n}::/64`,
    cidr: requireCidr(`fd00:0:0:${n}::/64`),
    publicIp: `fd64::${n}`,
  });
  const ways = ({ subnet: destination }: Peer, viaNexthop: boolean): PeerWays => ({
    ...(viaNexthop && { nexthop: { id: 7, family: 6, gateway: 'fe80::1', link: 'vx' } }),
    route: { destination, protocol: 213, ...(viaNexthop ? { nexthopId: 7 } : { gateway: 'fe80::1' }) },
  });
  const peers = Array.from({ length: NEXTHOP_OBJECTS_FROM + 3 }, (_, n) => peer(n + 1));
  const holder = (table: WayTable): string | undefined => {
    const withNumber = table.state().routes?.filter(route => route.nexthopId !== undefined) ?? [];
    assert.equal(withNumber.length, 1);
    assert.equal(table.state().nexthops?.length, 1);
    return withNumber[0]?.destination;
  };
  for (const order of [peers, peers.toReversed()]) {
    const table = new WayTable(ways);
    table.change([], order.slice(0, NEXTHOP_OBJECTS_FROM));
    for (const late of order.slice(NEXTHOP_OBJECTS_FROM)) table.change([], [late]);
    assert.equal(holder(table), 'fd00:0:0:1::/64');
    table.change([peers[0]!], []);
    assert.equal(holder(table), 'fd00:0:0:2::/64');
    table.change([], [peers[0]!]);
    assert.equal(holder(table), 'fd00:0:0:1::/64');
  }
});

test('5,000 nodes that all claim one MAC are refused without taking the node away', () => {
  const config = parseNetConf('{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}');
  const self = planSelf(makeNode('self', { podCidrs: ['10.255.1.0/24'] }), config, UNDERLAY, PREFIX);
  const selection = new PeerSelection(claimsOf(self));
  const rules = leaseRules(config, PREFIX);
  const from = performance.now();
  for (let n = 0; n < 5000; n++) {
    const node = nthNode(n);
    node.metadata!.annotations![`${PREFIX}/backend-data`] = '{"VNI":1,"VtepMAC":"02:00:00:00:00:07"}';
    selection.set(node.metadata!.name!, readLease(node, rules).lease);
  }
  assert.equal(selection.settle().come.length, 1);
  selection.set('node-00000', undefined);
  assert.deepEqual(
    selection.settle().come.map(({ node }) => node),
    ['node-00001'],
  );
  assert.equal(selection.problems.length, 4998);
  assert.ok(performance.now() - from < 3000);
});
