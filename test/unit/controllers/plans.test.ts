// The pure parts: bounds, hashes, proportions, ranking, endpoint slices, subnets, taints.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { EndpointSlice, Pod, ReplicaSet, Stored } from '../../../src/api/types.ts';
import { CidrAllocator } from '../../../src/controllers/cidr-allocator.ts';
import {
  proportionalSizes,
  rollingBounds,
  scaledValue,
  templateHash,
} from '../../../src/controllers/deployment-plan.ts';
import { planEndpointSlices, type SlicePlan } from '../../../src/controllers/endpoint-slice-plan.ts';
import { planEndpoints } from '../../../src/controllers/endpoints-plan.ts';
import { desiredTaints, evictionTimeMs } from '../../../src/controllers/node-health.ts';
import { rankForDeletion } from '../../../src/controllers/replica-plan.ts';
import { selectBackends, TriggerTimes } from '../../../src/controllers/service-backends.ts';
import { makeDeployment, makePod, makeService } from './objects.ts';

test('maxSurge rounds up, maxUnavailable down, both never zero', () => {
  assert.equal(scaledValue('25%', 10, true), 3);
  assert.equal(scaledValue('25%', 10, false), 2);
  assert.deepEqual(rollingBounds(makeDeployment('d', 10)), { maxSurge: 3, maxUnavailable: 2 });
  const none = { type: 'RollingUpdate', rollingUpdate: { maxSurge: 0, maxUnavailable: '1%' } };
  assert.deepEqual(rollingBounds(makeDeployment('d', 10, 'i', { strategy: none })), {
    maxSurge: 0,
    maxUnavailable: 1,
  });
});

test('the template hash: stable, blind to the order of members, different after a collision', () => {
  const a = { metadata: { labels: { x: '1', y: '2' } }, spec: { containers: [] } };
  const b = { spec: { containers: [] }, metadata: { labels: { y: '2', x: '1' } } };
  assert.equal(templateHash(a, undefined), templateHash(b, undefined));
  assert.notEqual(templateHash(a, undefined), templateHash(a, 1));
  assert.match(templateHash(a, undefined), /^[bcdfghjklmnpqrstvwxz2456789]{1,10}$/);
});

test('scaling in the middle of a roll-out keeps the proportions', () => {
  const set = (name: string, replicas: number, max: number): Stored<ReplicaSet> => ({
    metadata: {
      name,
      uid: name,
      resourceVersion: '1',
      creationTimestamp: `2026-01-0${name}T00:00:00Z`,
      annotations: { 'deployment.kubernetes.io/max-replicas': String(max) },
    },
    spec: { replicas, selector: {} },
  });
  const sized = (deploymentReplicas: number) =>
    proportionalSizes(makeDeployment('d', deploymentReplicas), [set('1', 8, 13), set('2', 5, 13)]).map(
      ({ replicas }) => replicas,
    );
  assert.deepEqual(sized(20), [15, 10]);
  assert.deepEqual(sized(5), [4, 3]);
  assert.deepEqual(sized(0), [0, 0]);
});

test('the first pods to go are those that serve least', () => {
  const pod = (name: string, change: Partial<Stored<Pod>> = {}) => ({
    ...makePod(name, { ip: '10.0.0.1' }),
    ...change,
  });
  const unplaced = pod('unplaced', { spec: { containers: [] } });
  const pending = pod('pending', { status: { phase: 'Pending' } });
  const unready = makePod('unready', { ready: false });
  const cheap = pod('cheap');
  cheap.metadata.annotations = { 'controller.kubernetes.io/pod-deletion-cost': '-5' };
  const doubled = pod('doubled');
  const alone = makePod('alone', { node: 'node-2' });
  const all = [alone, doubled, cheap, unready, pending, unplaced];
  assert.deepEqual(
    rankForDeletion(all, all).map(({ metadata }) => metadata.name),
    ['unplaced', 'pending', 'unready', 'cheap', 'doubled', 'alone'],
  );
});

function store(plan: SlicePlan, before: Stored<EndpointSlice>[] = []): Stored<EndpointSlice>[] {
  const gone = new Set(plan.delete.map(({ metadata }) => metadata.name));
  const updated = new Map(plan.update.map(slice => [slice.metadata.name, slice]));
  const kept = before
    .filter(({ metadata }) => !gone.has(metadata.name))
    .map(slice => updated.get(slice.metadata.name) ?? slice);
  const created = plan.create.map((slice, index) => {
    const name = `${slice.metadata?.generateName}${before.length + index}`;
    return { ...slice, metadata: { ...slice.metadata, name, uid: name, resourceVersion: '1' } };
  });
  return [...kept, ...created];
}

