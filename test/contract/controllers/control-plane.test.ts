// Scheduler and controllers against the real API server, each with its own credentials: what a user creates happens.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { KubeObject } from '../../../src/api/types.ts';
import { Informer } from '../../../src/client/informer.ts';
import { keyOf, RESOURCE, type TypedRef } from '../../../src/client/resources.ts';
import { isNotFound } from '../../../src/client/status.ts';
import { ControllerManager } from '../../../src/controllers/manager.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { Scheduler } from '../../../src/scheduler/scheduler.ts';
import {
  type ControlPlane,
  playKubelets,
  registerNode,
  startControlPlane,
} from '../../harness/control-plane.ts';
import { eventually } from '../../harness/fake-api.ts';

let plane: ControlPlane;
let manager: ControllerManager;
let scheduler: Scheduler;
let stopKubelets: () => Promise<void>;
const copies = new Map<string, Informer<KubeObject>>();

async function copy<T extends KubeObject>(ref: TypedRef<T>): Promise<Informer<T>> {
  let informer = copies.get(ref.plural) as Informer<T> | undefined;
  if (!informer) {
    informer = new Informer(plane.admin, ref);
    copies.set(ref.plural, informer as unknown as Informer<KubeObject>);
    informer.start();
    await informer.synced();
  }
  return informer;
}

before(async () => {
  plane = await startControlPlane();
  const log = silentLogger();
  manager = new ControllerManager({
    client: plane.controllers,
    log,
    clusterCidrs: ['10.244.0.0/16', 'fd00:244::/48'],
  });
  scheduler = new Scheduler({ client: plane.scheduler, log });
  await Promise.all([manager.start(), scheduler.start()]);
  stopKubelets = await playKubelets(plane.admin);
});

after(async () => {
  await stopKubelets?.();
  await Promise.all([...copies.values()].map(informer => informer.stop()));
  await Promise.all([manager?.stop(), scheduler?.stop()]);
  await plane?.stop();
});

function deployment(name: string, replicas: number, namespace = 'default') {
  return {
    metadata: { name, namespace },
    spec: {
      replicas,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name } },
        spec: { containers: [{ name: 'c', image: 'i', ports: [{ name: 'http', containerPort: 8080 }] }] },
      },
    },
  };
}

test('nodes get pod networks of both families, none twice', async () => {
  for (const name of ['node-1', 'node-2', 'node-3']) await registerNode(plane.admin, name);
  const nodes = await copy(RESOURCE.nodes);
  await eventually(
    () => nodes.list().length === 3 && nodes.list().every(node => node.spec?.podCIDRs?.length === 2),
    'podCIDRs',
  );
  const all = nodes.list().flatMap(node => node.spec?.podCIDRs ?? []);
  assert.equal(new Set(all).size, 6);
  for (const node of nodes.list()) {
    assert.match(node.spec?.podCIDRs?.[0] ?? '', /^10\.244\.\d+\.0\/24$/);
    assert.equal(node.spec?.podCIDR, node.spec?.podCIDRs?.[0]);
  }
});

test('a Deployment and a Service: three pods on three nodes, in the slices and the Endpoints', async () => {
  const started = performance.now();
  await plane.admin.create(RESOURCE.deployments, deployment('hello', 3));
  await plane.admin.create(RESOURCE.services, {
    metadata: { name: 'hello', namespace: 'default' },
    spec: { selector: { app: 'hello' }, ports: [{ name: 'web', port: 80, targetPort: 'http' }] },
  });
  const slices = await copy(RESOURCE.endpointSlices);
  const slice = await eventually(
    () =>
      slices
        .list()
        .find(
          ({ metadata, endpoints }) =>
            metadata.labels?.['kubernetes.io/service-name'] === 'hello' &&
            endpoints?.length === 3 &&
            endpoints.every(({ conditions }) => conditions?.ready),
        ),
    'three ready endpoints',
  );
  console.log(`# Deployment to endpoints: ${Math.round(performance.now() - started)} ms`);
  assert.equal(new Set(slice.endpoints.map(({ nodeName }) => nodeName)).size, 3);
  assert.equal(slice.ports?.[0]?.port, 8080);
  const endpoints = await copy(RESOURCE.endpoints);
  await eventually(
    () => endpoints.get('hello', 'default')?.subsets?.[0]?.addresses?.length === 3,
    'Endpoints',
  );
  const deployments = await copy(RESOURCE.deployments);
  await eventually(() => deployments.get('hello', 'default')?.status?.availableReplicas === 3, 'available');
  const events = await copy(RESOURCE.events);
  const reasons = await eventually(() => {
    const found = new Set(events.list().map(({ reason }) => reason));
    return found.has('Scheduled') && found.has('SuccessfulCreate') && found.has('ScalingReplicaSet') && found;
  }, 'Events');
  assert.ok(reasons);
});

