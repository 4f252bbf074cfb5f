import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DEFAULT_NFTABLES_CONFIG, type NftablesConfig } from '../../../proxy/backend/nftables/plan/config.ts';
import { addressKey, endpointData, vipKey } from '../../../proxy/backend/nftables/plan/key.ts';
import { OwnNames } from '../../../proxy/backend/nftables/plan/names.ts';
import { TablePlanner } from '../../../proxy/backend/nftables/plan/planner.ts';
import { assignSlots } from '../../../proxy/backend/nftables/plan/slots.ts';
import type { TableChanges, TablePlan } from '../../../proxy/backend/nftables/plan/state.ts';
import { formatRule, formatTable } from '../../../proxy/backend/nftables/plan/text.ts';
import { ServiceModel } from '../../../proxy/model/model.ts';
import type { ResolvedPort } from '../../../proxy/model/types.ts';
import { assertGolden } from '../../harness/golden.ts';
import { type Outcome, type Packet, PacketWalk } from '../../harness/nft/packet-walk.ts';
import { endpoint, type ServiceOptions, service, slice } from './object-fixtures.ts';

const CONFIG: NftablesConfig = {
  ...DEFAULT_NFTABLES_CONFIG,
  localDetector: { mode: 'cidr', v4: '10.244.0.0/16', v6: 'fd00:244::/32' },
  nodeIps: ['192.0.2.1', 'fd09::1'],
};
const NUMBERS = { TCP: 6, UDP: 17, SCTP: 132 } as const;

class Bench {
  readonly model = new ServiceModel({ name: 'here' }, [4]);
  readonly planner = new TablePlanner(4, CONFIG);

  update(): TableChanges {
    this.planner.update(this.model.update().ports);
    return this.planner.changes();
  }

  add(
    key: string,
    options: ServiceOptions,
    endpoints: string[],
    local: (ip: string) => boolean = () => true,
  ): void {
    this.model.upsertService(service(key, options));
    const { protocol, name } = options.ports![0]!;
    this.model.upsertSlice({
      ...slice(
        key,
        endpoints.map(ip => endpoint(ip, { node: local(ip) ? 'here' : 'there' })),
        [{ name, port: 8080, protocol }],
      ),
      addressType: 'IPv4',
    });
  }
}

test('a plain Service is elements only; a second one adds no chain', () => {
  const bench = new Bench();
  bench.add('a/one', { clusterIP: '10.96.0.1', ports: [{ port: 80 }] }, ['10.244.0.1', '10.244.0.2']);
  bench.update();
  bench.planner.acknowledge();
  bench.add('a/two', { clusterIP: '10.96.0.2', ports: [{ port: 80 }] }, ['10.244.0.3', '10.244.0.4']);
  const changes = bench.update();
  assert.deepEqual([changes.addChains, changes.addSets, changes.replaceRules], [[], [], []]);
  assert.deepEqual(
    [...changes.elements].map(([set, { add, del }]) => [set, add.length, del.length]),
    [
      ['endpoints-0', 1, 0],
      ['endpoints-1', 1, 0],
      ['service-ips', 1, 0],
      ['cluster-ips', 1, 0],
      ['hairpin', 2, 0],
    ],
  );
});

test('one endpoint exchanged changes one endpoint element', () => {
  const bench = new Bench();
  const options = { clusterIP: '10.96.0.1', ports: [{ port: 80 }] };
  bench.add('a/one', options, ['10.244.0.1', '10.244.0.2', '10.244.0.3']);
  bench.update();
  bench.planner.acknowledge();
  bench.add('a/one', options, ['10.244.0.3', '10.244.0.4', '10.244.0.1']);
  const { elements } = bench.update();
  assert.deepEqual([...elements.keys()].sort(), ['endpoints-1', 'hairpin']);
  assert.deepEqual(
    elements.get('endpoints-1')?.add.map(({ data }) => data),
    [endpointData('10.244.0.4', 8080)],
  );
});

