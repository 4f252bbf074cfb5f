// Filters, their messages, scores: decisions as a pure function of pod and nodes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node, Pod, Stored } from '../../../src/api/types.ts';
import { ClusterCache } from '../../../src/scheduler/cluster-cache.ts';
import { decide, feasibleEnough } from '../../../src/scheduler/framework.ts';
import { PLUGINS } from '../../../src/scheduler/plugin-table.ts';
import { podRequests, viewPod } from '../../../src/scheduler/pod-view.ts';
import { makeNode, makePod } from './objects.ts';

function place(pod: Stored<Pod>, nodes: Stored<Node>[], existing: Stored<Pod>[] = []) {
  const cache = new ClusterCache();
  for (const node of nodes) cache.setNode(node);
  for (const other of existing) cache.setPod(other);
  return decide(viewPod(pod), cache.nodes(), PLUGINS, { random: () => 0 });
}

function message(pod: Stored<Pod>, nodes: Stored<Node>[], existing: Stored<Pod>[] = []): string {
  const decision = place(pod, nodes, existing);
  assert.equal(decision.nodeName, undefined);
  return 'message' in decision ? decision.message : '';
}

function tainted(name: string, key: string, effect = 'NoSchedule', value = ''): Stored<Node> {
  return makeNode(name, { spec: { taints: [{ key, effect, value }] } });
}

test('the message counts reasons as kubectl users know it', () => {
  assert.equal(
    message(makePod('p', { requests: { cpu: '8', memory: '1Ti' } }), [
      makeNode('a'),
      makeNode('b', { spec: { unschedulable: true } }),
      tainted('c', 'dedicated', 'NoSchedule', 'db'),
    ]),
    '0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 node(s) had untolerated taint {dedicated: db}, 1 node(s) were unschedulable.',
  );
  assert.equal(message(makePod('p'), []), 'no nodes available to schedule pods');
});

test('selectors, affinity, ports, pod count', () => {
  const nodes = [makeNode('a', { labels: { disk: 'ssd', cores: '8' } })];
  const affinity = (operator: string, values: string[]): Partial<Pod['spec'] & object> => ({
    affinity: {
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [{ matchExpressions: [{ key: 'cores', operator, values }] }],
        },
      },
    },
  });
  const refusal = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
  assert.equal(place(makePod('p', { nodeSelector: { disk: 'ssd' } }), nodes).nodeName, 'a');
  assert.equal(message(makePod('p', { nodeSelector: { disk: 'hdd' } }), nodes), refusal);
  assert.equal(place(makePod('p', affinity('Gt', ['4'])), nodes).nodeName, 'a');
  assert.equal(message(makePod('p', affinity('Gt', ['8'])), nodes), refusal);
  const taken = makePod('other', { hostPort: 80, nodeName: 'a' });
  assert.match(message(makePod('p', { hostPort: 80 }), nodes, [taken]), /didn't have free ports/);
  assert.equal(place(makePod('p', { hostPort: 81 }), nodes, [taken]).nodeName, 'a');
  const full = makeNode('full', { status: { allocatable: { cpu: '1', memory: '1Gi', pods: '1' } } });
  assert.match(message(makePod('p'), [full], [makePod('q', { nodeName: 'full' })]), /1 Too many pods/);
});

test('tolerations', () => {
  const nodes = [tainted('a', 'k', 'NoExecute', 'v')];
  assert.match(message(makePod('p'), nodes), /untolerated taint/);
  for (const toleration of [
    { operator: 'Exists' },
    { key: 'k', operator: 'Exists' },
    { key: 'k', value: 'v' },
    { key: 'k', value: 'v', effect: 'NoExecute' },
  ])
    assert.equal(place(makePod('p', { tolerations: [toleration] }), nodes).nodeName, 'a');
  for (const toleration of [{ key: 'k' }, { key: 'k', value: 'v', effect: 'NoSchedule' }])
    assert.match(message(makePod('p', { tolerations: [toleration] }), nodes), /untolerated/);
});

