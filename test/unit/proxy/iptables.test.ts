import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DEFAULT_IPTABLES_CONFIG, type IptablesConfig } from '../../../proxy/backend/iptables/plan/config.ts';
import { endpointChain, portChains } from '../../../proxy/backend/iptables/plan/names.ts';
import { IptablesPlanner, planIptables } from '../../../proxy/backend/iptables/plan/plan.ts';
import { quote, randomMatch } from '../../../proxy/backend/iptables/plan/rule.ts';
import { ServiceModel } from '../../../proxy/model/model.ts';
import type { EndpointSlice, Service } from '../../../src/api/types.ts';
import type { KernelState } from '../../../src/kernel/state.ts';
import { assertGolden } from '../../harness/golden.ts';
import { endpoint, service, slice } from './object-fixtures.ts';

const CONFIG: IptablesConfig = {
  ...DEFAULT_IPTABLES_CONFIG,
  localDetector: { mode: 'cidr', v4: '10.0.0.0/8', v6: 'fd00:10::/32' },
};
const P80 = { name: 'p80', port: 80 };

function plan(objects: [Service, EndpointSlice?][], config = CONFIG, families: (4 | 6)[] = [4]): KernelState {
  const model = new ServiceModel({ name: 'here' });
  for (const [svc, eps] of objects) {
    model.upsertService(svc);
    if (eps) model.upsertSlice(eps);
  }
  model.update();
  return planIptables(model.ports(), config, families);
}

/** As iptables-save would list them. */
function lines(state: KernelState, table: 'nat' | 'filter', family: 4 | 6 = 4): string[] {
  const found = state.xtables?.find(entry => entry.family === family && entry.table === table);
  return found?.chains.flatMap(chain => chain.rules.map(rule => `-A ${chain.name} ${rule}`)) ?? [];
}

/** The objects of upstream's own cleanup test, whose rules are known from there. */
const UPSTREAM: [Service, EndpointSlice][] = [
  [
    service('ns1/svc1', { clusterIP: '172.30.0.41', ports: [P80] }),
    slice('ns1/svc1', [endpoint('10.180.0.1', { node: 'here' })]),
  ],
  [
    service('ns2/svc2', {
      type: 'LoadBalancer',
      clusterIP: '172.30.0.42',
      ports: [{ ...P80, nodePort: 3001 }],
      externalIPs: ['192.168.99.22'],
      loadBalancer: [{ ip: '1.2.3.4' }],
      externalTrafficPolicy: 'Local',
      healthCheckNodePort: 30000,
    }),
    slice('ns2/svc2', [endpoint('10.180.0.2', { node: 'there' })]),
  ],
  [
    service('ns4/svc4', { clusterIP: '172.30.0.44', ports: [P80], externalIPs: ['192.168.99.33'] }),
    slice('ns4/svc4', [endpoint('10.180.0.4'), endpoint('10.180.0.5')]),
  ],
  [
    service('ns5/svc5', {
      type: 'LoadBalancer',
      clusterIP: '172.30.0.45',
      ports: [{ ...P80, nodePort: 3002 }],
      loadBalancer: [{ ip: '5.6.7.8' }],
      loadBalancerSourceRanges: ['203.0.113.0/25'],
    }),
    slice('ns5/svc5', [endpoint('10.180.0.3')]),
  ],
  [service('ns6/svc6', { clusterIP: '172.30.0.46', ports: [P80] }), slice('ns6/svc6', [])],
];

test("chain names are upstream's", () => {
  assert.equal(portChains('ns1/svc1:p80', 'tcp').cluster, 'KUBE-SVC-XPGD46QRK7WJZT7O');
  assert.equal(portChains('ns2/svc2:p80', 'tcp').external, 'KUBE-EXT-GNZBNJ2PO5MGZ6GT');
  assert.equal(portChains('ns5/svc5:p80', 'tcp').firewall, 'KUBE-FW-NUKIZ6OKUXPJNT4C');
  assert.equal(endpointChain('ns1/svc1:p80', 'tcp', '10.180.0.1:80'), 'KUBE-SEP-SXIVWICOYRO3J4NJ');
  assert.equal(endpointChain('ns4/svc4:p80', 'tcp', '10.180.0.5:80'), 'KUBE-SEP-C6EBXVWJJZMIWKLZ');
});