test('places are kept', () => {
  assert.deepEqual(assignSlots([], ['a', 'b']), ['a', 'b']);
  assert.deepEqual(assignSlots(['a', 'b', 'c'], ['c', 'b']), ['c', 'b']);
  assert.deepEqual(assignSlots(['a', 'b', 'c'], ['b', 'c', 'd']), ['d', 'b', 'c']);
  assert.deepEqual(assignSlots(['a', 'b'], []), []);
});

test('own names tell long names apart, and are identifiers of nft', () => {
  const names = new OwnNames('ns/name:http', 'tcp');
  assert.match(names.cluster, /^service-[0-9A-F]{8}-ns\/name\/tcp\/http$/);
  assert.notEqual(names.cluster, new OwnNames('ns/name:http', 'udp').cluster);
  const longest = new OwnNames(`${'n'.repeat(63)}/${'s'.repeat(63)}:${'p'.repeat(15)}`, 'sctp');
  assert.ok(longest.endpoints(true).length < 256);
});

test('the table as text', () => {
  const bench = new Bench();
  bench.add('a/plain', { clusterIP: '10.96.0.1', ports: [{ port: 80 }] }, ['10.244.0.1', '10.244.0.2']);
  bench.add(
    'a/everything',
    {
      type: 'LoadBalancer',
      clusterIP: '10.96.0.2',
      ports: [{ name: 'dns', port: 53, nodePort: 30053, protocol: 'UDP' }],
      externalTrafficPolicy: 'Local',
      externalIPs: ['198.51.100.1'],
      loadBalancer: [{ ip: '198.51.100.2' }],
      loadBalancerSourceRanges: ['192.0.2.0/24'],
      sessionAffinity: 'ClientIP',
    },
    ['10.244.0.1', '10.244.0.2'],
    ip => ip === '10.244.0.1',
  );
  bench.add('a/none', { clusterIP: '10.96.0.3', ports: [{ port: 9, protocol: 'SCTP' }] }, []);
  bench.update();
  assertGolden('proxy/nftables-table', formatTable(bench.planner).split('\n'));
});

/** A table in memory that takes changes as the kernel does, and refuses what the kernel refuses. */
class Table {
  readonly sets = new Map<string, Map<string, string>>();
  readonly verdictMaps = new Set<string>();
  readonly chains = new Map<string, string[]>();

  apply(changes: TableChanges): void {
    for (const { name, data } of changes.addSets) {
      assert.ok(!this.sets.has(name), `set ${name} is there`);
      this.sets.set(name, new Map());
      if (data === 'verdict') this.verdictMaps.add(name);
    }
    for (const { name } of changes.addChains) {
      assert.ok(!this.chains.has(name), `chain ${name} is there`);
      this.chains.set(name, []);
    }
    for (const { name, rules } of [...changes.addChains, ...changes.replaceRules]) {
      assert.ok(this.chains.has(name), `no chain ${name}`);
      this.chains.set(
        name,
        rules.map(rule => formatRule(4, rule)),
      );
    }
    for (const [name, { add, del }] of changes.elements) {
      const set = this.sets.get(name);
      assert.ok(set, `no set ${name}`);
      for (const { key } of del) assert.ok(set.delete(key), `no element in ${name}`);
      for (const { key, data } of add) {
        assert.ok(!set.has(key), `an element of ${name} is there`);
        set.set(key, data);
      }
    }
    for (const name of changes.delChains) this.chains.set(name, []);
    for (const name of changes.delSets) assert.ok(this.sets.delete(name));
    for (const name of changes.delChains) assert.ok(this.chains.delete(name));
    this.#checkReferences();
  }

  #checkReferences(): void {
    for (const rules of this.chains.values())
      for (const rule of rules) {
        for (const [, set] of rule.matchAll(/@([^\s)]+)/g)) assert.ok(this.sets.has(set!), rule);
        for (const [, chain] of rule.matchAll(/(?:goto|jump) (\S+)/g))
          assert.ok(this.chains.has(chain!), rule);
      }
    for (const name of this.verdictMaps)
      for (const data of this.sets.get(name)?.values() ?? [])
        if (data.startsWith('goto ')) assert.ok(this.chains.has(data.slice(5)), `${name}: ${data}`);
  }

  /** The same as the plan says. */
  check(plan: TablePlan): void {
    const texts = new Map(
      [...plan.chains].map(([name, { rules }]) => [name, rules.map(rule => formatRule(4, rule))]),
    );
    assert.deepEqual(new Map([...this.chains].sort()), new Map([...texts].sort()));
    assert.deepEqual(new Map([...this.sets].sort()), new Map([...plan.elements].sort()));
  }
}

