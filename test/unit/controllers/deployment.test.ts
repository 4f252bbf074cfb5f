// Deployment and ReplicaSet together, on an API in memory with a kubelet that makes pods ready.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Deployment, Pod, ReplicaSet } from '../../../src/api/types.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { DeploymentController } from '../../../src/controllers/deployment.ts';
import { ControllerManager } from '../../../src/controllers/manager.ts';
import { isPodActive, isPodReady } from '../../../src/controllers/pod-state.ts';
import { ReplicaSetController } from '../../../src/controllers/replica-set.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { eventually, FakeApi } from '../../harness/fake-api.ts';
import { makeDeployment, makePod, runKubelet } from './objects.ts';

async function withControllers(
  body: (api: FakeApi) => Promise<void>,
  verdict?: (pod: Pod) => boolean,
): Promise<void> {
  const api = new FakeApi();
  const stopKubelet = runKubelet(api, verdict);
  const manager = new ControllerManager({
    client: api.client(),
    log: silentLogger(),
    clusterCidrs: [],
    controllers: [context => new DeploymentController(context), context => new ReplicaSetController(context)],
  });
  await manager.start();
  try {
    await body(api);
  } finally {
    await manager.stop();
    stopKubelet();
  }
}

const get = (api: FakeApi, name = 'web') => api.find(RESOURCE.deployments, name, 'default') as Deployment;
const sets = (api: FakeApi) => api.all(RESOURCE.replicaSets);
const active = (api: FakeApi) => api.all(RESOURCE.pods).filter(isPodActive);
const imageOf = (object: Pod | ReplicaSet) =>
  ('template' in (object.spec ?? {}) ? (object as ReplicaSet).spec?.template?.spec : (object as Pod).spec)
    ?.containers[0]?.image;

function change(api: FakeApi, edit: (spec: NonNullable<Deployment['spec']>) => void): void {
  const copy = structuredClone(get(api));
  edit(copy.spec as NonNullable<Deployment['spec']>);
  api.put(RESOURCE.deployments, copy);
}

function setImage(api: FakeApi, image: string): void {
  change(api, spec => {
    if (spec.template.spec) spec.template.spec.containers = [{ name: 'c', image }];
  });
}

/** What `kubectl rollout status` waits for. */
function rolledOut(api: FakeApi): boolean {
  const { metadata, spec, status } = get(api);
  return (
    (status?.observedGeneration ?? 0) >= (metadata?.generation ?? 0) &&
    status?.updatedReplicas === spec?.replicas &&
    status?.replicas === spec?.replicas &&
    status?.availableReplicas === spec?.replicas
  );
}

test('a Deployment becomes a ReplicaSet and pods, and says when it is done', async () => {
  await withControllers(async api => {
    api.put(RESOURCE.deployments, makeDeployment('web', 3));
    await eventually(() => rolledOut(api), 'rolled out');
    const [set] = sets(api);
    assert.match(set?.metadata.name ?? '', /^web-[a-z0-9]+$/);
    assert.equal(set?.metadata.annotations?.['deployment.kubernetes.io/revision'], '1');
    const pods = active(api);
    assert.equal(pods.length, 3);
    for (const pod of pods) {
      assert.ok(pod.metadata.name.startsWith(`${set?.metadata.name}-`));
      assert.equal(pod.metadata.labels?.['pod-template-hash'], set?.metadata.labels?.['pod-template-hash']);
      assert.equal(pod.metadata.ownerReferences?.[0]?.uid, set?.metadata.uid);
    }
    const conditions = await eventually(
      () =>
        get(api).status?.conditions?.find(({ reason }) => reason === 'NewReplicaSetAvailable') &&
        get(api).status?.conditions,
      'conditions',
    );
    assert.deepEqual(conditions.map(({ type, status, reason }) => [type, status, reason]).sort(), [
      ['Available', 'True', 'MinimumReplicasAvailable'],
      ['Progressing', 'True', 'NewReplicaSetAvailable'],
    ]);
    assert.equal(get(api).metadata?.annotations?.['deployment.kubernetes.io/revision'], '1');
  });
});

test('a rolling update never has fewer ready or more pods than allowed; undo goes back', async () => {
  await withControllers(async api => {
    const strategy = { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } };
    api.put(RESOURCE.deployments, makeDeployment('web', 4, 'v1', { strategy }));
    await eventually(() => rolledOut(api), 'v1');
    let fewest = Infinity;
    let most = 0;
    const watch = setInterval(() => {
      fewest = Math.min(fewest, active(api).filter(isPodReady).length);
      most = Math.max(most, active(api).length);
    }, 1);
    setImage(api, 'v2');
    await eventually(() => rolledOut(api) && active(api).every(pod => imageOf(pod) === 'v2'), 'v2', 10_000);
    clearInterval(watch);
    assert.ok(fewest >= 4, `${fewest} ready`);
    assert.ok(most <= 5, `${most} pods`);
    assert.deepEqual(
      sets(api).map(set => [imageOf(set), set.spec?.replicas]),
      [
        ['v1', 0],
        ['v2', 4],
      ],
    );
    setImage(api, 'v1');
    await eventually(
      () => rolledOut(api) && active(api).every(pod => imageOf(pod) === 'v1'),
      'v1 again',
      10_000,
    );
    assert.equal(sets(api).length, 2);
    assert.equal(get(api).metadata?.annotations?.['deployment.kubernetes.io/revision'], '3');
  });
});