test('rule texts are as iptables-save prints them', () => {
  assert.equal(quote('plain-text_1'), 'plain-text_1');
  assert.equal(quote('ns/svc:p'), '"ns/svc:p"');
  assert.equal(quote('a"b'), '"a\\"b"');
  assert.equal(randomMatch(2), '-m statistic --mode random --probability 0.50000000000');
  assert.equal(randomMatch(3), '-m statistic --mode random --probability 0.33333333349');
});

test("the rules of upstream's example", () => {
  const state = plan(UPSTREAM);
  assertGolden('proxy/iptables-upstream', state);
  const nat = lines(state, 'nat');
  const filter = lines(state, 'filter');
  for (const line of [
    '-A KUBE-SERVICES -d 172.30.0.42/32 -p tcp -m comment --comment "ns2/svc2:p80 cluster IP" -m tcp --dport 80 -j KUBE-SVC-GNZBNJ2PO5MGZ6GT',
    '-A KUBE-SERVICES -d 1.2.3.4/32 -p tcp -m comment --comment "ns2/svc2:p80 loadbalancer IP" -m tcp --dport 80 -j KUBE-EXT-GNZBNJ2PO5MGZ6GT',
    '-A KUBE-NODEPORTS -p tcp -m comment --comment "ns5/svc5:p80" -m tcp --dport 3002 -j KUBE-EXT-NUKIZ6OKUXPJNT4C',
    '-A KUBE-EXT-GNZBNJ2PO5MGZ6GT -s 10.0.0.0/8 -m comment --comment "pod traffic for ns2/svc2:p80 external destinations" -j KUBE-SVC-GNZBNJ2PO5MGZ6GT',
    '-A KUBE-FW-NUKIZ6OKUXPJNT4C -s 203.0.113.0/25 -m comment --comment "ns5/svc5:p80 loadbalancer IP" -j KUBE-EXT-NUKIZ6OKUXPJNT4C',
    '-A KUBE-SVC-4SW47YFZTEDKD3PK ! -s 10.0.0.0/8 -d 172.30.0.44/32 -p tcp -m comment --comment "ns4/svc4:p80 cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ',
    '-A KUBE-SEP-C6EBXVWJJZMIWKLZ -s 10.180.0.5/32 -m comment --comment "ns4/svc4:p80" -j KUBE-MARK-MASQ',
    '-A KUBE-SEP-C6EBXVWJJZMIWKLZ -p tcp -m comment --comment "ns4/svc4:p80" -m tcp -j DNAT --to-destination 10.180.0.5:80',
  ])
    assert.ok(nat.includes(line), line);
  for (const line of [
    '-A KUBE-NODEPORTS -p tcp -m comment --comment "ns2/svc2:p80 health check node port" -m tcp --dport 30000 -j ACCEPT',
    '-A KUBE-SERVICES -d 172.30.0.46/32 -p tcp -m comment --comment "ns6/svc6:p80 has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable',
    '-A KUBE-EXTERNAL-SERVICES -d 192.168.99.22/32 -p tcp -m comment --comment "ns2/svc2:p80 has no local endpoints" -m tcp --dport 80 -j DROP',
    '-A KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment "ns2/svc2:p80 has no local endpoints" -m addrtype --dst-type LOCAL -m tcp --dport 3001 -j DROP',
    '-A KUBE-PROXY-FIREWALL -d 5.6.7.8/32 -p tcp -m comment --comment "ns5/svc5:p80 traffic not accepted by KUBE-FW-NUKIZ6OKUXPJNT4C" -m tcp --dport 80 -j DROP',
  ])
    assert.ok(filter.includes(line), line);
  assert.equal(
    nat.filter(line => line.startsWith('-A KUBE-SERVICES')).at(-1),
    '-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS',
  );
});