const ADDRESSES = ['10.244.0.1', '10.244.0.2', '10.244.0.3', '10.244.0.4'];

const serviceArbitrary = fc.record({
  n: fc.integer({ min: 0, max: 3 }),
  deleted: fc.boolean(),
  protocol: fc.constantFrom('TCP', 'UDP', 'SCTP'),
  type: fc.constantFrom('ClusterIP', 'NodePort', 'LoadBalancer'),
  internalTrafficPolicy: fc.constantFrom('Cluster', 'Local'),
  externalTrafficPolicy: fc.constantFrom('Cluster', 'Local'),
  sessionAffinity: fc.constantFrom('None', 'None', 'ClientIP'),
  ranges: fc.constantFrom<string[] | undefined>(
    undefined,
    ['203.0.113.0/24'],
    ['203.0.113.0/24', '192.0.2.0/24'],
  ),
  endpoints: fc.uniqueArray(fc.constantFrom(...ADDRESSES)),
  localEndpoints: fc.constantFrom(0, 1, 2),
  /** Passes from one Service to another. */
  external: fc.constantFrom<string | undefined>(undefined, '198.51.100.7'),
});
type Drawn = typeof serviceArbitrary extends fc.Arbitrary<infer T> ? T : never;

function put(bench: Bench, drawn: Drawn): void {
  const { n, protocol, type, endpoints, localEndpoints, external, ranges, ...policies } = drawn;
  if (drawn.deleted) {
    bench.model.deleteService('test', `s${n}`);
    return;
  }
  bench.add(
    `test/s${n}`,
    {
      type,
      clusterIP: `10.96.0.${n}`,
      ports: [{ port: 80, protocol, ...(type === 'ClusterIP' ? {} : { nodePort: 30000 + n }) }],
      internalTrafficPolicy: policies.internalTrafficPolicy,
      externalTrafficPolicy: policies.externalTrafficPolicy,
      sessionAffinity: policies.sessionAffinity,
      ...(external ? { externalIPs: [external] } : {}),
      ...(type === 'LoadBalancer' ? { loadBalancer: [{ ip: `198.51.100.2${n}` }] } : {}),
      ...(ranges ? { loadBalancerSourceRanges: ranges } : {}),
    },
    endpoints,
    ip => ADDRESSES.indexOf(ip) < localEndpoints,
  );
}

test('changes lead from one state to the next, whatever happens; nothing refers to what is not there', () => {
  fc.assert(
    fc.property(fc.array(fc.array(serviceArbitrary, { maxLength: 3 }), { maxLength: 8 }), rounds => {
      const bench = new Bench();
      const table = new Table();
      for (const round of [[], ...rounds]) {
        for (const drawn of round) put(bench, drawn);
        table.apply(bench.update());
        table.check(bench.planner);
        bench.planner.acknowledge();
      }
      for (let n = 0; n < 4; n++) bench.model.deleteService('test', `s${n}`);
      table.apply(bench.update());
      table.check(bench.planner);
      // What is left is shared: no element but the ways to shared chains, and the node's address.
      for (const [name, set] of table.sets)
        if (!name.endsWith('picks') && name !== 'nodeport-ips') assert.equal(set.size, 0, name);
      for (const name of table.chains.keys()) assert.doesNotMatch(name, /-[0-9A-F]{8}-/);
    }),
    { numRuns: 150 },
  );
});

const SOURCES = {
  pod: { saddr: '10.244.0.9' },
  node: { saddr: '192.0.2.1', fromNode: true },
  outside: { saddr: '203.0.113.9' },
  barred: { saddr: '198.18.0.1' },
} as const;

