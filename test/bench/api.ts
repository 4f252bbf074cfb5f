// The API server as a process of its own over TLS, one client beside it. The peer is kube-apiserver 1.20 with etcd on a
// machine of the same size (recorded figures: it takes a build of Kubernetes' sources); its ready time includes etcd's.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ConfigMap } from '../../src/api/types.ts';
import { createClusterPki } from '../../src/apiserver/pki.ts';
import { KubeClient } from '../../src/client/client.ts';
import { loadKubeconfig } from '../../src/client/kubeconfig.ts';
import { RESOURCE } from '../../src/client/resources.ts';
import { type ChildHandle, spawnChild } from '../../src/linux/exec.ts';
import { freePort } from '../harness/control-plane.ts';
import { PODWIRE } from '../harness/lab.ts';
import type { Report } from './main.ts';

const NOTE = 'peer: kube-apiserver 1.20.2 and etcd 3.4, recorded on a machine of the same size';

interface Server {
  child: ChildHandle;
  client: KubeClient;
  directory: string;
  readySeconds: number;
}

async function startServer(): Promise<Server> {
  const directory = mkdtempSync(join(tmpdir(), 'pw-bench-api-'));
  const port = await freePort();
  const pkiDirectory = join(directory, 'pki');
  const pki = createClusterPki(pkiDirectory, {
    sans: ['127.0.0.1'],
    adminServer: `https://127.0.0.1:${port}`,
  });
  const client = new KubeClient(loadKubeconfig(pki.kubeconfigs.admin));
  const from = performance.now();
  const child = spawnChild(PODWIRE, [
    'apiserver',
    ...['--data-dir', join(directory, 'store'), '--pki-dir', pkiDirectory, '--listen', `127.0.0.1:${port}`],
  ]);
  await client.request('GET', '/readyz', { signal: AbortSignal.timeout(20_000) });
  return { child, client, directory, readySeconds: (performance.now() - from) / 1000 };
}

async function stopServer(server: Server): Promise<void> {
  await server.client.close();
  server.child.kill('SIGTERM');
  await server.child.exited;
  rmSync(server.directory, { recursive: true, force: true });
}

/** Requests a second with so many workers at once. */
async function rate(
  count: number,
  workers: number,
  request: (i: number) => Promise<unknown>,
): Promise<number> {
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < count) await request(next++);
  };
  const from = performance.now();
  await Promise.all(Array.from({ length: workers }, work));
  return count / ((performance.now() - from) / 1000);
}

const configMap = (name: string): ConfigMap => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name },
  data: { text: 'x'.repeat(500) },
});

/** Median seconds from before the create to the event at the last of `watchers`. */
async function fanOut(client: KubeClient, watchers: number, events: number): Promise<number> {
  const stop = new AbortController();
  const arrived = new Map<string, { left: number; done: () => void }>();
  const { metadata } = await client.list(RESOURCE.configMaps, { namespace: 'default' });
  for (let i = 0; i < watchers; i++)
    void (async () => {
      const options = {
        namespace: 'default',
        resourceVersion: metadata.resourceVersion,
        signal: stop.signal,
      };
      for await (const event of client.watch(RESOURCE.configMaps, options)) {
        if (event.type !== 'ADDED') continue;
        const waiting = arrived.get(event.object.metadata.name);
        if (waiting && --waiting.left === 0) waiting.done();
      }
    })().catch(() => {});
  await new Promise(resolve => setTimeout(resolve, 1000));
  const seconds: number[] = [];
  for (let i = 0; i < events; i++) {
    const name = `fan-${i}`;
    const { promise, resolve } = Promise.withResolvers<void>();
    arrived.set(name, { left: watchers, done: resolve });
    const from = performance.now();
    await client.create(RESOURCE.configMaps, configMap(name), 'default');
    await promise;
    seconds.push((performance.now() - from) / 1000);
  }
  stop.abort();
  return seconds.sort((a, b) => a - b)[Math.floor(events / 2)]!;
}

function rssMegabytes(pid: number): number {
  const line = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(line?.[1] ?? 0) / 1024;
}

export async function bench(report: Report): Promise<void> {
  const server = await startServer();
  const { client } = server;
  try {
    report({ name: 'api/ready', ours: server.readySeconds, peer: 4.95, unit: 's', note: NOTE });
    report({ name: 'api/rss-idle', ours: rssMegabytes(server.child.pid), peer: 349, unit: 'MB', note: NOTE });
    const create = (prefix: string) => (i: number) =>
      client.create(RESOURCE.configMaps, configMap(`${prefix}-${i}`), 'default');
    const one = await rate(1000, 1, create('one'));
    report({ name: 'api/create-1', ours: one, peer: 274, unit: 'req/s', note: NOTE });
    const many = await rate(4000, 32, create('many'));
    report({ name: 'api/create-32', ours: many, peer: 1351, unit: 'req/s', note: NOTE });
    const get = await rate(8000, 32, i => client.get(RESOURCE.configMaps, `many-${i % 4000}`, 'default'));
    report({ name: 'api/get-32', ours: get, peer: 3190, unit: 'req/s', note: `quorum reads; ${NOTE}` });
    const seen = await fanOut(client, 100, 50);
    report({
      name: 'api/watch-100',
      ours: seen * 1000,
      peer: 21,
      unit: 'ms',
      note: `create to the last of 100 watchers, median; the peer's figure is its p99 over all watchers; ${NOTE}`,
    });
  } finally {
    await stopServer(server);
  }
}
