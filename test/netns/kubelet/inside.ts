// What runs inside the node's namespace, as the agent does: one scenario against the node's containerd, named by argv.
// Prints what it measured; a failed assertion is its exit code.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import type { Pod, Stored } from '../../../src/api/types.ts';
import { cgroupProcesses } from '../../../src/kubelet/cgroup.ts';
import { TestKubelet, TestNode } from './node.ts';

const [scenario, directory, socket, cgroup] = process.argv.slice(2) as [string, string, string, string];
const node = new TestNode(directory, cgroup.split('/').at(-1));
const saved = join(directory, 'pods.json');

function fetchText(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    get(url, { agent: false }, response => {
      let text = '';
      response.on('data', chunk => {
        text += chunk;
      });
      response.on('end', () => resolve(text.trim()));
    }).on('error', reject);
  });
}

const hello = (extra: object = {}) => ({
  name: 'hello',
  image: 'localhost/podwire/hello:1',
  imagePullPolicy: 'IfNotPresent',
  env: [
    { name: 'POD_NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
    { name: 'NODE_NAME', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
  ],
  ports: [{ name: 'http', containerPort: 8080 }],
  ...extra,
});
const shell = (name: string, script: string, extra: object = {}) => ({
  name,
  image: 'localhost/podwire/hello:1',
  imagePullPolicy: 'Never',
  command: ['/bin/sh', '-c', script],
  ...extra,
});

async function lifecycle(kubelet: TestKubelet): Promise<void> {
  kubelet.create('hello', {
    containers: [hello({ readinessProbe: { httpGet: { path: '/', port: 'http' } } })],
  });
  const readyMs = await kubelet.until('hello is Ready', () => kubelet.isReady('hello'));
  const status = kubelet.status('hello');
  assert.equal(status.phase, 'Running');
  assert.equal(await fetchText(`http://${status.podIP}:8080/`), 'hello node-a');
  assert.match(status.containerStatuses?.[0]?.containerID ?? '', /^containerd:\/\/[0-9a-f]{64}$/);
  kubelet.delete('hello', 30);
  const goneMs = await kubelet.until('hello is gone', () => !kubelet.pods.has('hello'));
  assert.equal((await kubelet.cri.listPodSandboxes()).length, 0);
  console.log(`lifecycle: ready ${readyMs} ms, gone ${goneMs} ms`);
  assert.ok(goneMs < 5_000, `TERM must end the server, took ${goneMs} ms`);
}

async function configuration(kubelet: TestKubelet): Promise<void> {
  kubelet.configMaps.set('settings', { data: { COLOUR: 'blue', 'a.conf': 'x=1\n' } });
  kubelet.secrets.set('keys', { data: { token: Buffer.from('s3cret').toString('base64') } });
  kubelet.services = [
    {
      metadata: { name: 'red-is', namespace: 'default' },
      spec: { clusterIP: '10.96.1.2', ports: [{ port: 6379, protocol: 'TCP' }] },
    },
  ];
  const script =
    'echo "$COLOUR $TOKEN $RED_IS_PORT_6379_TCP_ADDR $GREETING $1"; cat /conf/a.conf; cat /etc/hosts | tail -1; ' +
    'cat /etc/resolv.conf; cat /shared/from-init; cat /keys/token; echo; echo done > /dev/termination-log; hostname; exit 0';
  kubelet.create('job', {
    restartPolicy: 'Never',
    initContainers: [
      shell('first', 'echo one > /shared/from-init', {
        volumeMounts: [{ name: 'shared', mountPath: '/shared' }],
      }),
      shell('second', 'echo two >> /shared/from-init', {
        volumeMounts: [{ name: 'shared', mountPath: '/shared' }],
      }),
    ],
    containers: [
      {
        ...shell('main', script),
        command: ['/bin/sh', '-c', script, 'sh', 'arg-$(COLOUR)'],
        env: [
          { name: 'COLOUR', valueFrom: { configMapKeyRef: { name: 'settings', key: 'COLOUR' } } },
          { name: 'TOKEN', valueFrom: { secretKeyRef: { name: 'keys', key: 'token' } } },
          { name: 'GREETING', value: 'hi-$(COLOUR)-$$(x)' },
        ],
        resources: { limits: { memory: '32Mi', cpu: '500m' } },
        volumeMounts: [
          { name: 'conf', mountPath: '/conf' },
          { name: 'shared', mountPath: '/shared' },
          { name: 'keys', mountPath: '/keys', readOnly: true },
        ],
      },
    ],
    volumes: [
      { name: 'conf', configMap: { name: 'settings' } },
      { name: 'shared', emptyDir: {} },
      { name: 'keys', secret: { secretName: 'keys' } },
    ],
  });
  await kubelet.until('job succeeded', () => kubelet.status('job').phase === 'Succeeded');
  const status = kubelet.status('job');
  assert.equal(status.containerStatuses?.[0]?.state?.terminated?.message, 'done');
  assert.deepEqual(
    status.initContainerStatuses?.map(entry => entry.state?.terminated?.reason),
    ['Completed', 'Completed'],
  );
  const pod = kubelet.pods.get('job')!;
  const log = readFileSync(join(directory, `logs/default_job_${pod.metadata.uid}/main/0.log`), 'utf8');
  const lines = log
    .trimEnd()
    .split('\n')
    .map(line => line.split(' ').slice(3).join(' '));
  assert.equal(lines[0], 'blue s3cret 10.96.1.2 hi-blue-$(x) arg-blue');
  assert.equal(lines[1], 'x=1');
  assert.match(lines[2]!, /^10\.251\.0\.\d+\tjob$/);
  assert.deepEqual(lines.slice(3, 6), [
    'search default.svc.cluster.local svc.cluster.local cluster.local',
    'nameserver 10.96.0.10',
    'options ndots:5',
  ]);
  assert.deepEqual(lines.slice(6), ['one', 'two', 's3cret', 'job']);
  // A pod that only the disk remembers, as after a power cut, is cleared away.
  const remains = [join(directory, 'kubelet/pods/uid-old'), join(directory, 'logs/default_old_uid-old')];
  for (const path of remains) mkdirSync(path, { recursive: true });
  await kubelet.manager.sweep();
  await kubelet.until('remains are gone', () => !remains.some(path => existsSync(path)));
  kubelet.delete('job', 0);
  await kubelet.until('job is gone', () => !kubelet.pods.has('job'));
}

async function failures(kubelet: TestKubelet): Promise<void> {
  kubelet.create('never', {
    containers: [{ name: 'c', image: 'localhost/none:1', imagePullPolicy: 'Never' }],
  });
  kubelet.create('pull', {
    containers: [{ name: 'c', image: '127.0.0.1:1/none:1', imagePullPolicy: 'Always' }],
  });
  kubelet.create('crash', { containers: [shell('c', 'exit 3')] });
  kubelet.create('config', {
    containers: [shell('c', 'sleep 99', { envFrom: [{ configMapRef: { name: 'missing' } }] })],
  });
  kubelet.create('live', {
    containers: [
      shell('c', 'trap "exit 0" TERM; touch /ok; sleep 1; rm /ok; while :; do sleep 0.1; done', {
        livenessProbe: { exec: { command: ['cat', '/ok'] }, periodSeconds: 1, failureThreshold: 1 },
      }),
    ],
  });
  kubelet.create('fine', { containers: [hello()] });
  const reason = (name: string) => kubelet.status(name).containerStatuses?.[0]?.state?.waiting?.reason;
  await kubelet.until('fine is Ready', () => kubelet.isReady('fine'));
  await kubelet.until('never', () => reason('never') === 'ErrImageNeverPull');
  await kubelet.until('pull', () => ['ErrImagePull', 'ImagePullBackOff'].includes(reason('pull') ?? ''));
  await kubelet.until('config', () => reason('config') === 'CreateContainerConfigError');
  await kubelet.until('crash', () => reason('crash') === 'CrashLoopBackOff');
  const crash = kubelet.status('crash').containerStatuses![0]!;
  assert.equal(crash.restartCount, 1);
  assert.equal(crash.lastState?.terminated?.exitCode, 3);
  assert.equal(kubelet.status('crash').phase, 'Running');
  await kubelet.until(
    'live was restarted',
    () => (kubelet.status('live').containerStatuses?.[0]?.restartCount ?? 0) > 0,
  );
  // A missing ConfigMap that appears ends the wait.
  kubelet.configMaps.set('missing', { data: { A: 'b' } });
  await kubelet.until('config runs', () => kubelet.isReady('config'));
  for (const name of [...kubelet.pods.keys()]) kubelet.delete(name, 0);
  await kubelet.until('all gone', () => kubelet.pods.size === 0);
  assert.equal((await kubelet.cri.listPodSandboxes()).length, 0);
}

/** What nodes suffer: a dead sandbox, a dead runtime, an impatient user, an object that vanishes. */
async function faults(kubelet: TestKubelet): Promise<void> {
  kubelet.create('host', {
    hostNetwork: true,
    containers: [shell('c', 'trap "exit 0" TERM; while :; do sleep 0.1; done')],
  });
  kubelet.create('hello', { containers: [hello()] });
  kubelet.create('stubborn', {
    terminationGracePeriodSeconds: 600,
    containers: [shell('c', 'trap "" TERM; while :; do sleep 0.1; done')],
  });
  await kubelet.until('all Ready', () => ['host', 'hello', 'stubborn'].every(name => kubelet.isReady(name)));
  assert.equal(kubelet.status('host').podIP, '192.0.2.1');

  const before = kubelet.status('hello').podIP;
  const pause = cgroupProcesses(`${cgroup}/pod${kubelet.pods.get('hello')!.metadata.uid}`).find(pid =>
    readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('2147483647'),
  );
  process.kill(pause!, 'SIGKILL');
  await kubelet.until(
    'hello has a new sandbox',
    () => kubelet.isReady('hello') && kubelet.status('hello').podIP !== before,
  );
  assert.equal(kubelet.status('hello').containerStatuses?.[0]?.restartCount, 1);

  const ids = () => [...kubelet.pods.values()].map(pod => pod.status?.containerStatuses?.[0]?.containerID);
  const running = ids();
  await node.killContainerd();
  kubelet.create('late', { containers: [hello()] });
  await node.startContainerd();
  await kubelet.until('a pod created while the runtime was away runs', () => kubelet.isReady('late'));
  assert.deepEqual(ids().slice(0, 3), running);

  kubelet.delete('stubborn', 600);
  await new Promise(resolve => setTimeout(resolve, 300));
  assert.ok(kubelet.pods.has('stubborn'));
  kubelet.delete('stubborn', 0);
  const goneMs = await kubelet.until('stubborn is gone', () => !kubelet.pods.has('stubborn'));
  console.log(`faults: a pod with 600 s of grace gone ${goneMs} ms after the impatient delete`);

  const { uid } = kubelet.pods.get('late')!.metadata;
  kubelet.pods.delete('late');
  kubelet.manager.removePod(uid);
  for (const name of [...kubelet.pods.keys()]) kubelet.delete(name, 1);
  let left = -1;
  const count = setInterval(async () => {
    left = (await kubelet.cri.listPodSandboxes()).length;
  }, 50);
  await kubelet.until('nothing is left', () => left === 0);
  clearInterval(count);
}

/** Leaves two pods and dies as kill -9 would. */
async function leave(kubelet: TestKubelet): Promise<void> {
  const readinessProbe = { httpGet: { path: '/', port: 'http' }, initialDelaySeconds: 0 };
  kubelet.create('stays', { containers: [hello({ readinessProbe })] });
  kubelet.create('orphan', { containers: [hello()] });
  await kubelet.until('both are Ready', () => kubelet.isReady('stays') && kubelet.isReady('orphan'));
  writeFileSync(saved, JSON.stringify(kubelet.pods.get('stays')));
  process.kill(process.pid, 'SIGKILL');
}

/** Starts anew with one of the two pods: it must be the same container, the other must go. */
async function adopt(kubelet: TestKubelet): Promise<void> {
  const before = JSON.parse(readFileSync(saved, 'utf8')) as Stored<Pod>;
  await kubelet.until('the orphan is gone', () => kubelet.context !== undefined && orphanGone);
  assert.equal(kubelet.isReady('stays'), true);
  assert.ok(kubelet.statuses.every(({ status }) => status.containerStatuses?.[0]?.ready));
  assert.equal(
    kubelet.status('stays').containerStatuses?.[0]?.containerID,
    before.status?.containerStatuses?.[0]?.containerID,
  );
  assert.equal(kubelet.status('stays').containerStatuses?.[0]?.restartCount, 0);
}

let orphanGone = false;
const pods = scenario === 'adopt' ? [JSON.parse(readFileSync(saved, 'utf8')) as Stored<Pod>] : [];
const kubelet = new TestKubelet({ socket, directory, cgroup, pods });
const watch = setInterval(async () => {
  const sandboxes = await kubelet.cri.listPodSandboxes().catch(() => []);
  orphanGone = sandboxes.length === 1;
}, 100);
try {
  const scenarios: Record<string, (kubelet: TestKubelet) => Promise<void>> = {
    lifecycle,
    configuration,
    failures,
    faults,
    leave,
    adopt,
  };
  await scenarios[scenario]!(kubelet);
} finally {
  clearInterval(watch);
  await kubelet.stop();
}