/** Through all hooks: firewall, translation, and what is checked after it. */
function through(plan: TablePlan, packet: Packet): Set<string> {
  const walk = (chain: string, of = packet): Outcome[] => new PacketWalk(plan, of).run(chain);
  const ends = walk('firewall-check').flatMap((outcome): Outcome[] => {
    if (outcome.verdict !== 'accept') return [outcome];
    return walk('services').flatMap((translated): Outcome[] => {
      if (translated.target !== undefined) return [translated];
      const checks = ['nodeport-endpoints-check', 'service-endpoints-check', 'cluster-ips-check'];
      for (const chain of checks) {
        const [checked] = walk(chain);
        if (checked && checked.verdict !== 'accept') return [{ ...checked, marked: false }];
      }
      return [{ ...translated, marked: false }];
    });
  });
  return new Set(
    ends.map(({ target, marked, verdict }) =>
      target === undefined
        ? verdict
        : `${Buffer.from(target, 'latin1').toString('hex')}${marked ? ' masqueraded' : ''}`,
    ),
  );
}

/** The same from the rules of Kubernetes, without a table. */
function expected(
  { port, cluster, local, internalRefusal, externalRefusal, hasEndpoints }: ResolvedPort,
  way: 'internal' | 'external' | 'load balancer',
  source: keyof typeof SOURCES,
): Set<string> {
  const to = (list: typeof cluster, masqueraded: boolean): Set<string> =>
    new Set(
      list.map(
        ({ ip, port: number }) =>
          `${Buffer.from(endpointData(ip, number), 'latin1').toString('hex')}${masqueraded ? ' masqueraded' : ''}`,
      ),
    );
  const refusal = (of: typeof internalRefusal): Set<string> => new Set([of === 'DROP' ? 'drop' : 'reject']);
  if (way === 'internal')
    return internalRefusal
      ? refusal(internalRefusal)
      : to(port.internalPolicyLocal ? local : cluster, source !== 'pod');
  if (way === 'load balancer' && port.sourceRanges && hasEndpoints) {
    const holdsNode = port.sourceRanges.includes('192.0.2.0/24');
    if (source !== 'outside' && !(source === 'node' && holdsNode)) return new Set(['drop']);
  }
  if (port.externalPolicyLocal && hasEndpoints && (source === 'pod' || source === 'node'))
    return to(cluster, source === 'node');
  if (externalRefusal) return refusal(externalRefusal);
  return port.externalPolicyLocal ? to(local, false) : to(cluster, true);
}

test('what the table does with a packet is what the Service says, for any Services', () => {
  fc.assert(
    fc.property(fc.array(serviceArbitrary, { minLength: 1, maxLength: 10 }), list => {
      const bench = new Bench();
      for (const drawn of list) {
        put(bench, drawn);
        bench.update();
      }
      for (const resolved of bench.model.ports()) {
        const { port } = resolved;
        const protocol = NUMBERS[port.protocol];
        for (const source of Object.keys(SOURCES) as (keyof typeof SOURCES)[]) {
          const ask = (daddr: string, dport: number, way: Parameters<typeof expected>[1]): void => {
            const packet: Packet = { ...SOURCES[source], daddr, dport, protocol };
            assert.deepEqual(
              through(bench.planner, packet),
              expected(resolved, way, source),
              `${source} to ${daddr}:${dport}`,
            );
          };
          ask(port.clusterIp, 80, 'internal');
          for (const ip of port.externalIps) ask(ip, 80, 'external');
          for (const ip of port.loadBalancerIps) ask(ip, 80, 'load balancer');
          if (port.nodePort) ask('192.0.2.1', port.nodePort, 'external');
        }
      }
    }),
    { numRuns: 150 },
  );
});