test('a version that never gets ready stops the update and runs into its deadline', async () => {
  await withControllers(
    async api => {
      api.put(RESOURCE.deployments, makeDeployment('web', 4, 'v1', { progressDeadlineSeconds: 2 }));
      await eventually(() => rolledOut(api), 'v1');
      setImage(api, 'bad');
      await eventually(
        () => get(api).status?.conditions?.some(({ reason }) => reason === 'ProgressDeadlineExceeded'),
        'the deadline',
        8_000,
      );
      assert.equal(active(api).filter(isPodReady).length, 3);
      assert.equal(active(api).length, 5);
    },
    pod => imageOf(pod) !== 'bad',
  );
});

test('Recreate: the old pods are gone before the first new one', async () => {
  await withControllers(async api => {
    api.put(RESOURCE.deployments, makeDeployment('web', 3, 'v1', { strategy: { type: 'Recreate' } }));
    await eventually(() => rolledOut(api), 'v1');
    let mixed = false;
    const watch = setInterval(() => {
      mixed ||= new Set(api.all(RESOURCE.pods).map(imageOf)).size > 1;
    }, 1);
    setImage(api, 'v2');
    await eventually(() => rolledOut(api) && active(api).every(pod => imageOf(pod) === 'v2'), 'v2');
    clearInterval(watch);
    assert.equal(mixed, false);
  });
});

test('scaling, pausing, and history', async () => {
  await withControllers(async api => {
    api.put(RESOURCE.deployments, makeDeployment('web', 2, 'v1', { revisionHistoryLimit: 1 }));
    await eventually(() => rolledOut(api), 'two');
    change(api, spec => {
      spec.replicas = 5;
    });
    await eventually(() => rolledOut(api) && active(api).length === 5, 'five');
    change(api, spec => {
      spec.paused = true;
      spec.replicas = 1;
    });
    setImage(api, 'v2');
    await eventually(() => active(api).length === 1, 'one, though paused');
    assert.equal(sets(api).length, 1);
    change(api, spec => {
      spec.paused = false;
    });
    await eventually(() => rolledOut(api) && active(api).every(pod => imageOf(pod) === 'v2'), 'resumed');
    setImage(api, 'v3');
    await eventually(() => rolledOut(api) && sets(api).length === 2, 'the oldest is cleaned up');
    assert.deepEqual(sets(api).map(imageOf).sort(), ['v2', 'v3']);
  });
});

test('a ReplicaSet adopts what matches, releases what does not, and replaces what is gone', async () => {
  await withControllers(async api => {
    api.put(RESOURCE.pods, makePod('stray', { labels: { app: 'rs' }, ip: '10.0.0.9' }));
    api.put(RESOURCE.replicaSets, {
      metadata: { name: 'rs', namespace: 'default' },
      spec: {
        replicas: 2,
        selector: { matchLabels: { app: 'rs' } },
        template: { metadata: { labels: { app: 'rs' } }, spec: { containers: [{ name: 'c', image: 'i' }] } },
      },
    });
    await eventually(
      () => api.find(RESOURCE.replicaSets, 'rs', 'default')?.status?.readyReplicas === 2,
      'two',
    );
    assert.equal(active(api).length, 2);
    const stray = api.find(RESOURCE.pods, 'stray', 'default');
    assert.equal(stray?.metadata.ownerReferences?.[0]?.name, 'rs');
    api.put(RESOURCE.pods, { ...stray, metadata: { ...stray?.metadata, labels: { app: 'other' } } });
    await eventually(
      () =>
        active(api).length === 3 &&
        !api.find(RESOURCE.pods, 'stray', 'default')?.metadata.ownerReferences?.length,
      'released and replaced',
    );
    const victim = active(api).find(pod => pod.metadata.name !== 'stray');
    api.remove(RESOURCE.pods, victim?.metadata.name ?? '', 'default');
    await eventually(() => active(api).length === 3, 'replaced');
  });
});

test('an API that refuses pods: a condition, an Event, no flood', async () => {
  await withControllers(async api => {
    let attempts = 0;
    api.intercept = request => {
      if (request.method === 'POST' && request.path.endsWith('/pods')) {
        attempts++;
        throw new Error('quota');
      }
    };
    api.put(RESOURCE.deployments, makeDeployment('web', 50));
    await eventually(
      () =>
        get(api).status?.conditions?.some(
          ({ type, message }) => type === 'ReplicaFailure' && message === 'quota',
        ),
      'the condition',
    );
    assert.ok(attempts < 20, `${attempts} attempts`);
  });
});
