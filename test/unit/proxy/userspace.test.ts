// The pure parts of userspace mode: round robin and affinity, frontends of a service port, rules, ports.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PortAllocator } from '../../../proxy/backend/userspace/apply/port-allocator.ts';
import { Balancer, shuffle } from '../../../proxy/backend/userspace/plan/balancer.ts';
import { type Frontend, frontendsOf } from '../../../proxy/backend/userspace/plan/frontends.ts';
import { planUserspace } from '../../../proxy/backend/userspace/plan/plan.ts';
import { ServiceModel } from '../../../proxy/model/model.ts';
import type { ResolvedPort } from '../../../proxy/model/types.ts';
import { endpoint, type ServiceOptions, service, slice } from './object-fixtures.ts';

const LISTEN = { v4: '192.0.2.1', v6: '::' };

function balancer(affinityMs = 0): {
  next: (client?: string, again?: boolean) => string | undefined;
  set: (list: string[]) => void;
  pass: (ms: number) => void;
} {
  let [turn, now] = [0, 0];
  const made = new Balancer<string>({ turn: () => turn++, now: () => now, affinityMs });
  return {
    next: (client = '', again = false) => made.next(client, again),
    set: list => made.setEndpoints(list),
    pass: ms => {
      now += ms;
    },
  };
}

test('one after the other; without endpoints nobody', () => {
  const { next, set } = balancer();
  assert.equal(next(), undefined);
  set(['a', 'b', 'c']);
  assert.deepEqual([next(), next(), next(), next()], ['a', 'b', 'c', 'a']);
});

test('affinity: by client, renewed by use, over after its time, given up on failure', () => {
  const { next, set, pass } = balancer(1000);
  set(['a', 'b', 'c']);
  assert.deepEqual([next('x'), next('y'), next('x')], ['a', 'b', 'a']);
  pass(600);
  assert.equal(next('x'), 'a');
  pass(600);
  assert.equal(next('x'), 'a');
  assert.equal(next('y'), 'c', "y's time is over");
  assert.equal(next('x', true), 'a', 'the next turn, as it happens the same');
  assert.equal(next('x', true), 'b');
  assert.equal(next('x'), 'b');
  set(['a', 'c']);
  assert.notEqual(next('x'), 'b');
});

test('the affinity table is bounded', () => {
  let now = 0;
  const made = new Balancer<number>({ turn: () => 0, now: () => now++, affinityMs: 1e9 });
  made.setEndpoints([1]);
  for (let n = 0; n < 70_000; n++) made.next(String(n));
  assert.ok(made.clients <= 65_536);
});

test('a shuffle keeps everything', () => {
  fc.assert(
    fc.property(fc.array(fc.integer()), list => {
      assert.deepEqual([...shuffle(list)].sort(), [...list].sort());
    }),
  );
});

function resolve(
  options: ServiceOptions,
  endpoints = [endpoint('10.0.0.1', { node: 'here' })],
): ResolvedPort {
  const model = new ServiceModel({ name: 'here' });
  model.upsertService(service('ns/svc', { clusterIP: '10.96.0.1', ports: [{ port: 80 }], ...options }));
  const [{ name, protocol } = {}] = options.ports ?? [];
  model.upsertSlice(slice('ns/svc', endpoints, [{ name, port: 8080, protocol }]));
  model.update();
  const [first] = model.ports();
  assert.ok(first);
  return first;
}

test('one frontend while the policies agree, two when they differ', () => {
  const cluster = frontendsOf(
    resolve({ type: 'NodePort', ports: [{ port: 80, nodePort: 30080 }], externalIPs: ['198.51.100.1'] }),
  );
  assert.deepEqual(
    cluster.map(({ key, portals }) => ({ key, portals })),
    [
      {
        key: '4 ns/svc TCP all',
        portals: [{ ip: '10.96.0.1', port: 80 }, { port: 30080 }, { ip: '198.51.100.1', port: 80 }],
      },
    ],
  );
  const local = frontendsOf(
    resolve(
      {
        type: 'NodePort',
        ports: [{ port: 80, nodePort: 30080 }],
        externalTrafficPolicy: 'Local',
      },
      [endpoint('10.0.0.1', { node: 'elsewhere' })],
    ),
  );
  assert.deepEqual(
    local.map(({ key, refusal, endpoints }) => ({ key, refusal, endpoints: endpoints.length })),
    [
      { key: '4 ns/svc TCP internal', refusal: undefined, endpoints: 1 },
      { key: '4 ns/svc TCP external', refusal: 'DROP', endpoints: 0 },
    ],
  );
});

