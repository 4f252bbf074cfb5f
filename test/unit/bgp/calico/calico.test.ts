// Calico's model: selectors, names, filters, peers, services, blocks, and the plan of a node.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { blocksOfNode } from '../../../../routing/bgp/calico/blocks.ts';
import { routeShape, tunnelState } from '../../../../routing/bgp/calico/encapsulation.ts';
import { filterStatements } from '../../../../routing/bgp/calico/filters.ts';
import type { CalicoInput } from '../../../../routing/bgp/calico/input.ts';
import {
  affinityName,
  cidrName,
  parseAsNumber,
  parseDuration,
} from '../../../../routing/bgp/calico/names.ts';
import { calicoNode, routerIdOf } from '../../../../routing/bgp/calico/node-info.ts';
import { parsePeerIp } from '../../../../routing/bgp/calico/peers.ts';
import { planBgp } from '../../../../routing/bgp/calico/plan.ts';
import { readPools } from '../../../../routing/bgp/calico/pools.ts';
import { parseSelector } from '../../../../routing/bgp/calico/selector.ts';
import { PathAttributes } from '../../../../routing/bgp/packet/path-attributes.ts';
import { PrefixBatch } from '../../../../routing/bgp/packet/prefix-batch.ts';
import { evaluate } from '../../../../routing/bgp/policy/evaluate.ts';
import type { Policy } from '../../../../routing/bgp/policy/policy.ts';
import { formatCidr, requireCidr } from '../../../../src/lib/cidr.ts';
import { hasCode } from '../../../../src/lib/errors.ts';
import type { Problem } from '../../../../src/lib/problem.ts';

const node = (
  name: string,
  address: string,
  labels: Record<string, string> = {},
  more: Record<string, string> = {},
) => ({
  metadata: {
    name,
    labels,
    annotations: { 'projectcalico.org/IPv4Address': `${address}/24`, ...more },
  },
});

const block = (cidr: string, owner: string) => ({
  spec: {
    cidr,
    affinity: `host:${owner}`,
    allocations: new Array<number | null>(64).fill(null),
    unallocated: [],
    attributes: [],
    strictAffinity: false,
  },
});

const affinity = (cidr: string, owner: string, state: 'pending' | 'confirmed' = 'confirmed') => ({
  spec: { cidr, node: owner, state, deleted: 'false' },
});

const input = (changes: Partial<CalicoInput> = {}): CalicoInput => ({
  nodeName: 'a',
  nodes: [node('a', '10.1.0.1'), node('b', '10.1.0.2', { rack: '2' }), node('c', '10.2.0.3')],
  pools: [{ metadata: { name: 'default-ipv4-ippool' }, spec: { cidr: '192.168.0.0/16' } }],
  configurations: [],
  peers: [],
  filters: [],
  affinities: [affinity('192.168.1.0/26', 'a'), affinity('192.168.2.0/26', 'b')],
  blocks: [block('192.168.1.0/26', 'a'), block('192.168.2.0/26', 'b')],
  services: [],
  endpointSlices: [],
  secret: () => undefined,
  ...changes,
});

const routes = (plan: ReturnType<typeof planBgp>): string[] =>
  plan.config?.originate.map(route => formatCidr(route.cidr)) ?? [];

function verdict(
  policy: Policy,
  cidr: string,
  from: 'local' | 'internal' | 'external',
  peerKind: 'internal' | 'external',
) {
  const batch = new PrefixBatch();
  const parsed = requireCidr(cidr);
  batch.reset(parsed.family);
  batch.push(parsed);
  return evaluate(policy, {
    family: parsed.family,
    words: batch.words,
    at: 0,
    length: parsed.prefixLength,
    attributes: new PathAttributes(),
    source: { index: 1, kind: from, name: 'x', address: '', asn: 1, routerId: 1, reflectorClient: false },
    peerKind,
  });
}

