import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  findResource,
  findResourceByKind,
  RESOURCES,
  refOf,
  resourceOf,
} from '../../../src/api/resources.ts';
import { allTypeNames, schemaOfKind, typeSchema } from '../../../src/api/schema.ts';
import type { KubeObject } from '../../../src/api/types.ts';

test('every kind has a schema, and every type the schema refers to exists', () => {
  for (const { group, version, kind } of RESOURCES) assert.ok(schemaOfKind(group, version, kind), kind);
  for (const name of allTypeNames())
    for (const field of typeSchema(name)?.fields.values() ?? [])
      if (field.element.includes('.'))
        assert.ok(typeSchema(field.element), `${name}.${field.name}: ${field.element}`);
});

test('every stored list has protobuf numbers, none twice', () => {
  for (const name of allTypeNames().filter(n =>
    /^(core|apps|batch|discovery|coordination|events)\./.test(n),
  )) {
    const fields = [...(typeSchema(name)?.fields.values() ?? [])].filter(
      f => f.name !== 'apiVersion' && f.name !== 'kind',
    );
    const numbers = fields.map(field => field.number.join('.'));
    assert.equal(new Set(numbers).size, numbers.length, name);
  }
});

const KEYS: [apiVersion: string, kind: string, namespace: string, key: string][] = [
  ['v1', 'Pod', 'ns', '/registry/pods/ns/x'],
  ['v1', 'Node', '', '/registry/minions/x'],
  ['v1', 'Service', 'ns', '/registry/services/specs/ns/x'],
  ['v1', 'Endpoints', 'ns', '/registry/services/endpoints/ns/x'],
  ['v1', 'ReplicationController', 'ns', '/registry/controllers/ns/x'],
  ['networking.k8s.io/v1', 'Ingress', 'ns', '/registry/ingress/ns/x'],
  ['apps/v1', 'Deployment', 'ns', '/registry/deployments/ns/x'],
  ['coordination.k8s.io/v1', 'Lease', 'ns', '/registry/leases/ns/x'],
];
for (const [apiVersion, kind, namespace, key] of KEYS)
  test(`${kind} is kept where Kubernetes keeps it in etcd`, () =>
    assert.equal(resourceOf(apiVersion, kind).storageKey(namespace, 'x'), key));

test('lookups by path, by kind and of an object agree', () => {
  const deployments = findResource('apps', 'v1', 'deployments');
  assert.equal(deployments, findResourceByKind('apps/v1', 'Deployment'));
  assert.equal(refOf({ apiVersion: 'apps/v1', kind: 'Deployment' }), deployments);
  assert.equal(findResource('apps', 'v1', 'things'), undefined);
  assert.equal(findResource('', 'v1', '__proto__'), undefined);
});

test('short names and plurals are unique within a group version', () => {
  const seen = new Set<string>();
  for (const r of RESOURCES)
    for (const name of [r.plural, ...r.shortNames]) {
      const key = `${r.group}/${r.version}/${name}`;
      assert.ok(!seen.has(key), key);
      seen.add(key);
    }
});

interface Loose extends KubeObject {
  spec?: Record<string, unknown>;
  status?: Record<string, unknown>;
  metadata: NonNullable<KubeObject['metadata']>;
}

const deployment = (replicas: number, ready?: number): Loose => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'd', namespace: 'ns', generation: 4 },
  spec: { replicas },
  ...(ready === undefined ? {} : { status: { readyReplicas: ready } }),
});

test('a new object starts at generation 1, without the status its client sent', () => {
  const object = deployment(3, 3);
  resourceOf('apps/v1', 'Deployment').prepareCreate(object);
  assert.equal(object.metadata.generation, 1);
  assert.deepEqual(object.status, {});
});

test('a change of the spec counts a generation and keeps the status; a change of labels does neither', () => {
  const definition = resourceOf('apps/v1', 'Deployment');
  const changed = deployment(5, 99);
  definition.prepareUpdate(changed, deployment(3, 1));
  assert.equal(changed.metadata.generation, 5);
  assert.deepEqual(changed.status, { readyReplicas: 1 });
  const relabelled = { ...deployment(3), metadata: { name: 'd', namespace: 'ns', labels: { a: 'b' } } };
  definition.prepareUpdate(relabelled, deployment(3, 1));
  assert.equal((relabelled.metadata as { generation?: number }).generation, 4);
});

test('a status update changes the status alone; a node keeps its new annotations', () => {
  const changed = { ...deployment(9, 2), metadata: { name: 'd', labels: { a: 'b' } } };
  resourceOf('apps/v1', 'Deployment').prepareUpdate(changed, deployment(3, 1), 'status');
  assert.deepEqual(changed.spec, { replicas: 3 });
  assert.deepEqual(changed.status, { readyReplicas: 2 });
  assert.equal(changed.metadata.labels, undefined);
  const node: Loose = {
    metadata: { name: 'n', annotations: { vtep: '1' } },
    spec: { podCIDR: 'x' },
    status: {},
  };
  resourceOf('v1', 'Node').prepareUpdate(node, { metadata: { name: 'n' } }, 'status');
  assert.deepEqual(node.metadata.annotations, { vtep: '1' });
  assert.equal(node.spec, undefined);
});

test('a namespace is created Active, labelled, with its finalizer', () => {
  const definition = resourceOf('v1', 'Namespace');
  const object: Loose = { metadata: { name: 'n' } };
  definition.defaults(object);
  definition.prepareCreate(object);
  assert.deepEqual(object.metadata.labels, { 'kubernetes.io/metadata.name': 'n' });
  assert.deepEqual(object.spec, { finalizers: ['kubernetes'] });
  assert.deepEqual(object.status, { phase: 'Active' });
});

test('pods offer the fields that kubelet and scheduler select by', () => {
  const fields = resourceOf('v1', 'Pod').selectableFields({
    metadata: { name: 'p', namespace: 'ns' },
    spec: { nodeName: 'n1' },
    status: { phase: 'Running' },
  } as KubeObject);
  assert.equal(fields['spec.nodeName'], 'n1');
  assert.equal(fields['status.phase'], 'Running');
  assert.equal(fields['metadata.namespace'], 'ns');
});

test('an Event reads the same through both groups', () => {
  const conversion = resourceOf('events.k8s.io/v1', 'Event').conversion;
  const event = {
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    metadata: { name: 'e' },
    regarding: { kind: 'Pod', name: 'p' },
    note: 'hello',
    reportingController: 'c',
    deprecatedCount: 2,
  };
  const stored = conversion?.toStorage(event) as unknown as Record<string, unknown>;
  assert.deepEqual(stored.involvedObject, event.regarding);
  assert.equal(stored.message, 'hello');
  assert.equal(stored.apiVersion, 'v1');
  assert.deepEqual(conversion?.fromStorage(stored as KubeObject), event);
});

test('an HPA of v1 keeps its CPU target through v2', () => {
  const conversion = resourceOf('autoscaling/v1', 'HorizontalPodAutoscaler').conversion;
  const hpa = {
    apiVersion: 'autoscaling/v1',
    kind: 'HorizontalPodAutoscaler',
    metadata: { name: 'h', annotations: {} },
    spec: { maxReplicas: 3, targetCPUUtilizationPercentage: 50 },
  };
  const stored = conversion?.toStorage(hpa);
  assert.equal(stored?.apiVersion, 'autoscaling/v2');
  assert.deepEqual(conversion?.fromStorage(stored as KubeObject), hpa);
});
