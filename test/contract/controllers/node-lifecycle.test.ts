// A node that falls silent, on the real API server: conditions, taints, its pods out of the Service; and back again.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Informer } from '../../../src/client/informer.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { EndpointSliceController } from '../../../src/controllers/endpoint-slice.ts';
import { ControllerManager } from '../../../src/controllers/manager.ts';
import { NodeLifecycleController } from '../../../src/controllers/node-lifecycle.ts';
import { PodGcController } from '../../../src/controllers/pod-gc.ts';
import { formatMicroTime } from '../../../src/lib/clock.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { makeNode, registerNode, startControlPlane } from '../../harness/control-plane.ts';
import { eventually } from '../../harness/fake-api.ts';

const GRACE_MS = 600;

test('silence, taints, endpoints, return; an API server that was away condemns nobody', async () => {
  const plane = await startControlPlane();
  const manager = new ControllerManager({
    client: plane.controllers,
    log: silentLogger(),
    clusterCidrs: [],
    controllers: [
      context => new NodeLifecycleController(context, { graceMs: GRACE_MS }),
      context => new EndpointSliceController(context),
      context => new PodGcController(context, { quarantineMs: 200 }),
    ],
  });
  await manager.start();
  const nodes = new Informer(plane.admin, RESOURCE.nodes);
  const slices = new Informer(plane.admin, RESOURCE.endpointSlices);
  const pods = new Informer(plane.admin, RESOURCE.pods);
  for (const informer of [nodes, slices, pods]) informer.start();
  await registerNode(plane.admin, 'node-1');
  await plane.admin.create(RESOURCE.leases, {
    metadata: { name: 'node-1', namespace: 'kube-node-lease' },
    spec: { holderIdentity: 'node-1', leaseDurationSeconds: 40 },
  });
  let beating = true;
  const beat = setInterval(() => {
    const patch = { spec: { renewTime: formatMicroTime(Date.now()) } };
    const options = { type: 'merge', namespace: 'kube-node-lease', retries: 0 } as const;
    if (beating) plane.admin.patch(RESOURCE.leases, 'node-1', patch, options).catch(() => {});
  }, 100);
  await plane.admin.create(RESOURCE.services, {
    metadata: { name: 'svc', namespace: 'default' },
    spec: { selector: { app: 'a' }, ports: [{ port: 80 }] },
  });
  await plane.admin.create(RESOURCE.pods, {
    metadata: { name: 'a', namespace: 'default', labels: { app: 'a' } },
    spec: { nodeName: 'node-1', containers: [{ name: 'c', image: 'i' }] },
  });
  const ready = { type: 'Ready', status: 'True', lastTransitionTime: '2026-01-01T00:00:00Z' };
  const status = {
    phase: 'Running',
    podIP: '10.244.0.2',
    podIPs: [{ ip: '10.244.0.2' }],
    conditions: [ready],
  };
  const strategic = { type: 'strategic', subresource: 'status' } as const;
  await plane.admin.patch(RESOURCE.pods, 'a', { status }, { ...strategic, namespace: 'default' });
  const endpointReady = (): boolean | undefined =>
    slices.list().find(slice => slice.metadata.labels?.['kubernetes.io/service-name'] === 'svc')
      ?.endpoints?.[0]?.conditions?.ready;
  const readiness = (): string | undefined =>
    nodes.get('node-1')?.status?.conditions?.find(({ type }) => type === 'Ready')?.status;
  await eventually(() => endpointReady() === true, 'ready');

  await plane.restart(GRACE_MS * 1.5);
  await new Promise(resolve => setTimeout(resolve, GRACE_MS / 2));
  assert.equal(readiness(), 'True');

  beating = false;
  await eventually(() => readiness() === 'Unknown', 'Unknown', GRACE_MS * 6);
  await eventually(() => nodes.get('node-1')?.spec?.taints?.length === 2, 'two taints');
  assert.ok(nodes.get('node-1')?.spec?.taints?.every(({ key }) => key === 'node.kubernetes.io/unreachable'));
  await eventually(() => endpointReady() === false, 'out of the Service');

  beating = true;
  await plane.admin.patch(RESOURCE.nodes, 'node-1', { status: makeNode('node-1').status }, strategic);
  await eventually(() => (nodes.get('node-1')?.spec?.taints ?? []).length === 0, 'no taints', 10_000);

  await plane.admin.delete(RESOURCE.nodes, 'node-1');
  await eventually(() => pods.size === 0, 'the pod of a node that is gone', 10_000);
  clearInterval(beat);
  await Promise.all([nodes, slices, pods].map(informer => informer.stop()));
  await manager.stop();
  await plane.stop();
});