test('selectors', () => {
  const labels = { a: 'x', 'k8s.io/role': 'worker' };
  const cases: [text: string, wanted: boolean][] = [
    ['', true],
    ['all()', true],
    ['has(a)', true],
    ['!has(a)', false],
    ["a == 'x'", true],
    ['a != "x"', false],
    ["a in {'x', 'y'} && has(k8s.io/role)", true],
    ["b not in {'x'}", true],
    ["(a == 'y' || k8s.io/role starts with 'work') && a contains 'x'", true],
    ["a ends with 'y'", false],
    ['!!has(a)', true],
  ];
  for (const [text, wanted] of cases) assert.equal(parseSelector(text)(labels), wanted, text);
  for (const text of ['a ==', 'has(a', 'a = b', "a in {'x'", 'all() all()', '^'])
    assert.throws(
      () => parseSelector(text),
      (e: unknown) => hasCode(e, 'INVALID_SELECTOR'),
      text,
    );
});

test('names, AS numbers, durations, peer addresses', () => {
  assert.equal(cidrName('fd00:1::/122'), 'fd00-1---122');
  assert.equal(affinityName('node-1', '10.0.0.0/26'), 'node-1-10-0-0-0-26');
  assert.equal(affinityName('n'.repeat(250), '10.0.0.0/26').length, 253);
  assert.deepEqual(
    ['65001', 65001, '1.10', '70000.1', 'x', -1].map(v => parseAsNumber(v)),
    [65001, 65001, 65546, undefined, undefined, undefined],
  );
  assert.equal(parseDuration('2m30s'), 150_000);
  assert.deepEqual(parsePeerIp('[fd00::1]:1790'), { address: 'fd00::1', port: 1790 });
  assert.deepEqual(parsePeerIp('fd00::1'), { address: 'fd00::1', port: undefined });
  assert.equal(parsePeerIp('tor.example'), undefined);
});

test('the router id of an IPv6-only node is a valid identifier (RFC 6286), whatever its name', () => {
  for (let i = 0; i < 500; i++) {
    const first = Number(routerIdOf(calicoNode({ metadata: { name: `node-${i}` } })).split('.')[0]);
    assert.ok(first >= 1 && first <= 223 && first !== 127);
  }
});

test('mesh: every other node, passive towards the greater address, own block with its blackhole, LOCAL_PREF', () => {
  const plan = planBgp(input());
  assert.deepEqual(plan.problems, []);
  assert.deepEqual(
    plan.config?.peers.map(peer => [peer.address, peer.passive, peer.asn]),
    [
      ['10.1.0.2', true, 64512],
      ['10.2.0.3', true, 64512],
    ],
  );
  assert.deepEqual(
    plan.config?.originate.map(route => [formatCidr(route.cidr), route.blackhole, route.set?.localPref]),
    [['192.168.1.0/26', true, 2147482623]],
  );
});

test('only confirmed affinities count; two owners are named and the block decides', () => {
  const pending = blocksOfNode('a', [affinity('10.0.0.0/26', 'a', 'pending')], []);
  assert.deepEqual(pending.own, []);
  const claims = [affinity('10.0.0.0/26', 'a'), affinity('10.0.0.0/26', 'b')];
  const a = blocksOfNode('a', claims, [block('10.0.0.0/26', 'b')]);
  assert.deepEqual(a.own, []);
  assert.match(a.problems[0]!.message, /a and b both claim 10\.0\.0\.0\/26; b announces it/);
  assert.equal(blocksOfNode('b', claims, [block('10.0.0.0/26', 'b')]).own.length, 1);
});

test('a borrowed address is announced by itself', () => {
  const lent = block('192.168.2.0/26', 'b');
  lent.spec.allocations[5] = 0;
  lent.spec.attributes = [{ handle_id: 'h', secondary: { node: 'a' } }] as never;
  assert.deepEqual(routes(planBgp(input({ blocks: [block('192.168.1.0/26', 'a'), lent] }))), [
    '192.168.1.0/26',
    '192.168.2.5/32',
  ]);
});