function plan(
  service: ReturnType<typeof makeService>,
  pods: Stored<Pod>[],
  existing: Stored<EndpointSlice>[] = [],
): SlicePlan {
  const nodeOf = () => ({ metadata: { labels: { 'topology.kubernetes.io/zone': 'z1' } } });
  const backends = selectBackends(service, pods);
  return planEndpointSlices({ service, backends, nodeOf, existing, triggerTime: '2026-01-01T00:00:00Z' });
}

test('an endpoint says all that proxies want to know', () => {
  const { create } = plan(makeService('svc'), [
    makePod('a', { ip: '10.0.0.1' }),
    makePod('b', { ip: '10.0.0.2', ready: false }),
    makePod('c', { ip: '10.0.0.3', deleting: true }),
    makePod('no-address'),
    makePod('other', { ip: '10.0.0.4', labels: { app: 'other' } }),
  ]);
  assert.equal(create.length, 1);
  assert.deepEqual(create[0]?.ports, [{ name: 'http', protocol: 'TCP', port: 8080 }]);
  assert.deepEqual(create[0]?.metadata?.labels, {
    'kubernetes.io/service-name': 'svc',
    'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
  });
  assert.deepEqual(
    create[0]?.endpoints.map(({ addresses, conditions, nodeName, zone }) => [
      addresses[0],
      conditions,
      nodeName,
      zone,
    ]),
    [
      ['10.0.0.1', { ready: true, serving: true, terminating: false }, 'node-1', 'z1'],
      ['10.0.0.2', { ready: false, serving: false, terminating: false }, 'node-1', 'z1'],
      ['10.0.0.3', { ready: false, serving: true, terminating: true }, 'node-1', 'z1'],
    ],
  );
});

test('dual stack, headless, publishNotReadyAddresses, named ports that differ, no backends', () => {
  const dual = makeService('svc', { ipFamilies: ['IPv4', 'IPv6'] });
  const both = plan(dual, [makePod('a', { ips: ['10.0.0.1', 'fd00::1'] })]).create;
  assert.deepEqual(
    both.map(slice => [slice.addressType, slice.endpoints[0]?.addresses[0]]),
    [
      ['IPv4', '10.0.0.1'],
      ['IPv6', 'fd00::1'],
    ],
  );
  const headless = makeService('svc', {
    clusterIP: 'None',
    publishNotReadyAddresses: true,
    ports: undefined,
  });
  const [slice] = plan(headless, [makePod('a', { ip: '10.0.0.1', ready: false })]).create;
  assert.equal(slice?.metadata?.labels?.['service.kubernetes.io/headless'], '');
  assert.deepEqual(slice?.endpoints[0]?.conditions, { ready: true, serving: false, terminating: false });
  assert.deepEqual(slice?.ports, []);
  const odd = makePod('odd', { ip: '10.0.0.2' });
  odd.spec = { containers: [{ name: 'c', ports: [{ name: 'http', containerPort: 9090 }] }] };
  const ports = plan(makeService('svc'), [makePod('a', { ip: '10.0.0.1' }), odd]).create.map(
    ({ ports: own }) => own?.[0]?.port,
  );
  assert.deepEqual(ports, [8080, 9090]);
  assert.deepEqual(plan(makeService('svc'), []).create[0]?.endpoints, []);
});

test('slices hold at most 100; changes touch only what they must', () => {
  const service = makeService('svc');
  const pods = Array.from({ length: 250 }, (_, i) => makePod(`p${i}`, { ip: `10.0.${i >> 8}.${i & 255}` }));
  const first = store(plan(service, pods));
  assert.deepEqual(
    first.map(slice => slice.endpoints.length),
    [100, 100, 50],
  );
  const quiet = plan(service, pods, first);
  assert.deepEqual([quiet.create.length, quiet.update.length, quiet.delete.length], [0, 0, 0]);
  const flipped = pods.map((pod, index) =>
    index === 120 ? makePod('p120', { ip: '10.0.0.120', ready: false }) : pod,
  );
  const one = plan(service, flipped, first);
  assert.deepEqual([one.create.length, one.update.length, one.delete.length], [0, 1, 0]);
  assert.equal(one.update[0]?.metadata.name, first[1]?.metadata.name);
  const added = plan(service, [...pods, makePod('new', { ip: '10.1.0.1' })], first);
  assert.deepEqual([added.create.length, added.update.length], [0, 1]);
  const emptied = plan(service, [], first);
  assert.deepEqual([emptied.create.length, emptied.update.length, emptied.delete.length], [0, 1, 2]);
});

test('slices: whatever changes, every backend is in exactly one slice and none is left over', () => {
  const service = makeService('svc');
  const step = fc.uniqueArray(fc.integer({ min: 0, max: 300 }), { maxLength: 260 });
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 5 }), steps => {
      let slices: Stored<EndpointSlice>[] = [];
      for (const numbers of steps) {
        const pods = numbers.map(i =>
          makePod(`p${i}`, { ip: `10.0.${i >> 8}.${i & 255}`, ready: i % 3 > 0 }),
        );
        slices = store(plan(service, pods, slices), slices);
        const uids = slices.flatMap(slice => slice.endpoints.map(({ targetRef }) => targetRef?.uid));
        assert.deepEqual(uids.toSorted(), pods.map(({ metadata }) => metadata.uid).toSorted());
        assert.ok(slices.every(slice => slice.endpoints.length <= 100));
      }
    }),
    { numRuns: 30 },
  );
});

