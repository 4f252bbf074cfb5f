// topologySpreadConstraints and affinity between pods, as decisions over whole clusters.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Node, Pod, PodSpec, Stored } from '../../../src/api/types.ts';
import { ClusterCache } from '../../../src/scheduler/cluster-cache.ts';
import { decide } from '../../../src/scheduler/framework.ts';
import { PLUGINS } from '../../../src/scheduler/plugin-table.ts';
import { viewPod } from '../../../src/scheduler/pod-view.ts';
import { makeNode, makePod } from './objects.ts';

const ZONE = 'topology.kubernetes.io/zone';
const HOST = 'kubernetes.io/hostname';
const nodes = [
  makeNode('a1', { labels: { [ZONE]: 'a' } }),
  makeNode('a2', { labels: { [ZONE]: 'a' } }),
  makeNode('b1', { labels: { [ZONE]: 'b' } }),
];

function labelled(name: string, labels: Record<string, string>, spec: Partial<PodSpec> = {}): Stored<Pod> {
  const pod = makePod(name, spec);
  pod.metadata.labels = labels;
  return pod;
}

function place(pod: Stored<Pod>, existing: Stored<Pod>[], on: Stored<Node>[] = nodes) {
  const cache = new ClusterCache();
  for (const node of on) cache.setNode(node);
  for (const other of existing) cache.setPod(other);
  const decision = decide(viewPod(pod), cache.nodes(), PLUGINS, { random: () => 0 });
  return decision.nodeName ?? decision.message;
}

const web = (name: string, nodeName: string) => labelled(name, { app: 'web' }, { nodeName });
const selector = { matchLabels: { app: 'web' } };

describe('topologySpreadConstraints (KEP-895)', () => {
  const spread = (change: object = {}): Partial<PodSpec> => ({
    topologySpreadConstraints: [
      {
        maxSkew: 1,
        topologyKey: ZONE,
        whenUnsatisfiable: 'DoNotSchedule',
        labelSelector: selector,
        ...change,
      },
    ],
  });

  test('a domain that is ahead by maxSkew is refused', () => {
    assert.equal(place(labelled('p', { app: 'web' }, spread()), [web('w', 'a1')]), 'b1');
  });
  test('a pod that does not match itself adds nothing', () => {
    const pod = labelled('p', { app: 'other' }, { ...spread(), nodeSelector: { [HOST]: 'a2' } });
    assert.equal(place(pod, []), 'a2');
  });
  test('nodes that the pod cannot use are no domains (nodeAffinityPolicy Honor)', () => {
    const pod = labelled('p', { app: 'web' }, { ...spread(), nodeSelector: { [ZONE]: 'a' } });
    assert.match(place(pod, [web('w', 'a1'), web('w2', 'a2')]), /^a[12]$/);
    const ignoring = { ...spread({ nodeAffinityPolicy: 'Ignore' }), nodeSelector: { [ZONE]: 'a' } };
    assert.match(
      place(labelled('p', { app: 'web' }, ignoring), [web('w', 'a1')]),
      /2 node\(s\) didn't match pod topology spread constraints/,
    );
  });
  test('minDomains: with fewer domains than that the fewest is none', () => {
    const pod = labelled('p', { app: 'web' }, spread({ minDomains: 3 }));
    assert.match(
      place(pod, [web('w', 'a1'), web('v', 'b1')]),
      /3 node\(s\) didn't match pod topology spread/,
    );
  });
  test('a node without the label says so', () => {
    const bare = [makeNode('bare')];
    assert.match(place(labelled('p', { app: 'web' }, spread()), [], bare), /\(missing required label\)/);
  });
  test('ScheduleAnyway only prefers', () => {
    const soft = spread({ whenUnsatisfiable: 'ScheduleAnyway' });
    assert.equal(place(labelled('p', { app: 'web' }, soft), [web('w', 'a1'), web('v', 'a2')]), 'b1');
    const only = { ...soft, nodeSelector: { [ZONE]: 'a' } };
    assert.match(place(labelled('p', { app: 'web' }, only), [web('w', 'a1'), web('v', 'a2')]), /^a/);
  });
});

describe('affinity between pods', () => {
  const term = (topologyKey: string, change: object = {}) => ({
    labelSelector: selector,
    topologyKey,
    ...change,
  });
  const required = (kind: 'podAffinity' | 'podAntiAffinity', topologyKey: string, change: object = {}) => ({
    affinity: { [kind]: { requiredDuringSchedulingIgnoredDuringExecution: [term(topologyKey, change)] } },
  });

  test('required anti-affinity keeps pods apart, in domains of the key', () => {
    const apart = required('podAntiAffinity', HOST);
    assert.equal(place(labelled('p', { app: 'web' }, apart), [web('w', 'a1'), web('v', 'a2')]), 'b1');
    const zones = required('podAntiAffinity', ZONE);
    assert.equal(place(labelled('p', { app: 'web' }, zones), [web('w', 'a1')]), 'b1');
    assert.equal(
      place(labelled('p', { app: 'web' }, zones), [web('w', 'a1'), web('v', 'b1')]),
      "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules.",
    );
  });
  test('a pod that is there keeps others away', () => {
    const hermit = labelled('h', { app: 'hermit' }, { ...required('podAntiAffinity', ZONE), nodeName: 'a1' });
    assert.equal(place(labelled('p', { app: 'web' }), [hermit]), 'b1');
    const message = place(labelled('p', { app: 'web' }, { nodeSelector: { [ZONE]: 'a' } }), [hermit]);
    assert.match(message, /2 node\(s\) didn't satisfy existing pods anti-affinity rules/);
  });
  test('required affinity goes where the others are; the first of its kind goes anywhere', () => {
    const together = required('podAffinity', ZONE);
    assert.equal(place(labelled('p', { app: 'db' }, together), [web('w', 'b1')]), 'b1');
    assert.match(
      place(labelled('p', { app: 'db' }, together), []),
      /3 node\(s\) didn't match pod affinity rules/,
    );
    assert.match(place(labelled('p', { app: 'web' }, together), []), /^[ab]\d$/);
  });
  test('only pods of the term’s namespaces count', () => {
    const other = web('w', 'a1');
    other.metadata.namespace = 'other';
    const zones = (change: object) => ({
      ...required('podAntiAffinity', ZONE, change),
      nodeSelector: { [ZONE]: 'a' },
    });
    assert.match(place(labelled('p', { app: 'web' }, zones({})), [other]), /^a/);
    for (const change of [{ namespaces: ['other'] }, { namespaceSelector: {} }])
      assert.match(place(labelled('p', { app: 'web' }, zones(change)), [other]), /anti-affinity/);
  });
  test('preferred terms weigh', () => {
    const prefer = (kind: 'podAffinity' | 'podAntiAffinity'): Partial<PodSpec> => ({
      affinity: {
        [kind]: {
          preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, podAffinityTerm: term(ZONE) }],
        },
      },
    });
    assert.equal(place(labelled('p', { app: 'db' }, prefer('podAffinity')), [web('w', 'b1')]), 'b1');
    assert.match(place(labelled('p', { app: 'db' }, prefer('podAntiAffinity')), [web('w', 'b1')]), /^a/);
  });
});