test('BGPPeers: global, by node selector, reverse; passwords that are missing hold the session back', () => {
  const tor = { metadata: { name: 'tor' }, spec: { peerIP: '10.1.0.254', asNumber: '65000' } };
  const racked = {
    metadata: { name: 'rack2' },
    spec: { nodeSelector: "rack == '2'", peerIP: '10.1.0.253', asNumber: 65000 },
  };
  const secret = {
    metadata: { name: 'secret' },
    spec: { peerIP: '10.1.0.252', asNumber: 65000, password: { secretKeyRef: { name: 's', key: 'k' } } },
  };
  const off = { metadata: { name: 'default' }, spec: { nodeToNodeMeshEnabled: false } };
  const plan = planBgp(input({ peers: [tor, racked, secret], configurations: [off] }));
  assert.deepEqual(
    plan.config?.peers.map(peer => peer.address),
    ['10.1.0.254'],
  );
  assert.deepEqual(
    plan.problems.map(problem => problem.reason),
    ['PasswordMissing'],
  );
  const reflector = {
    metadata: { name: 'rr' },
    spec: { nodeSelector: '!has(rr)', peerSelector: 'has(rr)' },
  };
  const nodes = [
    node('a', '10.1.0.1', { rr: '' }, { 'projectcalico.org/RouteReflectorClusterID': '1.0.0.1' }),
    node('b', '10.1.0.2'),
    node('c', '10.2.0.3'),
  ];
  const onReflector = planBgp(input({ nodes, peers: [reflector], configurations: [off] })).config!;
  assert.deepEqual(
    onReflector.peers.map(p => [p.address, p.reflectorClient]),
    [
      ['10.1.0.2', true],
      ['10.2.0.3', true],
    ],
  );
  const onClient = planBgp(input({ nodeName: 'b', nodes, peers: [reflector], configurations: [off] }))
    .config!;
  assert.deepEqual(
    onClient.peers.map(p => [p.address, p.reflectorClient]),
    [['10.1.0.1', undefined]],
  );
});

test('reflectors chosen by podwire: everybody with them, and nobody else with anybody', () => {
  const nodes = Array.from({ length: 12 }, (_, i) => node(`n${i}`, `10.1.0.${i + 1}`));
  const counts = nodes.map(
    one =>
      planBgp(input({ nodeName: one.metadata.name, nodes, automaticReflectorsAbove: 10 })).config!.peers
        .length,
  );
  assert.deepEqual(counts.filter(count => count === 11).length, 3);
  assert.deepEqual(counts.filter(count => count === 3).length, 9);
});

test('BFD: of a peer, of the mesh; single hop in the own subnet; what makes no sense is named and replaced', () => {
  const peer = (bfd: object) => ({
    metadata: { name: 'tor' },
    spec: { peerIP: '10.1.0.254', asNumber: 65000, bfd },
  });
  const plan = planBgp(
    input({
      configurations: [{ metadata: { name: 'default' }, spec: { nodeMeshBFD: { multiplier: 5 } } }],
      peers: [peer({ minimumSendInterval: '100ms', minimumReceiveInterval: '1.5s', hops: 'Multi' })],
    }),
  );
  const bfdOf = (address: string) => plan.config?.peers.find(one => one.address === address)?.bfd;
  assert.deepEqual(bfdOf('10.1.0.254'), { transmitMs: 100, receiveMs: 1500, multiplier: 3, multihop: true });
  const mesh = { transmitMs: 300, receiveMs: 300, multiplier: 5 };
  assert.deepEqual(bfdOf('10.1.0.2'), { ...mesh, multihop: false });
  assert.deepEqual(bfdOf('10.2.0.3'), { ...mesh, multihop: true }, 'another subnet: RFC 5883');
  const bad = planBgp(input({ peers: [peer({ minimumSendInterval: '1ms', multiplier: 0 })] }));
  assert.deepEqual(
    bad.problems.map(({ kind, name, reason }) => [kind, name, reason]),
    [['BGPPeer', 'tor', 'InvalidBFD']],
  );
  const used = bad.config?.peers.find(one => one.address === '10.1.0.254')?.bfd;
  assert.deepEqual(used, { transmitMs: 300, receiveMs: 300, multiplier: 3, multihop: false });
});

test('export: own routes and pools, nothing hidden, nothing inside our own blocks, nothing else', () => {
  const pools = [
    { metadata: { name: 'p1' }, spec: { cidr: '192.168.0.0/16' } },
    { metadata: { name: 'p2' }, spec: { cidr: '172.16.0.0/16', disableBGPExport: true } },
  ];
  const policy = planBgp(input({ pools })).config!.peers[0]!.exportPolicy!;
  const accepts = (cidr: string, from: 'local' | 'internal' | 'external') =>
    verdict(policy, cidr, from, 'internal').accept;
  assert.equal(accepts('192.168.1.0/26', 'local'), true);
  assert.equal(accepts('172.16.1.0/26', 'local'), false);
  assert.equal(accepts('192.168.9.0/26', 'internal'), true);
  assert.equal(accepts('192.168.1.7/32', 'internal'), false);
  assert.equal(accepts('0.0.0.0/0', 'external'), false);
});

