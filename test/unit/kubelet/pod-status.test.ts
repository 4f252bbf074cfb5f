// What the API shows of a pod: phases, waiting reasons, readiness.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '../../../src/api/types.ts';
import { podStatus, type WaitReason } from '../../../src/kubelet/pod-status.ts';
import type { RuntimeContainer, RuntimePod } from '../../../src/kubelet/runtime-pod.ts';

const NOW_MS = Date.UTC(2026, 0, 2, 3, 4, 5);

function container(name: string, change: Partial<RuntimeContainer> = {}): RuntimeContainer {
  return {
    id: `id-${name}`,
    name,
    sandboxId: 's',
    phase: 'running',
    restartCount: 0,
    hash: '',
    createdAtMs: NOW_MS,
    startedAtMs: NOW_MS,
    finishedAtMs: 0,
    exitCode: 0,
    reason: '',
    message: '',
    image: 'image:1',
    imageRef: 'sha256:1',
    logPath: '',
    ...change,
  };
}

interface Situation {
  policy?: string;
  containers?: RuntimeContainer[];
  inits?: string[];
  waiting?: Record<string, WaitReason>;
  ready?: boolean;
  terminating?: boolean;
  hostNetwork?: boolean;
  before?: Pod['status'];
  sandboxReady?: boolean;
}

function statusOf(situation: Situation) {
  const { policy = 'Always', containers = [], inits = [], waiting = {}, ready = true } = situation;
  const pod: Pod = {
    metadata: { name: 'p', uid: 'u' },
    spec: {
      restartPolicy: policy,
      hostNetwork: situation.hostNetwork,
      containers: [{ name: 'a', image: 'image:1' }],
      initContainers: inits.map(name => ({ name, image: 'image:1' })),
    },
    status: situation.before,
  };
  const sandbox = {
    id: 's',
    attempt: 0,
    ready: situation.sandboxReady ?? true,
    createdAtMs: 1,
    ips: ['10.0.0.2', 'fd00::2'],
  };
  const runtime: RuntimePod = { uid: 'u', name: 'p', namespace: 'd', sandboxes: [sandbox], containers };
  return podStatus({
    pod,
    runtime,
    nodeIps: ['192.0.2.1'],
    nowMs: NOW_MS,
    waiting: new Map(Object.entries(waiting)),
    probes: { ready: () => ready, started: () => true },
    terminationMessage: () => '',
    terminating: situation.terminating,
  });
}

const conditionOf = (status: ReturnType<typeof statusOf>, type: string) =>
  status.conditions?.find(condition => condition.type === type)?.status;

test('a pod whose container is being made', () => {
  const status = statusOf({});
  assert.equal(status.phase, 'Pending');
  assert.deepEqual(status.containerStatuses?.[0]?.state, { waiting: { reason: 'ContainerCreating' } });
  assert.equal(conditionOf(status, 'Ready'), 'False');
  assert.deepEqual(status.podIPs, [{ ip: '10.0.0.2' }, { ip: 'fd00::2' }]);
  assert.equal(status.startTime, '2026-01-02T03:04:05Z');
});

test('a running pod', () => {
  const status = statusOf({ containers: [container('a')] });
  assert.equal(status.phase, 'Running');
  assert.equal(conditionOf(status, 'Ready'), 'True');
  assert.equal(status.containerStatuses?.[0]?.containerID, 'containerd://id-a');
  assert.equal(status.qosClass, 'BestEffort');
});

test('a running pod whose readiness probe has not succeeded', () => {
  const status = statusOf({ containers: [container('a')], ready: false });
  assert.equal(status.phase, 'Running');
  assert.equal(conditionOf(status, 'Ready'), 'False');
  assert.equal(status.containerStatuses?.[0]?.ready, false);
});

test('a container in back-off shows its last end', () => {
  const status = statusOf({
    containers: [container('a', { phase: 'exited', exitCode: 3, finishedAtMs: NOW_MS, restartCount: 2 })],
    waiting: { a: { reason: 'CrashLoopBackOff', message: 'back-off 20s' } },
  });
  const [entry] = status.containerStatuses!;
  assert.equal(status.phase, 'Running');
  assert.equal(entry?.state?.waiting?.reason, 'CrashLoopBackOff');
  assert.equal(entry?.lastState?.terminated?.exitCode, 3);
  assert.equal(entry?.restartCount, 2);
});

for (const [policy, exitCode, phase] of [
  ['Never', 0, 'Succeeded'],
  ['Never', 1, 'Failed'],
  ['OnFailure', 0, 'Succeeded'],
  ['OnFailure', 1, 'Running'],
  ['Always', 0, 'Running'],
] as const)
  test(`phase with restartPolicy ${policy} and exit code ${exitCode}`, () => {
    const containers = [container('a', { phase: 'exited', exitCode, finishedAtMs: NOW_MS })];
    assert.equal(statusOf({ policy, containers }).phase, phase);
  });

test('image problems keep the pod Pending', () => {
  const status = statusOf({ waiting: { a: { reason: 'ErrImagePull', message: 'no' } } });
  assert.equal(status.phase, 'Pending');
  assert.equal(status.containerStatuses?.[0]?.state?.waiting?.reason, 'ErrImagePull');
});

test('main containers wait for init containers', () => {
  const status = statusOf({ inits: ['i'], containers: [container('i')] });
  assert.equal(status.phase, 'Pending');
  assert.equal(status.containerStatuses?.[0]?.state?.waiting?.reason, 'PodInitializing');
  assert.equal(conditionOf(status, 'Initialized'), 'False');
});

test('a pod that was ended is not Ready and ends Failed or Succeeded by its exit codes', () => {
  const exited = (exitCode: number) => [container('a', { phase: 'exited', exitCode, finishedAtMs: NOW_MS })];
  assert.equal(statusOf({ terminating: true, containers: exited(0) }).phase, 'Succeeded');
  assert.equal(statusOf({ terminating: true, containers: exited(137) }).phase, 'Failed');
  assert.equal(conditionOf(statusOf({ terminating: true, containers: [container('a')] }), 'Ready'), 'False');
});

test('times of conditions move only when their status does; foreign conditions stay', () => {
  const before = {
    conditions: [
      { type: 'Ready', status: 'True', lastTransitionTime: '2020-01-01T00:00:00Z' },
      { type: 'ContainersReady', status: 'False', lastTransitionTime: '2020-01-01T00:00:00Z' },
      { type: 'example.com/gate', status: 'True' },
    ],
  };
  const { conditions } = statusOf({ containers: [container('a')], before });
  const time = (type: string) => conditions?.find(entry => entry.type === type)?.lastTransitionTime;
  assert.equal(time('Ready'), '2020-01-01T00:00:00Z');
  assert.equal(time('ContainersReady'), '2026-01-02T03:04:05Z');
  assert.ok(conditions?.some(entry => entry.type === 'example.com/gate'));
});

test('a host-network pod has the node addresses', () => {
  assert.deepEqual(statusOf({ hostNetwork: true, containers: [container('a')] }).podIP, '192.0.2.1');
});

test('a dead sandbox has no address', () => {
  assert.equal(statusOf({ sandboxReady: false }).podIP, undefined);
});
