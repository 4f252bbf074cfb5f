// The pod planner: what is killed and started in each situation kuberuntime's computePodActions knows.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '../../../src/api/types.ts';
import { containerHash, planPod } from '../../../src/kubelet/plan.ts';
import type { RuntimeContainer, RuntimePod } from '../../../src/kubelet/runtime-pod.ts';

const healthy = { failed: () => undefined };

function podOf(restartPolicy: string, names = ['a', 'b'], inits: string[] = []): Pod {
  return {
    metadata: { name: 'p', namespace: 'default', uid: 'u' },
    spec: {
      restartPolicy,
      containers: names.map(name => ({ name, image: 'i' })),
      initContainers: inits.map(name => ({ name, image: 'i' })),
    },
  };
}

function container(name: string, change: Partial<RuntimeContainer> = {}): RuntimeContainer {
  return {
    id: `id-${name}`,
    name,
    sandboxId: 's0',
    phase: 'running',
    restartCount: 0,
    hash: containerHash({ name, image: 'i' }),
    createdAtMs: 10,
    startedAtMs: 10,
    finishedAtMs: 0,
    exitCode: 0,
    reason: '',
    message: '',
    image: 'i',
    imageRef: '',
    logPath: '',
    ...change,
  };
}

const exited = (name: string, exitCode: number, change: Partial<RuntimeContainer> = {}) =>
  container(name, { phase: 'exited', exitCode, finishedAtMs: 20, ...change });

function runtimeOf(containers: RuntimeContainer[], ready = true): RuntimePod {
  const sandbox = { id: 's0', attempt: 0, ready, createdAtMs: 1, ips: ['10.0.0.2'] };
  return { uid: 'u', name: 'p', namespace: 'default', sandboxes: [sandbox], containers };
}

const nothing: RuntimePod = { uid: 'u', name: 'p', namespace: 'default', sandboxes: [], containers: [] };

test('a new pod gets a sandbox and all containers', () => {
  const plan = planPod(podOf('Always'), nothing, healthy);
  assert.equal(plan.createSandbox, true);
  assert.equal(plan.attempt, 0);
  assert.deepEqual(plan.containersToStart, ['a', 'b']);
});

test('a new pod with init containers starts the first of them only', () => {
  const plan = planPod(podOf('Always', ['a'], ['i1', 'i2']), nothing, healthy);
  assert.equal(plan.initContainerToStart, 'i1');
  assert.deepEqual(plan.containersToStart, []);
});

test('a running pod is left alone', () => {
  const plan = planPod(podOf('Always'), runtimeOf([container('a'), container('b')]), healthy);
  assert.equal(plan.killPod, false);
  assert.equal(plan.createSandbox, false);
  assert.deepEqual([plan.kill, plan.containersToStart], [[], []]);
});

test('init containers go one at a time, and a failed one again', () => {
  const pod = podOf('Always', ['a'], ['i1', 'i2']);
  const next = (containers: RuntimeContainer[]) => {
    const plan = planPod(pod, runtimeOf(containers), healthy);
    return [plan.initContainerToStart, plan.containersToStart];
  };
  assert.deepEqual(next([container('i1')]), [undefined, []]);
  assert.deepEqual(next([exited('i1', 0)]), ['i2', []]);
  assert.deepEqual(next([exited('i1', 1)]), ['i1', []]);
  assert.deepEqual(next([exited('i2', 0), exited('i1', 0)]), [undefined, ['a']]);
  assert.deepEqual(next([container('a'), exited('i2', 0), exited('i1', 0)]), [undefined, []]);
});

test('a failed init container ends a pod that is never restarted', () => {
  const plan = planPod(podOf('Never', ['a'], ['i1']), runtimeOf([exited('i1', 1)]), healthy);
  assert.equal(plan.killPod, true);
  assert.equal(plan.createSandbox, false);
});

for (const [policy, exitCode, starts] of [
  ['Always', 0, true],
  ['Always', 1, true],
  ['OnFailure', 0, false],
  ['OnFailure', 1, true],
  ['Never', 0, false],
  ['Never', 1, false],
] as const)
  test(`restartPolicy ${policy} after exit code ${exitCode}`, () => {
    const plan = planPod(podOf(policy), runtimeOf([container('a'), exited('b', exitCode)]), healthy);
    assert.deepEqual(plan.containersToStart, starts ? ['b'] : []);
    assert.equal(plan.killPod, false);
  });

test('a pod whose containers are done for good is stopped', () => {
  const plan = planPod(podOf('OnFailure'), runtimeOf([exited('a', 0), exited('b', 0)]), healthy);
  assert.equal(plan.killPod, true);
  assert.equal(plan.createSandbox, false);
});

test('a dead sandbox is replaced with everything in it', () => {
  const plan = planPod(podOf('Always'), runtimeOf([exited('a', 255), exited('b', 255)], false), healthy);
  assert.deepEqual([plan.killPod, plan.createSandbox, plan.attempt], [true, true, 1]);
  assert.deepEqual(plan.containersToStart, ['a', 'b']);
});

test('a dead sandbox of a pod that is never restarted is not replaced', () => {
  const plan = planPod(podOf('Never'), runtimeOf([exited('a', 0), exited('b', 1)], false), healthy);
  assert.deepEqual([plan.killPod, plan.createSandbox], [true, false]);
});

test('a dead sandbox with OnFailure runs again only what had not succeeded', () => {
  const plan = planPod(podOf('OnFailure'), runtimeOf([exited('a', 0), exited('b', 1)], false), healthy);
  assert.deepEqual([plan.createSandbox, plan.containersToStart], [true, ['b']]);
});

test('a sandbox without an address is no sandbox, except on the host network', () => {
  const runtime = runtimeOf([container('a')]);
  runtime.sandboxes[0]!.ips = [];
  const pod = podOf('Always', ['a']);
  assert.equal(planPod(pod, runtime, healthy).createSandbox, true);
  pod.spec!.hostNetwork = true;
  assert.equal(planPod(pod, runtime, healthy).createSandbox, false);
});

test('a changed image and a failed probe restart the container', () => {
  const pod = podOf('Always', ['a']);
  pod.spec!.containers[0]!.image = 'other';
  const changed = planPod(pod, runtimeOf([container('a')]), healthy);
  assert.deepEqual([changed.kill.length, changed.containersToStart], [1, ['a']]);
  const sick = planPod(podOf('Always', ['a']), runtimeOf([container('a')]), { failed: () => 'liveness' });
  assert.match(sick.kill[0]!.message, /failed liveness probe/);
  assert.deepEqual(sick.containersToStart, ['a']);
});

test('containers made but not started, as by a kubelet that was killed, are made anew', () => {
  const plan = planPod(podOf('Never', ['a']), runtimeOf([container('a', { phase: 'created' })]), healthy);
  assert.deepEqual(plan.containersToStart, ['a']);
});