test('import: our own block, and node addresses from outside, are refused; a default route from a ToR is taken', () => {
  const tor = { metadata: { name: 'tor' }, spec: { peerIP: '10.1.0.254', asNumber: 65000 } };
  const { peers } = planBgp(input({ peers: [tor] })).config!;
  const policy = peers.find(peer => peer.asn === 65000)!.importPolicy!;
  const accepts = (cidr: string) => verdict(policy, cidr, 'external', 'external').accept;
  assert.equal(accepts('192.168.1.0/26'), false);
  assert.equal(accepts('10.1.0.2/32'), false);
  assert.equal(accepts('0.0.0.0/0'), true);
});

test('import from outside: the addresses of the API server are refused, in both families; pods and others pass', () => {
  const meta = { namespace: 'default', labels: { 'kubernetes.io/service-name': 'kubernetes' } };
  const slice = (addressType: string, address: string) => ({
    metadata: { ...meta, name: `kubernetes-${addressType}` },
    addressType,
    endpoints: [{ addresses: [address] }],
  });
  const other = { ...slice('IPv4', '203.0.113.77'), metadata: { ...meta, namespace: 'shop' } };
  const services = [
    { metadata: { name: 'kubernetes', namespace: 'default' }, spec: { clusterIPs: ['10.96.0.1'] } },
  ];
  const tor = { metadata: { name: 'tor' }, spec: { peerIP: '10.1.0.254', asNumber: 65000 } };
  const endpointSlices = [slice('IPv4', '203.0.113.5'), slice('IPv6', '2001:db8::5'), other];
  const { peers } = planBgp(input({ peers: [tor], endpointSlices, services })).config!;
  const policy = peers.find(peer => peer.asn === 65000)!.importPolicy!;
  const accepts = (cidr: string) => verdict(policy, cidr, 'external', 'external').accept;
  for (const cidr of ['203.0.113.5/32', '2001:db8::5/128', '10.96.0.1/32'])
    assert.equal(accepts(cidr), false);
  for (const cidr of ['203.0.113.77/32', '203.0.113.0/24', '192.168.2.9/32'])
    assert.equal(accepts(cidr), true);
  const mesh = peers.find(peer => peer.asn !== 65000)!.importPolicy!;
  assert.equal(verdict(mesh, '203.0.113.5/32', 'internal', 'internal').accept, true);
});

test('BGPFilter: operators, lengths, operations, order, and what cannot be understood rejects', () => {
  const filter = {
    metadata: { name: 'f' },
    spec: {
      exportV4: [
        { cidr: '10.0.0.0/8', matchOperator: 'Equal', action: 'Reject' },
        {
          cidr: '10.0.0.0/8',
          matchOperator: 'In',
          prefixLength: { min: 16, max: 24 },
          action: 'Accept',
          operations: [
            { addCommunity: { value: '65000:1' } },
            { addCommunity: { value: '65000:1:2' } },
            { prependASPath: { prefix: [65001, '65002'] } },
            { setPriority: { value: 512 } },
          ],
        },
        { cidr: '172.16.0.0/12', matchOperator: 'NotIn', action: 'Reject' },
        { cidr: 'nonsense', matchOperator: 'In', action: 'Accept' },
      ],
    },
  } as const;
  const problems: Problem[] = [];
  const statements = filterStatements(
    ['f', 'absent'],
    new Map([['f', filter as never]]),
    'export',
    { kind: 'BGPPeer', name: 'p' },
    problems,
  );
  const policy: Policy = { name: 'f', statements, otherwise: 'accept' };
  const run = (cidr: string) => verdict(policy, cidr, 'internal', 'external');
  assert.equal(run('10.0.0.0/8').accept, false);
  const changed = run('10.1.0.0/16');
  assert.equal(changed.accept, true);
  assert.deepEqual(changed.attributes.communities, [65000 * 65536 + 1]);
  assert.deepEqual(changed.attributes.largeCommunities, [65000, 1, 2]);
  assert.deepEqual(changed.attributes.asPath, [{ type: 2, asns: [65001, 65002] }]);
  assert.equal(changed.attributes.localPref, 2147483647 - 512);
  assert.equal(run('10.1.1.0/25').statement, 'filter f exportV4[2]');
  assert.equal(run('172.16.1.0/24').statement, 'filter f exportV4[3] (invalid)');
  assert.deepEqual(
    problems.map(problem => problem.reason),
    ['InvalidRule', 'FilterNotFound'],
  );
});

