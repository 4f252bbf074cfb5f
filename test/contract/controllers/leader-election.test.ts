// Two processes of `podwire controllers` on one API server: one works, the other takes over when it stops or dies.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Deployment, Stored } from '../../../src/api/types.ts';
import { createClusterPki } from '../../../src/apiserver/pki.ts';
import { KubeClient } from '../../../src/client/client.ts';
import { loadKubeconfig } from '../../../src/client/kubeconfig.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { ServerFixture } from '../../unit/apiserver/server-fixture.ts';

const PODWIRE = join(import.meta.dirname, '../../../src/cmd/podwire.ts');
const LEASES = ['kube-controller-manager', 'kube-scheduler'];
const TIMES = ['lease-duration=3s', 'renew-deadline=2s', 'retry-period=200ms'];

const deployment = (name: string): Deployment => ({
  metadata: { name, namespace: 'default' },
  spec: {
    replicas: 2,
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: { containers: [{ name: 'c', image: 'x' }] },
    },
  },
});

test('two candidates: the second takes over after SIGTERM at once, after SIGKILL when the lease ran out', async () => {
  await using server = await ServerFixture.start();
  const url = `https://127.0.0.1:${server.port}`;
  const { kubeconfigs } = createClusterPki(join(server.directory, 'pki'), {
    ...{ sans: [], adminServer: url, componentServer: url, nodes: [] },
  });
  const admin = new KubeClient(loadKubeconfig(kubeconfigs.admin));
  const children = new Set<ChildProcess>();
  const candidate = (): ChildProcess => {
    const pki = join(server.directory, 'pki');
    const child = spawn(
      process.execPath,
      [
        ...['--disable-warning=ExperimentalWarning', PODWIRE, 'controllers', '--leader-elect'],
        ...['--kubeconfig', join(pki, 'controller-manager.conf')],
        ...['--scheduler-kubeconfig', join(pki, 'scheduler.conf')],
        ...TIMES.map(time => `--leader-elect-${time}`),
      ],
      { stdio: 'ignore' },
    );
    children.add(child);
    child.once('exit', () => children.delete(child));
    return child;
  };
  const end = async (child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> => {
    const code = new Promise<number | null>(resolve => child.once('exit', resolve));
    child.kill(signal);
    return code;
  };
  const holders = async (): Promise<string[]> => {
    const leases = (await admin.list(RESOURCE.leases, { namespace: 'kube-system' })).items;
    return LEASES.map(
      name => leases.find(({ metadata }) => metadata.name === name)?.spec?.holderIdentity ?? '',
    );
  };
  /** Both leases held, by others than before; and whoever holds them works. */
  const lead = async (before: readonly string[], name: string): Promise<string[]> => {
    let now: string[] = [];
    await until(async () => {
      now = await holders();
      return now.every((holder, i) => holder !== '' && holder !== before[i]);
    }, 'both leases are held');
    await admin.create(RESOURCE.deployments, deployment(name), 'default');
    await until(async () => {
      const pods = (await admin.list(RESOURCE.pods, { namespace: 'default' })).items;
      return pods.filter(({ metadata }: Stored<object>) => metadata.labels?.app === name).length === 2;
    }, `pods of ${name}`);
    return now;
  };
  try {
    const first = candidate();
    const one = await lead([], 'one');
    const second = candidate();
    await new Promise(resolve => setTimeout(resolve, 1500));
    assert.deepEqual(await holders(), one, 'the second waits');
    assert.equal(await end(first, 'SIGTERM'), 0);
    const two = await lead(one, 'two');
    candidate();
    await new Promise(resolve => setTimeout(resolve, 1500));
    assert.deepEqual(await holders(), two);
    const killed = performance.now();
    await end(second, 'SIGKILL');
    await lead(two, 'three');
    assert.ok(performance.now() - killed > 1500, 'not before the lease could have run out');
  } finally {
    await Promise.all([...children].map(child => end(child, 'SIGKILL')));
    await admin.close();
  }
});

async function until(done: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + 40_000;
  while (!(await done())) {
    if (Date.now() > deadline) throw new Error(`not within 40 s: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}