test('who is remembered goes where he was, from every address of the Service, as long as it is there', () => {
  const bench = new Bench();
  const put = (addresses: string[], isLocal: (ip: string) => boolean): void => {
    bench.add(
      'a/sticky',
      {
        type: 'NodePort',
        clusterIP: '10.96.0.1',
        externalIPs: ['198.51.100.7'],
        ports: [{ port: 80, nodePort: 30080 }],
        sessionAffinity: 'ClientIP',
        externalTrafficPolicy: 'Local',
      },
      addresses,
      isLocal,
    );
    bench.update();
  };
  const hex = (ip: string): string => Buffer.from(endpointData(ip, 8080), 'latin1').toString('hex');
  const client = '203.0.113.9';
  const remembered = (ip: string): Packet['remembered'] =>
    new Map([[vipKey('10.96.0.1', 'TCP', 80) + addressKey(client), endpointData(ip, 8080)]]);
  const to = (daddr: string, dport: number, ip?: string): Set<string> => {
    const packet = { saddr: client, daddr, dport, protocol: 6 };
    return through(bench.planner, ip === undefined ? packet : { ...packet, remembered: remembered(ip) });
  };
  put(ADDRESSES, ip => ip !== '10.244.0.1');
  assert.equal(to('10.96.0.1', 80).size, 4);
  assert.equal(to('192.0.2.1', 30080).size, 3);
  const masqueraded = new Set([`${hex('10.244.0.3')} masqueraded`]);
  assert.deepEqual(to('10.96.0.1', 80, '10.244.0.3'), masqueraded);
  for (const [ip, port] of [
    ['192.0.2.1', 30080],
    ['198.51.100.7', 80],
  ] as const) {
    assert.deepEqual(to(ip, port, '10.244.0.3'), new Set([hex('10.244.0.3')]));
    // Remembered at the cluster IP, but not of this node: the Local policy knows better.
    assert.equal(to(ip, port, '10.244.0.1').size, 3);
  }
  put(['10.244.0.1', '10.244.0.2'], () => true);
  assert.equal(to('10.96.0.1', 80, '10.244.0.3').size, 2);
  assert.equal(to('10.96.0.1', 80, '10.244.0.2').size, 1);
});

test('a Service with affinity has no chain and no set of its own', () => {
  const bench = new Bench();
  const sticky = (n: number): void =>
    bench.add(
      `a/s${n}`,
      { clusterIP: `10.96.0.${n}`, ports: [{ port: 80 }], sessionAffinity: 'ClientIP' },
      ADDRESSES,
    );
  sticky(1);
  bench.update();
  bench.planner.acknowledge();
  sticky(2);
  const changes = bench.update();
  assert.deepEqual([changes.addChains, changes.addSets, changes.replaceRules], [[], [], []]);
  assert.deepEqual(Object.fromEntries([...changes.elements].map(([set, { add }]) => [set, add.length])), {
    'sticky-services': 1,
    'sticky-picks': 4,
    'sticky-endpoints': 4,
    'service-ips': 1,
    'cluster-ips': 1,
  });
});

test('a number drawn among more endpoints than there are leads to the first', () => {
  const bench = new Bench();
  bench.add('a/one', { clusterIP: '10.96.0.1', ports: [{ port: 80 }] }, ADDRESSES.slice(0, 2));
  bench.add('a/more', { clusterIP: '10.96.0.2', ports: [{ port: 80 }] }, ADDRESSES);
  bench.update();
  const packet = { saddr: '10.244.0.9', daddr: '10.96.0.1', dport: 80, protocol: 6 };
  assert.deepEqual(new PacketWalk(bench.planner, packet).run('pick-3'), [
    { target: endpointData('10.244.0.1', 8080), marked: false, verdict: 'accept' },
  ]);
});

test('no detector: nothing is short-circuited, no cluster IP is masqueraded; masqueradeAll: all of them', () => {
  const rules = (config: Partial<NftablesConfig>): string[] =>
    new TablePlanner(4, { ...CONFIG, ...config }).chains
      .get('services')!
      .rules.map(rule => formatRule(4, rule));
  assert.equal(rules({ localDetector: { mode: 'none' } }).length, 2);
  assert.match(rules({ masqueradeAll: true })[0]!, /^ip daddr @cluster-ips jump mark-for-masquerade$/);
  assert.match(rules({ localDetector: { mode: 'bridge', interface: 'cni0' } })[0]!, /iifname != "cni0" jump/);
  assert.match(rules({ localDetector: { mode: 'prefix', prefix: 'veth' } })[0]!, /iifname != "veth\*" jump/);
  assert.match(rules({})[0]!, /ip saddr != 10\.244\.0\.0\/16 jump/);
});