test('a rolling update through the real server', async () => {
  const deployments = await copy(RESOURCE.deployments);
  const patch = { spec: { template: { spec: { containers: [{ name: 'c', image: 'v2' }] } } } };
  await plane.admin.patch(RESOURCE.deployments, 'hello', patch, { type: 'strategic', namespace: 'default' });
  await eventually(
    () => {
      const current = deployments.get('hello', 'default');
      const { status, metadata } = current ?? {};
      return (
        metadata?.annotations?.['deployment.kubernetes.io/revision'] === '2' &&
        status?.observedGeneration === metadata.generation &&
        status?.updatedReplicas === 3 &&
        status.replicas === 3 &&
        status.availableReplicas === 3
      );
    },
    'rolled out',
    10_000,
  );
  const sets = await copy(RESOURCE.replicaSets);
  assert.deepEqual(
    sets
      .list()
      .map(({ spec }) => spec?.replicas)
      .sort(),
    [0, 3],
  );
});

test('everything goes on after the API server was away', async () => {
  await plane.restart(300);
  await plane.admin.patch(
    RESOURCE.deployments,
    'hello',
    { spec: { replicas: 5 } },
    { type: 'merge', namespace: 'default' },
  );
  const deployments = await copy(RESOURCE.deployments);
  await eventually(
    () => deployments.get('hello', 'default')?.status?.availableReplicas === 5,
    'five',
    15_000,
  );
});

test('deleting the Deployment takes its ReplicaSets and pods along; deleting the Service its slices', async () => {
  await plane.admin.delete(RESOURCE.deployments, 'hello', { namespace: 'default' });
  await plane.admin.delete(RESOURCE.services, 'hello', { namespace: 'default' });
  const [sets, pods, slices, endpoints] = await Promise.all([
    copy(RESOURCE.replicaSets),
    copy(RESOURCE.pods),
    copy(RESOURCE.endpointSlices),
    copy(RESOURCE.endpoints),
  ]);
  await eventually(() => sets.size === 0 && pods.size === 0, 'owned objects gone', 15_000);
  await eventually(
    () => !slices.list().some(({ metadata }) => metadata.labels?.['kubernetes.io/service-name'] === 'hello'),
    'slices gone',
    10_000,
  );
  await eventually(() => endpoints.get('hello', 'default') === undefined, 'Endpoints gone');
  const kept = slices.list().map(keyOf);
  assert.ok(kept.length >= 1, 'the slices of default/kubernetes are not ours to delete');
});

test('foreground: dependents first; orphan: dependents stay', async () => {
  const [deployments, sets, pods] = await Promise.all([
    copy(RESOURCE.deployments),
    copy(RESOURCE.replicaSets),
    copy(RESOURCE.pods),
  ]);
  await plane.admin.create(RESOURCE.deployments, deployment('fore', 2));
  await plane.admin.create(RESOURCE.deployments, deployment('orph', 2));
  await eventually(() => pods.size === 4 && pods.list().every(({ status }) => status?.podIP), 'four pods');
  await plane.admin.delete(RESOURCE.deployments, 'fore', {
    namespace: 'default',
    propagationPolicy: 'Foreground',
  });
  await eventually(() => !deployments.get('fore', 'default'), 'foreground done', 10_000);
  assert.equal(pods.size, 2);
  await plane.admin.delete(RESOURCE.deployments, 'orph', {
    namespace: 'default',
    propagationPolicy: 'Orphan',
  });
  await eventually(() => !deployments.get('orph', 'default'), 'orphan done', 10_000);
  const [set] = sets.list();
  assert.equal(sets.size, 1);
  await eventually(() => !sets.list()[0]?.metadata.ownerReferences?.length, 'no owner');
  assert.equal(pods.size, 2);
  await plane.admin.delete(RESOURCE.replicaSets, set?.metadata.name ?? '', { namespace: 'default' });
  await eventually(() => pods.size === 0, 'cleaned up', 10_000);
});

test('a namespace goes with all that is in it', async () => {
  await plane.admin.create(RESOURCE.namespaces, { metadata: { name: 'team' } });
  await plane.admin.create(RESOURCE.deployments, deployment('app', 2, 'team'));
  await plane.admin.create(RESOURCE.configMaps, {
    metadata: { name: 'c', namespace: 'team' },
    data: { a: 'b' },
  });
  const pods = await copy(RESOURCE.pods);
  await eventually(() => pods.list().filter(({ status }) => status?.podIP).length === 2, 'two pods');
  await plane.admin.delete(RESOURCE.namespaces, 'team');
  const namespaces = await copy(RESOURCE.namespaces);
  await eventually(() => !namespaces.get('team'), 'the namespace gone', 15_000);
  await assert.rejects(plane.admin.get(RESOURCE.configMaps, 'c', 'team'), isNotFound);
  assert.equal(pods.size, 0);
});

test('a pod that fits nowhere is told so', async () => {
  await plane.admin.create(RESOURCE.pods, {
    metadata: { name: 'huge', namespace: 'default' },
    spec: { containers: [{ name: 'c', image: 'i', resources: { requests: { cpu: '64' } } }] },
  });
  const pods = await copy(RESOURCE.pods);
  const condition = await eventually(
    () => pods.get('huge', 'default')?.status?.conditions?.find(({ status }) => status === 'False'),
    'the condition',
  );
  assert.equal(condition.message, '0/3 nodes are available: 3 Insufficient cpu.');
  await plane.admin.delete(RESOURCE.pods, 'huge', { namespace: 'default' });
  await eventually(() => pods.size === 0, 'gone');
});