test('Endpoints: ready and not ready apart, terminating ones left out', () => {
  const pods = [
    makePod('b', { ip: '10.0.0.2' }),
    makePod('a', { ip: '10.0.0.1' }),
    makePod('c', { ip: '10.0.0.3', ready: false }),
    makePod('d', { ip: '10.0.0.4', deleting: true }),
  ];
  const { subsets } = planEndpoints(makeService('svc'), pods);
  assert.deepEqual(
    subsets.map(({ addresses, notReadyAddresses, ports }) => [
      addresses?.map(({ ip }) => ip),
      notReadyAddresses?.map(({ ip }) => ip),
      ports,
    ]),
    [[['10.0.0.1', '10.0.0.2'], ['10.0.0.3'], [{ name: 'http', port: 8080, protocol: 'TCP' }]]],
  );
});

test('trigger times: the Service first, then only what moved', () => {
  const times = new TriggerTimes();
  const service = makeService('svc');
  const pod = makePod('a', { ip: '10.0.0.1' });
  assert.equal(times.next(service, [pod]), '2026-01-01T00:00:00Z');
  assert.equal(times.next(service, [pod]), undefined);
  const later = makePod('a', { ip: '10.0.0.1' });
  for (const condition of later.status?.conditions ?? [])
    condition.lastTransitionTime = '2026-01-02T00:00:00Z';
  assert.equal(times.next(service, [later]), '2026-01-02T00:00:00Z');
});

test('subnets: none twice, what is taken stays taken, what is released rests', () => {
  const allocator = new CidrAllocator('10.244.0.0/22', 24);
  assert.equal(allocator.occupy('10.244.1.0/24', 'b'), undefined);
  assert.equal(allocator.occupy('10.244.1.0/25', 'x'), 'b');
  assert.deepEqual(
    ['a', 'c', 'd', 'e'].map(owner => allocator.allocate(owner)),
    ['10.244.0.0/24', '10.244.2.0/24', '10.244.3.0/24', undefined],
  );
  allocator.release('10.244.2.0/24', 'somebody else');
  assert.equal(allocator.free, 0);
  allocator.release('10.244.2.0/24', 'c');
  assert.equal(allocator.allocate('f'), '10.244.2.0/24');
  assert.equal(new CidrAllocator('fd00:10:244::/56', 64).allocate('a'), 'fd00:10:244::/64');
  assert.throws(() => new CidrAllocator('10.0.0.0/26', 24), { code: 'CIDR_MASK' });
  fc.assert(
    fc.property(fc.array(fc.record({ owner: fc.nat(20), give: fc.boolean() }), { maxLength: 60 }), steps => {
      const own = new CidrAllocator('10.0.0.0/20', 24);
      const held = new Map<number, string>();
      for (const { owner, give } of steps) {
        const present = held.get(owner);
        if (give && present === undefined) {
          const cidr = own.allocate(String(owner));
          if (cidr === undefined) assert.equal(held.size, 16);
          else held.set(owner, cidr);
        } else if (!give && present !== undefined) {
          own.release(present, String(owner));
          held.delete(owner);
        }
        assert.equal(new Set(held.values()).size, held.size);
      }
    }),
  );
});

test('taints follow conditions, keep what is not ours, and decide about evictions', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  const node = (status: string) => ({
    spec: { taints: [{ key: 'dedicated', effect: 'NoSchedule', value: 'db' }] },
    status: { conditions: [{ type: 'Ready', status }] },
  });
  const keys = (status: string) =>
    desiredTaints(node(status), now).map(({ key, effect }) => `${key}:${effect}`);
  assert.deepEqual(keys('True'), ['dedicated:NoSchedule']);
  assert.deepEqual(keys('Unknown'), [
    'dedicated:NoSchedule',
    'node.kubernetes.io/unreachable:NoSchedule',
    'node.kubernetes.io/unreachable:NoExecute',
  ]);
  const taints = desiredTaints(node('False'), now);
  const pod = (tolerations?: object[]): Pod => ({ spec: { containers: [], tolerations } as Pod['spec'] });
  assert.equal(evictionTimeMs(pod(), taints), now + 300_000);
  assert.equal(evictionTimeMs(pod([{ operator: 'Exists' }]), taints), undefined);
  const short = [
    { key: 'node.kubernetes.io/not-ready', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 5 },
  ];
  assert.equal(evictionTimeMs(pod(short), taints), now + 5_000);
  assert.equal(evictionTimeMs(pod(), [{ key: 'maintenance', effect: 'NoExecute' }]), 0);
});