test('IPv6, UDP, SCTP, session affinity, node port addresses', () => {
  const state = plan(
    [
      [
        service('d/six', {
          clusterIP: 'fd00:96::1',
          ports: [{ port: 53, protocol: 'UDP' }],
          sessionAffinity: 'ClientIP',
        }),
        slice('d/six', [endpoint('fd00:10::1'), endpoint('fd00:10::2')], [{ port: 5353, protocol: 'UDP' }]),
      ],
      [
        service('d/sctp', {
          type: 'NodePort',
          clusterIP: '172.30.1.1',
          ports: [{ port: 7, protocol: 'SCTP', nodePort: 30007 }],
        }),
        slice('d/sctp', [endpoint('10.1.0.1')], [{ port: 7, protocol: 'SCTP' }]),
      ],
    ],
    {
      ...CONFIG,
      nodePortAddresses: { v4: ['192.168.1.1', '127.0.0.1'], v6: ['::1'] },
      localhostNodePorts: false,
    },
    [4, 6],
  );
  assertGolden('proxy/iptables-families', state);
});

/** Every chain that is jumped to exists, every own chain is reached, no name is over iptables' 28 characters. */
function assertConsistent(state: KernelState): void {
  for (const table of state.xtables ?? []) {
    const names = new Set(table.chains.map(chain => chain.name));
    assert.equal(names.size, table.chains.length, 'chain twice');
    const texts = [...table.chains.flatMap(chain => chain.rules), ...table.jumps.map(jump => jump.rule)];
    const targets = new Set(texts.flatMap(text => text.match(/-j (KUBE-\S+)/)?.[1] ?? []));
    for (const target of targets) assert.ok(names.has(target), `jump to ${target}, which is not there`);
    for (const name of names) {
      assert.ok(name.length <= 28, name);
      if (/^KUBE-(SVC|SVL|SEP|EXT|FW)-/.test(name)) assert.ok(targets.has(name), `${name} is never reached`);
    }
  }
}

const arbitraryEndpoint = fc
  .record({
    n: fc.integer({ min: 1, max: 6 }),
    node: fc.constantFrom('here', 'there', undefined),
    ready: fc.boolean(),
    serving: fc.boolean(),
    terminating: fc.boolean(),
    zones: fc.constantFrom(undefined, ['z1'], ['z2']),
  })
  .map(({ n, ...options }) => endpoint(`10.1.0.${n}`, options));

const arbitraryService = fc
  .record({
    n: fc.integer({ min: 1, max: 4 }),
    type: fc.constantFrom('ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'),
    internalTrafficPolicy: fc.constantFrom('Cluster', 'Local', undefined),
    externalTrafficPolicy: fc.constantFrom('Cluster', 'Local', undefined),
    sessionAffinity: fc.constantFrom('None', 'ClientIP'),
    externalIPs: fc.subarray(['192.168.9.1', '192.168.9.2', 'rubbish', '127.0.0.1']),
    loadBalancer: fc.constantFrom(
      [],
      [{ ip: '192.168.9.3' }],
      [{ hostname: 'x' }],
      [{ ip: '192.168.9.3', ipMode: 'Proxy' }],
    ),
    loadBalancerSourceRanges: fc.subarray(['10.0.0.0/8', 'rubbish', 'fd00::/8']),
    port: fc.constantFrom(80, 81, 0),
    nodePort: fc.constantFrom(30001, 30002, undefined),
    protocol: fc.constantFrom('TCP', 'UDP', 'SCTP', 'ICMP'),
    endpoints: fc.array(arbitraryEndpoint, { maxLength: 5 }),
  })
  .map(({ n, port, nodePort, protocol, endpoints, ...options }): [Service, EndpointSlice] => [
    service(`ns/s${n}`, { clusterIP: `172.30.0.${n}`, ports: [{ port, nodePort, protocol }], ...options }),
    slice(`ns/s${n}`, endpoints, [{ port: 8080, protocol }]),
  ]);

test('source ranges that let nobody in, policy Local: no chain that nothing leads to', () => {
  const options = {
    type: 'LoadBalancer',
    clusterIP: '172.30.0.1',
    ports: [{ port: 80 }],
    externalTrafficPolicy: 'Local',
    loadBalancer: [{ ip: '192.168.9.3' }],
    loadBalancerSourceRanges: ['rubbish'],
  };
  const objects: [Service, EndpointSlice] = [
    service('ns/s1', options),
    slice('ns/s1', [endpoint('10.1.0.1', { node: 'here' })], [{ port: 8080 }]),
  ];
  assertConsistent(plan([objects], CONFIG));
});

