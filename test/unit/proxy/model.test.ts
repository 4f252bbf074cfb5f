import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ServiceModel } from '../../../proxy/model/model.ts';
import type { ResolvedPort } from '../../../proxy/model/types.ts';
import type { EndpointSlice, Service } from '../../../src/api/types.ts';
import { endpoint, service, slice } from './object-fixtures.ts';

const PORT = [{ name: 'p80', port: 80 }];

function modelOf(...objects: (Service | EndpointSlice)[]): ServiceModel {
  const model = new ServiceModel({ name: 'here', zone: 'z1' });
  for (const object of objects)
    if ('addressType' in object) model.upsertSlice(object);
    else model.upsertService(object as Service);
  model.update();
  return model;
}

function only(model: ServiceModel): ResolvedPort {
  const [port, ...rest] = model.ports();
  assert.ok(port && rest.length === 0);
  return port;
}

const ips = (list: readonly { ip: string }[]): string[] => list.map(entry => entry.ip);

test("headless, ExternalName, other proxies' and headless-labelled Services have no ports", () => {
  const model = modelOf(
    service('a/headless', { clusterIP: 'None', ports: PORT }),
    service('a/unset', { ports: PORT }),
    service('a/external', { type: 'ExternalName', ports: PORT }),
    service('a/other', {
      clusterIP: '10.96.0.1',
      ports: PORT,
      labels: { 'service.kubernetes.io/service-proxy-name': 'x' },
    }),
    service('a/label', {
      clusterIP: '10.96.0.2',
      ports: PORT,
      labels: { 'service.kubernetes.io/headless': '' },
    }),
  );
  assert.deepEqual([...model.ports()], []);
  assert.deepEqual(model.problems(), []);
});

test('a Service that turns into ExternalName and back', () => {
  const model = modelOf(
    service('a/s', { clusterIP: '10.96.0.1', ports: PORT }),
    slice('a/s', [endpoint('10.1.0.1')]),
  );
  model.upsertService(service('a/s', { type: 'ExternalName', externalName: 'x.example' }));
  assert.deepEqual([...model.update().ports.values()], [undefined]);
  model.upsertService(service('a/s', { clusterIP: '10.96.0.1', ports: PORT }));
  model.update();
  assert.deepEqual(ips(only(model).cluster), ['10.1.0.1']);
});

test('ready endpoints; when none is ready, those that serve while terminating', () => {
  const svc = service('a/s', { clusterIP: '10.96.0.1', ports: PORT });
  const terminating = endpoint('10.1.0.2', { ready: false, serving: true, terminating: true });
  const dead = endpoint('10.1.0.3', { ready: false, serving: false, terminating: true });
  assert.deepEqual(ips(only(modelOf(svc, slice('a/s', [endpoint('10.1.0.1'), terminating, dead]))).cluster), [
    '10.1.0.1',
  ]);
  assert.deepEqual(ips(only(modelOf(svc, slice('a/s', [terminating, dead]))).cluster), ['10.1.0.2']);
  const none = only(modelOf(svc, slice('a/s', [dead])));
  assert.equal(none.hasEndpoints, false);
  assert.equal(none.internalRefusal, 'REJECT');
});

test('internalTrafficPolicy Local: DROP when endpoints are elsewhere, REJECT when there are none', () => {
  const svc = service('a/s', { clusterIP: '10.96.0.1', ports: PORT, internalTrafficPolicy: 'Local' });
  assert.equal(
    only(modelOf(svc, slice('a/s', [endpoint('10.1.0.1', { node: 'there' })]))).internalRefusal,
    'DROP',
  );
  assert.equal(only(modelOf(svc)).internalRefusal, 'REJECT');
  const here = only(
    modelOf(
      svc,
      slice('a/s', [endpoint('10.1.0.1', { node: 'there' }), endpoint('10.1.0.2', { node: 'here' })]),
    ),
  );
  assert.equal(here.internalRefusal, undefined);
  assert.deepEqual(ips(here.local), ['10.1.0.2']);
  assert.deepEqual(ips(here.reachable), ['10.1.0.2']);
});