test('three replicas of one owner land on three nodes, six on each twice; zones are evened out too', () => {
  const names = ['a', 'b', 'c'];
  const cache = new ClusterCache();
  for (const name of names) cache.setNode(makeNode(name));
  const counts = new Map<string, number>();
  for (let i = 0; i < 6; i++) {
    const decision = decide(viewPod(makePod(`p${i}`, { owner: 'rs' })), cache.nodes(), PLUGINS);
    assert.ok(decision.nodeName);
    cache.assume(viewPod(makePod(`p${i}`, { owner: 'rs' })), decision.nodeName);
    counts.set(decision.nodeName, (counts.get(decision.nodeName) ?? 0) + 1);
    if (i === 2) assert.equal(counts.size, 3);
  }
  assert.deepEqual([...counts.values()], [2, 2, 2]);
  const zone = (name: string) => ({ labels: { 'topology.kubernetes.io/zone': name } });
  const nodes = [makeNode('a', zone('x')), makeNode('b', zone('x')), makeNode('c', zone('y'))];
  const decision = place(makePod('p', { owner: 'rs' }), nodes, [
    makePod('q', { owner: 'rs', nodeName: 'a' }),
  ]);
  assert.equal(decision.nodeName, 'c');
});

test('the emptier node, the preferred node, the untainted node, the node with the image', () => {
  const loaded = makePod('q', { nodeName: 'a', requests: { cpu: '2', memory: '4Gi' } });
  assert.equal(place(makePod('p'), [makeNode('a'), makeNode('b')], [loaded]).nodeName, 'b');
  const preferring = makePod('p', {
    affinity: {
      nodeAffinity: {
        preferredDuringSchedulingIgnoredDuringExecution: [
          { weight: 10, preference: { matchExpressions: [{ key: 'fast', operator: 'Exists' }] } },
        ],
      },
    },
  });
  assert.equal(place(preferring, [makeNode('a'), makeNode('b', { labels: { fast: '' } })]).nodeName, 'b');
  assert.equal(place(makePod('p'), [tainted('a', 'k', 'PreferNoSchedule'), makeNode('b')]).nodeName, 'b');
  const images = [{ names: ['hello:1'], sizeBytes: 900 * 2 ** 20 }];
  const holding = makeNode('b', { status: { ...makeNode('b').status, images } });
  assert.equal(place(makePod('p'), [makeNode('a'), holding]).nodeName, 'b');
});

test('effective requests: init containers count by their peak, sidecars and overhead on top', () => {
  const container = (cpu: string, restartPolicy?: string) => ({
    name: cpu,
    restartPolicy,
    resources: { requests: { cpu } },
  });
  const pod = makePod('p', {
    containers: [container('300m'), container('200m')],
    initContainers: [container('100m', 'Always'), container('1')],
    overhead: { cpu: '10m' },
  });
  assert.equal(podRequests(pod).get('cpu'), 1110);
  pod.spec = { containers: [{ name: 'c', resources: { limits: { cpu: '0.5' } } }] };
  assert.equal(podRequests(pod).get('cpu'), 500);
});

test('large clusters are not looked at whole', () => {
  assert.deepEqual([50, 100, 1000, 5000, 10000].map(feasibleEnough), [50, 100, 420, 500, 500]);
});

test('an assumed pod counts until it is forgotten or confirmed elsewhere', () => {
  const cache = new ClusterCache();
  for (const name of ['a', 'b']) cache.setNode(makeNode(name));
  const pod = makePod('p', { requests: { cpu: '1' } });
  const cpu = () => cache.nodes().map(state => state.requested.get('cpu') ?? 0);
  cache.assume(viewPod(pod), 'a');
  assert.deepEqual(cpu(), [1000, 0]);
  cache.setPod({ ...pod, spec: { ...pod.spec, containers: pod.spec?.containers ?? [], nodeName: 'b' } });
  assert.deepEqual(cpu(), [0, 1000]);
  cache.forget(pod.metadata.uid);
  assert.deepEqual(cpu(), [0, 1000]);
  cache.removePod(pod.metadata.uid);
  cache.assume(viewPod(pod), 'a');
  cache.forget(pod.metadata.uid);
  assert.deepEqual(cpu(), [0, 0]);
});