test('services: ranges, externalTrafficPolicy Local, single addresses, excluded nodes', () => {
  const spec = {
    serviceClusterIPs: [{ cidr: '10.96.0.0/16' }],
    serviceExternalIPs: [{ cidr: '203.0.113.7/32' }],
    serviceLoadBalancerIPs: [{ cidr: '198.51.100.0/24' }],
  };
  const service = {
    metadata: { name: 's', namespace: 'd' },
    spec: {
      clusterIP: '10.96.0.9',
      clusterIPs: ['10.96.0.9'],
      externalTrafficPolicy: 'Local',
      externalIPs: ['203.0.113.7'],
    },
    status: { loadBalancer: { ingress: [{ ip: '198.51.100.4' }] } },
  };
  const slice = (nodeName: string, ready: boolean) => ({
    metadata: { name: 'e', namespace: 'd', labels: { 'kubernetes.io/service-name': 's' } },
    addressType: 'IPv4',
    endpoints: [{ addresses: ['192.168.1.2'], nodeName, conditions: { ready } }],
  });
  const announced = (nodeName: string, ready: boolean, labels = {}) =>
    routes(
      planBgp(
        input({
          nodes: [node('a', '10.1.0.1', labels)],
          affinities: [],
          configurations: [{ metadata: { name: 'default' }, spec }],
          services: [service],
          endpointSlices: [slice(nodeName, ready)],
        }),
      ),
    );
  const always = ['10.96.0.0/16', '198.51.100.0/24'];
  assert.deepEqual(announced('b', true), always);
  assert.deepEqual(announced('a', false), always);
  assert.deepEqual(announced('a', true), [
    '10.96.0.0/16',
    '10.96.0.9/32',
    '198.51.100.0/24',
    '198.51.100.4/32',
    '203.0.113.7/32',
  ]);
  assert.deepEqual(
    announced('a', true, { 'node.kubernetes.io/exclude-from-external-load-balancers': 'true' }),
    [],
  );
});

test('services: a cordoned node leaves them to others, and keeps them when there is nobody to take over', () => {
  const spec = { serviceExternalIPs: [{ cidr: '203.0.113.0/24' }] };
  const service = (policy: 'Local' | 'Cluster') => ({
    metadata: { name: 's', namespace: 'd' },
    spec: { externalTrafficPolicy: policy, externalIPs: ['203.0.113.7'] },
  });
  const cordoned = { ...node('a', '10.1.0.1'), spec: { unschedulable: true } };
  const announced = (policy: 'Local' | 'Cluster', endpointsOn: string[], others: object[]) =>
    routes(
      planBgp(
        input({
          nodes: [cordoned, ...others],
          affinities: [],
          configurations: [{ metadata: { name: 'default' }, spec }],
          services: [service(policy)],
          endpointSlices: [
            {
              metadata: { name: 'e', namespace: 'd', labels: { 'kubernetes.io/service-name': 's' } },
              addressType: 'IPv4',
              endpoints: endpointsOn.map(nodeName => ({
                addresses: ['192.168.1.2'],
                nodeName,
                conditions: { ready: true },
              })),
            },
          ],
        }),
      ),
    );
  const b = node('b', '10.1.0.2');
  const excluded = node('b', '10.1.0.2', { 'node.kubernetes.io/exclude-from-external-load-balancers': '' });
  assert.deepEqual(announced('Cluster', ['a'], [b]), []);
  assert.deepEqual(announced('Cluster', ['a'], []), ['203.0.113.0/24'], 'the only node');
  assert.deepEqual(announced('Cluster', ['a'], [excluded]), ['203.0.113.0/24'], 'the only one that may');
  assert.deepEqual(announced('Local', ['a', 'b'], [b]), [], 'b has an endpoint as well');
  assert.deepEqual(announced('Local', ['a'], [b]), ['203.0.113.7/32'], 'the only endpoints are here');
});