test('externalTrafficPolicy Local: local endpoints for outsiders, all for pods and the node; terminating as a last resort', () => {
  const svc = service('a/s', {
    type: 'NodePort',
    clusterIP: '10.96.0.1',
    ports: [{ ...PORT[0]!, nodePort: 30080 }],
    externalTrafficPolicy: 'Local',
  });
  const there = endpoint('10.1.0.1', { node: 'there' });
  const away = only(modelOf(svc, slice('a/s', [there])));
  assert.equal(away.externalRefusal, 'DROP');
  assert.equal(away.internalRefusal, undefined);
  const leaving = endpoint('10.1.0.2', { node: 'here', ready: false, serving: true, terminating: true });
  const last = only(modelOf(svc, slice('a/s', [there, leaving])));
  assert.deepEqual(ips(last.local), ['10.1.0.2']);
  assert.deepEqual(ips(last.cluster), ['10.1.0.1']);
  assert.deepEqual(ips(last.reachable), ['10.1.0.1', '10.1.0.2']);
  assert.equal(last.externalRefusal, undefined);
});

test('hints: same node, else same zone, else everybody; half-written hints are ignored', () => {
  const svc = service('a/s', { clusterIP: '10.96.0.1', ports: PORT });
  const choose = (...endpoints: ReturnType<typeof endpoint>[]): string[] =>
    ips(only(modelOf(svc, slice('a/s', endpoints))).cluster);
  const zone = (n: number, name: string) => endpoint(`10.1.0.${n}`, { zones: [name] });
  assert.deepEqual(choose(zone(1, 'z1'), zone(2, 'z2')), ['10.1.0.1']);
  assert.deepEqual(choose(zone(1, 'z2'), zone(2, 'z2')), ['10.1.0.1', '10.1.0.2']);
  assert.deepEqual(choose(zone(1, 'z1'), endpoint('10.1.0.2')), ['10.1.0.1', '10.1.0.2']);
  const node = (n: number, name: string) => endpoint(`10.1.0.${n}`, { zones: ['z1'], nodes: [name] });
  assert.deepEqual(choose(node(1, 'here'), node(2, 'there')), ['10.1.0.1']);
  assert.deepEqual(choose(node(1, 'there'), node(2, 'there')), ['10.1.0.1', '10.1.0.2']);
});

test('dual stack: a port in each family, each with its own slices', () => {
  const model = modelOf(
    service('a/s', { clusterIPs: ['10.96.0.1', 'fd00:96::1'], ports: PORT }),
    slice('a/s', [endpoint('10.1.0.1')]),
    slice('a/s', [endpoint('fd00:10::1')], undefined, '6'),
  );
  assert.deepEqual(
    [...model.ports()].map(({ port, cluster }) => [port.family, port.clusterIp, ips(cluster)]),
    [
      [4, '10.96.0.1', ['10.1.0.1']],
      [6, 'fd00:96::1', ['fd00:10::1']],
    ],
  );
});

test('several slices of one Service; an endpoint in two of them counts once, at its best', () => {
  const model = modelOf(
    service('a/s', { clusterIP: '10.96.0.1', ports: PORT }),
    slice('a/s', [endpoint('10.1.0.1', { ready: false }), endpoint('10.1.0.2')], undefined, '1'),
    slice('a/s', [endpoint('10.1.0.1'), endpoint('10.1.0.3')], undefined, '2'),
  );
  assert.deepEqual(ips(only(model).cluster), ['10.1.0.1', '10.1.0.2', '10.1.0.3']);
  model.deleteSlice('a', 's-2');
  model.update();
  assert.deepEqual(ips(only(model).cluster), ['10.1.0.2']);
});

test('a node port or external IP claimed twice stays with the older Service, and goes over when that one is gone', () => {
  const make = (name: string, ip: string, createdAt: string) =>
    service(`a/${name}`, {
      type: 'NodePort',
      clusterIP: ip,
      createdAt,
      ports: [{ port: 80, nodePort: 30080 }],
      externalIPs: ['192.168.1.1'],
    });
  const model = modelOf(
    make('young', '10.96.0.2', '2026-02-01T00:00:00Z'),
    make('old', '10.96.0.1', '2026-01-01T00:00:00Z'),
  );
  const claims = () =>
    Object.fromEntries(
      [...model.ports()].map(({ port }) => [port.name, [port.nodePort, port.externalIps.length]]),
    );
  assert.deepEqual(claims(), { 'a/old': [30080, 1], 'a/young': [0, 0] });
  assert.deepEqual(
    model.problems().map(problem => [problem.name, problem.reason]),
    [
      ['young', 'ServiceConflict'],
      ['young', 'ServiceConflict'],
    ],
  );
  model.deleteService('a', 'old');
  const changed = model.update();
  assert.equal(changed.ports.get('4 a/old TCP'), undefined);
  assert.deepEqual(claims(), { 'a/young': [30080, 1] });
  assert.deepEqual(model.problems(), []);
});