test('whatever the objects, the plan is consistent: no jump into the void, no chain unreached', () => {
  const config = fc.record({
    masqueradeAll: fc.boolean(),
    localhostNodePorts: fc.boolean(),
    localDetector: fc.constantFrom<IptablesConfig['localDetector']>(
      { mode: 'none' },
      { mode: 'bridge', interface: 'cni0' },
      { mode: 'prefix', prefix: 'veth' },
      { mode: 'cidr', v4: '10.1.0.0/16' },
    ),
  });
  fc.assert(
    fc.property(fc.array(arbitraryService, { maxLength: 5 }), config, (objects, overrides) => {
      assertConsistent(plan(objects, { ...CONFIG, ...overrides }));
    }),
    { numRuns: 300 },
  );
});

test('after any sequence of changes the incremental plan equals the plan from nothing', () => {
  const step = fc.oneof(
    arbitraryService.map(([svc, eps]) => ({ do: 'set' as const, svc, eps })),
    fc.integer({ min: 1, max: 4 }).map(n => ({ do: 'delete' as const, name: `s${n}` })),
    fc.integer({ min: 1, max: 4 }).map(n => ({ do: 'empty' as const, name: `s${n}` })),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), steps => {
      const model = new ServiceModel({ name: 'here', zone: 'z1' });
      const planner = new IptablesPlanner(CONFIG, [4]);
      const services = new Map<string, Service>();
      const slices = new Map<string, EndpointSlice>();
      for (const one of steps) {
        if (one.do === 'set') {
          model.upsertService(one.svc);
          model.upsertSlice(one.eps);
          services.set(one.svc.metadata?.name ?? '', one.svc);
          slices.set(one.svc.metadata?.name ?? '', one.eps);
        } else if (one.do === 'delete') {
          model.deleteService('ns', one.name);
          services.delete(one.name);
        } else {
          model.deleteSlice('ns', `${one.name}-1`);
          slices.delete(one.name);
        }
        for (const [id, resolved] of model.update().ports) planner.set(id, resolved);
      }
      const fresh = new ServiceModel({ name: 'here', zone: 'z1' });
      for (const svc of services.values()) fresh.upsertService(svc);
      for (const eps of slices.values()) fresh.upsertSlice(eps);
      fresh.update();
      assert.deepEqual(planner.plan(), planIptables(fresh.ports(), CONFIG, [4]));
      assert.deepEqual(
        new Set(model.problems().map(p => p.message)),
        new Set(fresh.problems().map(p => p.message)),
      );
    }),
    { numRuns: 200 },
  );
});

test('an unchanged port keeps its chains as the same objects; large clusters drop endpoint comments', () => {
  const model = new ServiceModel({ name: 'here' });
  const planner = new IptablesPlanner(CONFIG, [4]);
  const sync = (): KernelState => {
    for (const [id, resolved] of model.update().ports) planner.set(id, resolved);
    return planner.plan();
  };
  for (let n = 0; n < 3; n++) {
    model.upsertService(service(`ns/s${n}`, { clusterIP: `172.30.0.${n + 1}`, ports: [P80] }));
    model.upsertSlice(slice(`ns/s${n}`, [endpoint(`10.1.0.${n + 1}`)]));
  }
  const chain = (state: KernelState, name: string) =>
    state.xtables?.[1]?.chains.find(entry => entry.name === name);
  const { cluster } = portChains('ns/s0:p80', 'tcp');
  const before = chain(sync(), cluster);
  model.upsertSlice(slice('ns/s1', [endpoint('10.1.0.9')]));
  assert.equal(chain(sync(), cluster), before);
  model.upsertSlice(
    slice(
      'ns/s2',
      Array.from({ length: 1200 }, (_, n) => endpoint(`10.2.${n >> 8}.${n & 255}`)),
    ),
  );
  assert.ok(!chain(sync(), cluster)?.rules.some(line => line.includes(' -> ')));
});
