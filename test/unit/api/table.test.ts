import assert from 'node:assert/strict';
import { test } from 'node:test';
import { humanDuration } from '../../../src/api/duration.ts';
import { RESOURCES, resourceOf } from '../../../src/api/resources.ts';
import { toTable } from '../../../src/api/table.ts';
import type { KubeObject } from '../../../src/api/types.ts';
import type { JsonObject } from '../../../src/lib/json.ts';

const NOW = Date.parse('2024-01-01T01:00:00Z');
const META = { name: 'x', creationTimestamp: '2024-01-01T00:00:00Z' };

function row(apiVersion: string, kind: string, object: JsonObject): Record<string, unknown> {
  const table = toTable(resourceOf(apiVersion, kind), [{ metadata: META, ...object } as KubeObject], NOW);
  return Object.fromEntries(
    table.columnDefinitions.map((column, index) => [column.name, table.rows[0]?.cells[index]]),
  );
}

test('a running pod', () => {
  assert.deepEqual(
    row('v1', 'Pod', {
      spec: {
        containers: [{ name: 'c' }, { name: 'd' }],
        nodeName: 'n1',
        readinessGates: [{ conditionType: 'g' }],
      },
      status: {
        phase: 'Running',
        podIP: '10.0.0.1',
        conditions: [{ type: 'g', status: 'True' }],
        containerStatuses: [
          {
            name: 'c',
            ready: true,
            restartCount: 2,
            state: { running: {} },
            lastState: { terminated: { finishedAt: '2024-01-01T00:55:00Z' } },
          },
          { name: 'd', ready: false, restartCount: 0, state: { running: {} } },
        ],
      },
    }),
    {
      Name: 'x',
      Ready: '1/2',
      Status: 'Running',
      Restarts: '2 (5m ago)',
      Age: '60m',
      IP: '10.0.0.1',
      Node: 'n1',
      'Nominated Node': '<none>',
      'Readiness Gates': '1/1',
    },
  );
});

const STATUSES: [expected: string, pod: JsonObject][] = [
  ['Pending', { status: { phase: 'Pending' } }],
  [
    'CrashLoopBackOff',
    {
      status: {
        phase: 'Running',
        containerStatuses: [{ name: 'c', state: { waiting: { reason: 'CrashLoopBackOff' } } }],
      },
    },
  ],
  [
    'Completed',
    {
      status: {
        phase: 'Succeeded',
        containerStatuses: [{ name: 'c', state: { terminated: { exitCode: 0, reason: 'Completed' } } }],
      },
    },
  ],
  [
    'ExitCode:3',
    {
      status: { phase: 'Failed', containerStatuses: [{ name: 'c', state: { terminated: { exitCode: 3 } } }] },
    },
  ],
  [
    'Signal:9',
    {
      status: {
        phase: 'Failed',
        containerStatuses: [{ name: 'c', state: { terminated: { exitCode: 137, signal: 9 } } }],
      },
    },
  ],
  ['Terminating', { metadata: { ...META, deletionTimestamp: 't' }, status: { phase: 'Running' } }],
  ['Evicted', { status: { phase: 'Failed', reason: 'Evicted' } }],
  [
    'Init:0/2',
    {
      spec: { initContainers: [{ name: 'i' }, { name: 'j' }] },
      status: { phase: 'Pending', initContainerStatuses: [{ name: 'i', state: { running: {} } }] },
    },
  ],
  [
    'Init:Error',
    {
      spec: { initContainers: [{ name: 'i' }] },
      status: {
        phase: 'Pending',
        initContainerStatuses: [{ name: 'i', state: { terminated: { exitCode: 1, reason: 'Error' } } }],
      },
    },
  ],
  [
    'Init:ImagePullBackOff',
    {
      spec: { initContainers: [{ name: 'i' }] },
      status: {
        phase: 'Pending',
        initContainerStatuses: [{ name: 'i', state: { waiting: { reason: 'ImagePullBackOff' } } }],
      },
    },
  ],
];
for (const [expected, pod] of STATUSES)
  test(`a pod that is ${expected}`, () => assert.equal(row('v1', 'Pod', pod).Status, expected));

test('services, endpoints, slices', () => {
  assert.deepEqual(
    row('v1', 'Service', {
      spec: {
        type: 'NodePort',
        clusterIP: '10.0.0.1',
        ports: [
          { port: 80, nodePort: 30000, protocol: 'TCP' },
          { port: 53, protocol: 'UDP' },
        ],
        selector: { b: '2', a: '1' },
      },
    }),
    {
      Name: 'x',
      Type: 'NodePort',
      'Cluster-IP': '10.0.0.1',
      'External-IP': '<none>',
      'Port(s)': '80:30000/TCP,53/UDP',
      Age: '60m',
      Selector: 'a=1,b=2',
    },
  );
  assert.equal(
    row('v1', 'Endpoints', {
      subsets: [{ addresses: [1, 2, 3, 4, 5].map(n => ({ ip: `10.0.0.${n}` })), ports: [{ port: 80 }] }],
    }).Endpoints,
    '10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...',
  );
  assert.deepEqual(
    row('discovery.k8s.io/v1', 'EndpointSlice', {
      addressType: 'IPv4',
      endpoints: [{ addresses: ['10.0.0.1'] }],
      ports: [{ port: 80 }, {}],
    }),
    {
      Name: 'x',
      AddressType: 'IPv4',
      Ports: '80,*',
      Endpoints: '10.0.0.1',
      Age: '60m',
    },
  );
});

test('nodes and deployments', () => {
  const node = row('v1', 'Node', {
    metadata: { ...META, labels: { 'node-role.kubernetes.io/control-plane': '' } },
    spec: { unschedulable: true },
    status: {
      conditions: [{ type: 'Ready', status: 'True' }],
      nodeInfo: { kubeletVersion: 'v1.32.0' },
      addresses: [{ type: 'InternalIP', address: '1.2.3.4' }],
    },
  });
  assert.equal(node.Status, 'Ready,SchedulingDisabled');
  assert.equal(node.Roles, 'control-plane');
  assert.equal(node['Internal-IP'], '1.2.3.4');
  const deployment = row('apps/v1', 'Deployment', {
    spec: { replicas: 3, selector: { matchLabels: { a: 'b' } } },
    status: { readyReplicas: 2, updatedReplicas: 3 },
  });
  assert.equal(deployment.Ready, '2/3');
  assert.equal(deployment['Up-to-date'], 3);
  assert.equal(deployment.Available, 0);
  assert.equal(deployment.Selector, 'a=b');
});

test('an object with nothing in it prints, whatever its kind', () => {
  for (const resource of RESOURCES)
    for (const cell of toTable(resource, [{}], NOW).rows[0]?.cells ?? [])
      assert.notEqual(cell, undefined, resource.kind);
});

const AGES: [ms: number, text: string][] = [
  [-500, '0s'],
  [-5000, '<invalid>'],
  [5_000, '5s'],
  [119_000, '119s'],
  [150_000, '2m30s'],
  [600_000, '10m'],
  [3 * 3600_000 + 60_000, '3h1m'],
  [8 * 3600_000, '8h'],
  [50 * 3600_000, '2d2h'],
  [10 * 86400_000, '10d'],
  [3 * 365 * 86400_000, '3y'],
];
for (const [ms, text] of AGES) test(`${ms} ms is ${text}`, () => assert.equal(humanDuration(ms), text));
