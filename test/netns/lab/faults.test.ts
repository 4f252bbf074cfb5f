// What a lab survives: kill -9 of each part under a live connection, of everything, and what `down` leaves: nothing.
import assert from 'node:assert/strict';
import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { type ChildHandle, run, spawnChild } from '../../../src/linux/exec.ts';
import { findProcessesByEnv, killProcesses } from '../../../src/linux/process.ts';
import { eventually, kubectlOk, LabDirectory, type UpReport } from '../../harness/lab.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const labs = new LabDirectory();
let lab: UpReport;
const k = (...args: string[]) => kubectlOk(lab.kubeconfig, args);

interface Status {
  healthy: boolean;
  components: { name: string; pid?: number; restarts: number; state: string }[];
}

async function status(): Promise<Status> {
  return JSON.parse(
    (await labs.podwire(['status', '--name', 'faults', '--output', 'json'])).stdout,
  ) as Status;
}

async function pidOf(component: string): Promise<number> {
  const found = (await status()).components.find(c => c.name === component);
  assert.ok(found?.pid, `${component} runs`);
  return found.pid;
}

async function healthyAgain(): Promise<void> {
  await eventually(
    'the cluster is healthy again',
    async () => ((await status()).healthy ? true : undefined),
    60_000,
  );
}

/** A TCP connection from node1 through a Service's cluster IP that sends a line every 100 ms and gets it echoed. */
class LiveConnection {
  readonly #child: ChildHandle;
  lines = 0;
  ended = false;
  constructor(netns: string, address: string, port: number) {
    const script = `while :; do echo tick; sleep 0.1; done | busybox nc ${address} ${port}`;
    this.#child = spawnChild('sh', ['-c', script], {
      netnsPath: `/run/netns/${netns}`,
      stdio: ['ignore', 'pipe', 'ignore'],
      detached: true,
    });
    this.#child.stdout?.on('data', (chunk: Buffer) => {
      this.lines += chunk.toString().split('\n').length - 1;
    });
    void this.#child.exited.then(() => {
      this.ended = true;
    });
  }
  /** Throws unless echoes still arrive. */
  async assertAlive(): Promise<void> {
    const before = this.lines;
    await eventually(
      'an echo on the live connection',
      async () => (this.lines > before + 2 ? true : undefined),
      5000,
    );
    assert.equal(this.ended, false);
  }
  close(): void {
    try {
      process.kill(-this.#child.pid, 'SIGKILL');
    } catch {
      // Already gone.
    }
  }
}

const ECHO = `
apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec:
  nodeName: node2
  terminationGracePeriodSeconds: 0
  containers:
  - {name: echo, image: "localhost/podwire/hello:1", imagePullPolicy: Never, command: ["/bin/busybox", "nc", "-ll", "-p", "7000", "-e", "/bin/cat"]}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {selector: {app: echo}, ports: [{port: 7}]}
`.replace('port: 7}', 'port: 7, targetPort: 7000}');

describe('faults', { skip }, () => {
  before(async () => {
    lab = await labs.up('faults', '--nodes', '2');
    await kubectlOk(lab.kubeconfig, ['apply', '-f', '-'], ECHO);
    await k('wait', '--for=condition=Ready', 'pod/echo', '--timeout=30s');
  });
  after(() => labs.remove());

  for (const component of ['apiserver', 'controllers', 'agent-node1', 'agent-node2', 'containerd-node2']) {
    test(`kill -9 of ${component}: a live connection goes on and the cluster converges`, async () => {
      const address = await k('get', 'svc', 'echo', '-o', 'jsonpath={.spec.clusterIP}');
      const started = await k(
        'get',
        'pods',
        '-o',
        'jsonpath={range .items[*]}{.metadata.name}={.status.containerStatuses[0].containerID} {end}',
      );
      const connection = new LiveConnection(lab.lab.nodes[0]!.netns, address, 7);
      try {
        await connection.assertAlive();
        const pid = await pidOf(component);
        process.kill(pid, 'SIGKILL');
        await connection.assertAlive();
        await eventually('a new process', async () => ((await pidOf(component)) !== pid ? true : undefined));
        await healthyAgain();
        await connection.assertAlive();
        // It works, not only runs: a new pod starts and answers through a changed Service.
        await k('scale', 'deployment/hello', '--replicas=4');
        await k('rollout', 'status', 'deployment/hello', '--timeout=60s');
        await k('scale', 'deployment/hello', '--replicas=3');
        await k('rollout', 'status', 'deployment/hello', '--timeout=60s');
        await connection.assertAlive();
        const now = await k(
          'get',
          'pods',
          '-o',
          'jsonpath={range .items[*]}{.metadata.name}={.status.containerStatuses[0].containerID} {end}',
        );
        const kept = started
          .trim()
          .split(' ')
          .filter(entry => now.includes(entry));
        assert.ok(
          kept.some(entry => entry.startsWith('echo=')),
          'the container of echo was not restarted',
        );
      } finally {
        connection.close();
      }
    });
  }

  test('kill -9 of every podwire process and containerd, then up: the lab and its data are back', async () => {
    await k('create', 'configmap', 'kept', '--from-literal=a=b');
    const marked = findProcessesByEnv('PODWIRE_LAB', lab.lab.directory).filter(
      pid => !comm(pid).startsWith('containerd-shim'),
    );
    await killProcesses(marked);
    lab = await labs.up('faults');
    assert.equal(await k('get', 'cm', 'kept', '-o', 'jsonpath={.data.a}'), 'b');
    assert.deepEqual(
      lab.rows.filter(row => row.error !== undefined),
      [],
    );
  });

  test('two labs side by side, then down leaves nothing of one and the other goes on', async () => {
    const other = await labs.up('other', '--nodes', '1');
    assert.notEqual(other.lab.apiPort, lab.lab.apiPort);
    const down = await labs.podwire(['down', '--name', 'other']);
    assert.equal(down.code, 0, down.stderr);
    assertNothingLeft('other', other);
    assert.match(await k('get', 'nodes'), /node1\s+Ready/);
  });

  test('down after a kill -9 of everything leaves nothing', async () => {
    await killProcesses(findProcessesByEnv('PODWIRE_LAB', lab.lab.directory));
    const down = await labs.podwire(['down', '--name', 'faults']);
    assert.equal(down.code, 0, down.stderr);
    assertNothingLeft('faults', lab);
    const again = await labs.podwire(['down', '--name', 'faults']);
    assert.equal(again.code, 0);
    assert.match(again.stdout, /There was no lab/);
    assert.deepEqual((await run('ss', ['-Hltn', `sport = :${lab.lab.apiPort}`])).stdout, '');
  });
});

function comm(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8');
  } catch {
    return '';
  }
}

function assertNothingLeft(name: string, report: UpReport): void {
  const { directory } = report.lab;
  assert.equal(existsSync(directory), false, 'the directory');
  assert.deepEqual(findProcessesByEnv('PODWIRE_LAB', directory), [], 'processes');
  assert.deepEqual(
    readdirSync('/run/netns').filter(entry => entry.startsWith(`pw.${name}.`)),
    [],
    'namespaces',
  );
  assert.equal(readFileSync('/proc/self/mountinfo', 'utf8').includes(directory), false, 'mounts');
  assert.deepEqual(globSync(`/sys/fs/cgroup/{,*/}podwire/${name}`), [], 'cgroups');
}