test('reachableBy: a route to the peer itself; what cannot be a gateway is named', () => {
  const peer = (peerIP: string, reachableBy: string) => ({
    metadata: { name: `to-${peerIP}` },
    spec: { peerIP, asNumber: 65000, reachableBy },
  });
  const plan = planBgp(input({ peers: [peer('10.9.0.1', '10.1.0.254'), peer('10.9.0.2', 'fd00::1')] }));
  assert.deepEqual(plan.waysToPeers, [{ destination: '10.9.0.1/32', gateway: '10.1.0.254' }]);
  assert.deepEqual(
    plan.problems.map(({ name, reason }) => [name, reason]),
    [['to-10.9.0.2', 'InvalidPeer']],
  );
  assert.equal(
    plan.config?.peers.filter(({ asn }) => asn === 65000).length,
    2,
    'the session is tried anyway',
  );
});

test('pools that contradict each other: the older one is used, the other one named', () => {
  const { pools, problems } = readPools([
    { metadata: { name: 'new', creationTimestamp: '2026-02-01T00:00:00Z' }, spec: { cidr: '10.0.1.0/24' } },
    { metadata: { name: 'old', creationTimestamp: '2026-01-01T00:00:00Z' }, spec: { cidr: '10.0.0.0/16' } },
    { metadata: { name: 'bad' }, spec: { cidr: '10.0.0.0' } },
  ] as never);
  assert.deepEqual(
    pools.map(pool => pool.name),
    ['old'],
  );
  assert.deepEqual(problems.map(problem => problem.reason).sort(), ['CIDROverlap', 'InvalidCIDR']);
});

test('encapsulation: IPIP CrossSubnet is plain inside the subnet; tunnels are onlink', () => {
  const { pools } = readPools([
    { metadata: { name: 'p' }, spec: { cidr: '192.168.0.0/16', ipipMode: 'CrossSubnet' } },
    { metadata: { name: 'q' }, spec: { cidr: '172.16.0.0/16', ipipMode: 'Always' } },
    { metadata: { name: 'v' }, spec: { cidr: '172.20.0.0/16', vxlanMode: 'Always' } },
  ]);
  const nodes = [
    node(
      'a',
      '10.1.0.1',
      {},
      {
        'projectcalico.org/IPv4IPIPTunnelAddr': '192.168.1.1',
        'projectcalico.org/IPv4VXLANTunnelAddr': '172.20.1.0',
      },
    ),
    node(
      'c',
      '10.2.0.3',
      {},
      {
        'projectcalico.org/IPv4VXLANTunnelAddr': '172.20.3.0',
        'projectcalico.org/VXLANTunnelMACAddr': '66:00:00:00:00:03',
      },
    ),
  ];
  const encapsulation = { nodeName: 'a', nodes, pools, underlay: { link: 'eth0', mtuBytes: 1500 } };
  const shape = routeShape(encapsulation);
  assert.equal(shape(requireCidr('192.168.2.0/26'), '10.1.0.2'), undefined);
  assert.deepEqual(shape(requireCidr('192.168.3.0/26'), '10.2.0.3'), {
    gateway: '10.2.0.3',
    link: 'tunl0',
    onlink: true,
  });
  assert.equal(shape(requireCidr('172.16.3.0/26'), '10.1.0.2')?.link, 'tunl0');
  assert.deepEqual(shape(requireCidr('172.20.3.0/26'), '10.2.0.3'), {
    gateway: '172.20.3.0',
    link: 'vxlan.calico',
    onlink: true,
  });
  const state = tunnelState(encapsulation);
  assert.deepEqual(
    state.links?.map(link => [link.name, link.mtuBytes]),
    [
      ['tunl0', 1480],
      ['vxlan.calico', 1450],
    ],
  );
  assert.deepEqual(state.fdb, [{ link: 'vxlan.calico', mac: '66:00:00:00:00:03', destination: '10.2.0.3' }]);
});