test('SCTP has no relay', () => {
  assert.deepEqual(frontendsOf(resolve({ ports: [{ port: 80, protocol: 'SCTP' }] })), []);
});

function plan(frontends: Frontend[], listen = LISTEN): Record<string, readonly string[]> {
  const served = frontends.map((frontend, index) => ({ frontend, proxyPort: 41_000 + index }));
  const { xtables = [] } = planUserspace(served, { families: [4], listen });
  return Object.fromEntries(xtables.flatMap(({ chains }) => chains.map(({ name, rules }) => [name, rules])));
}

test('rules: cluster IP, load balancer for some sources, node port, the way in', () => {
  const rules = plan(
    frontendsOf(
      resolve({
        type: 'LoadBalancer',
        ports: [{ port: 80, nodePort: 30080 }],
        loadBalancer: [{ ip: '203.0.113.9' }],
        loadBalancerSourceRanges: ['198.51.100.0/24'],
      }),
    ),
  );
  const portals = [
    '-d 10.96.0.1/32 -p tcp -m comment --comment "ns/svc" -m tcp --dport 80 -j DNAT --to-destination 192.0.2.1:41000',
    '-s 198.51.100.0/24 -d 203.0.113.9/32 -p tcp -m comment --comment "ns/svc" -m tcp --dport 80 -j DNAT --to-destination 192.0.2.1:41000',
  ];
  const nodePorts = [
    '-p tcp -m comment --comment "ns/svc" -m tcp --dport 30080 -j DNAT --to-destination 192.0.2.1:41000',
  ];
  assert.deepEqual(rules, {
    'KUBE-PORTALS-CONTAINER': portals,
    'KUBE-PORTALS-HOST': portals,
    'KUBE-NODEPORT-CONTAINER': nodePorts,
    'KUBE-NODEPORT-HOST': nodePorts,
    'KUBE-NODEPORT-NON-LOCAL': [
      '-p tcp -m comment --comment "ns/svc" -m conntrack --ctstate NEW -m tcp --dport 41000 -j ACCEPT',
    ],
    'KUBE-PORTALS-FIREWALL': [
      '-d 203.0.113.9/32 -p tcp -m comment --comment "ns/svc not in loadBalancerSourceRanges" -m tcp --dport 80 -j DROP',
    ],
  });
});

test('rules: a Service without endpoints is refused at its port; REDIRECT where every address listens', () => {
  const rules = plan(frontendsOf(resolve({ ports: [{ port: 53, protocol: 'UDP' }] }, [])), {
    v4: '0.0.0.0',
    v6: '::',
  });
  assert.match(rules['KUBE-PORTALS-HOST']?.[0] ?? '', /--dport 53 -j REDIRECT --to-ports 41000$/);
  assert.match(
    rules['KUBE-NODEPORT-NON-LOCAL']?.[0] ?? '',
    /--dport 41000 -j REJECT --reject-with icmp-port-unreachable$/,
  );
});

test('ports of a range: each once, a used one never, a returned one after its rest', () => {
  let now = 0;
  const ports = new PortAllocator({ first: 100, last: 103 }, () => now);
  const all = [...ports.candidates()];
  assert.deepEqual([...all].sort(), [100, 101, 102, 103]);
  ports.take(101);
  assert.ok(![...ports.candidates()].includes(101));
  ports.give(101);
  assert.ok(![...ports.candidates()].includes(101));
  now = 500;
  assert.ok([...ports.candidates()].includes(101));
  assert.deepEqual([...new PortAllocator().candidates()], [0]);
});