test('garbage names its culprit and spares the rest', () => {
  const model = modelOf(
    service('a/bad', {
      clusterIP: '10.96.0.1',
      ports: [
        { name: 'zero', port: 0 },
        { name: 'ok', port: 80 },
      ],
      externalIPs: ['127.0.0.1', 'rubbish', '192.168.1.1'],
      sessionAffinity: 'ClientIP',
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 0 } },
    }),
    slice(
      'a/bad',
      [endpoint('10.1.0.1'), endpoint('127.0.0.1'), endpoint('999.1.1.1'), endpoint('169.254.1.1')],
      [
        { name: 'ok', port: 80 },
        { name: 'zero', port: 70_000 },
      ],
    ),
  );
  const { port, cluster } = only(model);
  assert.deepEqual(port.externalIps, ['192.168.1.1']);
  assert.equal(port.affinitySeconds, 10_800);
  assert.deepEqual(ips(cluster), ['10.1.0.1']);
  assert.deepEqual(
    model.problems().map(problem => `${problem.kind} ${problem.reason}`),
    [
      'Service BadAddress',
      'Service BadAddress',
      'Service BadAffinity',
      'Service BadPort',
      'EndpointSlice BadEndpoint',
    ],
  );
});

test('source ranges that cannot be read let nobody in, and never everybody', () => {
  const make = (ranges: string[]) =>
    only(
      modelOf(
        service('a/s', {
          type: 'LoadBalancer',
          clusterIP: '10.96.0.1',
          ports: PORT,
          loadBalancer: [{ ip: '192.168.1.1' }],
          loadBalancerSourceRanges: ranges,
        }),
      ),
    ).port.sourceRanges;
  assert.deepEqual(make(['10.0.0.1/8', ' 10.0.0.0/8 ']), ['10.0.0.0/8']);
  assert.deepEqual(make(['rubbish']), []);
  assert.equal(make([]), undefined);
  assert.equal(make(['fd00::/8']), undefined);
});

test('health checks count local ready endpoints, once an address', () => {
  const model = modelOf(
    service('a/s', {
      type: 'LoadBalancer',
      clusterIP: '10.96.0.1',
      ports: [...PORT, { name: 'q', port: 81 }],
      externalTrafficPolicy: 'Local',
      healthCheckNodePort: 32000,
    }),
    slice('a/s', [
      endpoint('10.1.0.1', { node: 'here' }),
      endpoint('10.1.0.2', { node: 'here', ready: false, serving: true, terminating: true }),
      endpoint('10.1.0.3', { node: 'there' }),
    ]),
  );
  assert.deepEqual(
    [...model.healthChecks()],
    [{ namespace: 'a', name: 's', port: 32000, localEndpoints: 1 }],
  );
});

test('an update that changes nothing reports no port', () => {
  const objects = [
    service('a/s', { clusterIP: '10.96.0.1', ports: PORT }),
    slice('a/s', [endpoint('10.1.0.1')]),
  ] as const;
  const model = modelOf(...objects);
  model.upsertService(objects[0]);
  model.upsertSlice(objects[1]);
  assert.equal(model.update().ports.size, 0);
});

test('a new reader of changes is told everything, of the families it serves', () => {
  const model = modelOf(
    service('a/s', { clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1', 'fd96::1'], ports: PORT }),
    slice('a/s', [endpoint('10.1.0.1')]),
  );
  assert.equal(model.update().ports.size, 0);
  model.startAnew([6]);
  assert.deepEqual([...model.update().ports.keys()], ['6 a/s:p80 TCP']);
  model.startAnew([4, 6]);
  assert.deepEqual([...model.update().ports.keys()], ['4 a/s:p80 TCP', '6 a/s:p80 TCP']);
  assert.deepEqual(ips([...model.ports()][0]!.cluster), ['10.1.0.1']);
});
