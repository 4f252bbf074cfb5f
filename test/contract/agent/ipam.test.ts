// IPAM over the real API server: ten nodes allocate 200 addresses at once while the server goes away and comes back.
// A request that failed is repeated, as kubelets do; at the end nobody shares an address and none is lost.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync, mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readPools } from '../../../routing/bgp/calico/pools.ts';
import { allocations } from '../../../routing/ipam/block.ts';
import type { IpamStore } from '../../../routing/ipam/ipam-store.ts';
import { NodeAddresses } from '../../../src/agent/bgp/address-source.ts';
import { apiIpamStore } from '../../../src/agent/bgp/ipam-store.ts';
import { CALICO } from '../../../src/agent/bgp/resources.ts';
import { createClusterPki } from '../../../src/apiserver/pki.ts';
import { KubeClient } from '../../../src/client/client.ts';
import { loadKubeconfig } from '../../../src/client/kubeconfig.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { applyManifest, readManifest } from '../../../src/lab/manifest.ts';
import { ServerFixture } from '../../unit/apiserver/server-fixture.ts';

const PODWIRE = join(import.meta.dirname, '../../../src/cmd/podwire.ts');
const CRDS = join(import.meta.dirname, '../../../deploy/crds');
const NODES = 10;
const PODS = 20;
const POOL = { cidr: '10.250.0.0/22', blockSize: 26 };

/** An API server that goes away and comes back on the same store. */
interface Server extends AsyncDisposable {
  readonly directory: string;
  readonly port: number;
  /** Away, for a moment, and back. */
  outage(): Promise<void>;
}

async function stoppedServer(): Promise<Server> {
  const fixture = await ServerFixture.start();
  return {
    directory: fixture.directory,
    port: fixture.port,
    outage: async () => {
      await fixture.stopServer();
      await new Promise(resolve => setTimeout(resolve, 200));
      await fixture.boot();
    },
    [Symbol.asyncDispose]: () => fixture[Symbol.asyncDispose](),
  };
}

/** A process of its own, as it is run, and SIGKILL in the middle of its writes. */
async function killedServer(): Promise<Server> {
  const directory = mkdtempSync(join(tmpdir(), 'podwire-ipam-'));
  createClusterPki(join(directory, 'pki'), { sans: [], adminServer: 'https://127.0.0.1:1' });
  const port = await freePort();
  let child: ChildProcess | undefined;
  const start = (): void => {
    const own = ['--data-dir', join(directory, 'data'), '--pki-dir', join(directory, 'pki')];
    const args = [PODWIRE, 'apiserver', ...own, '--listen', `127.0.0.1:${port}`];
    child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', ...args], { stdio: 'ignore' });
  };
  const kill = async (): Promise<void> => {
    const gone = new Promise(resolve => child!.once('exit', resolve));
    child!.kill('SIGKILL');
    await gone;
  };
  start();
  return {
    ...{ directory, port },
    outage: async () => {
      await kill();
      start();
    },
    [Symbol.asyncDispose]: async () => {
      await kill();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

for (const [title, serve, outages] of [
  ['stopped and started again', stoppedServer, 1],
  ['killed with SIGKILL twice', killedServer, 2],
] as const)
  test(`200 allocations on 10 nodes, the API server ${title} in the middle: no duplicate, no leak`, async () => {
    await using server = await serve();
    await stress(server, outages);
  });

async function stress(server: Server, outages: number): Promise<void> {
  const names = Array.from({ length: NODES }, (_, i) => `n${i}`);
  const pki = createClusterPki(join(server.directory, 'pki'), {
    sans: [],
    adminServer: `https://127.0.0.1:${server.port}`,
    componentServer: `https://127.0.0.1:${server.port}`,
    nodes: names.map(name => ({ name, addresses: [] })),
  });
  const admin = new KubeClient(loadKubeconfig(pki.kubeconfigs.admin));
  const clients: KubeClient[] = [admin];
  try {
    await until(() => admin.list(RESOURCE.namespaces));
    for (const file of globSync('*.yaml', { cwd: CRDS }))
      await applyManifest(admin, readManifest(join(CRDS, file)));
    await until(() => admin.create(CALICO.pools, { metadata: { name: 'p' }, spec: POOL }));
    const { pools } = readPools((await admin.list(CALICO.pools)).items);
    const settings = { pools: () => pools, config: () => undefined, reservedCidrs: () => [] };
    const nodes = names.map(nodeName => {
      // The node's own credentials: what its agent may do is part of what is tested.
      const client = new KubeClient(
        loadKubeconfig(join(server.directory, 'pki', `kubelet-${nodeName}.conf`)),
      );
      clients.push(client);
      const store = apiIpamStore(client, settings);
      const ready = Promise.resolve();
      return new NodeAddresses({ store, nodeName, ready, nodeLabels: () => ({}) });
    });
    const given: string[] = [];
    const work = nodes.flatMap((node, n) =>
      Array.from({ length: PODS }, async (_, p) => {
        const attributes = { pod: `p${n}-${p}`, namespace: 'default' };
        given.push(await until(() => node.assign({ handle: `podwire.${n}-${p}`, family: 4, attributes })));
      }),
    );
    for (let outage = 1; outage <= outages; outage++) {
      await until(async () => assert.ok(given.length >= 20 * outage));
      assert.ok(given.length < NODES * PODS, 'in the middle');
      await server.outage();
    }
    await Promise.all(work);
    assert.equal(new Set(given).size, NODES * PODS, 'every address once');
    const store = apiIpamStore(admin, settings);
    const held = await until(() => heldBy(store));
    assert.deepEqual(held.toSorted(), given.toSorted(), 'what is held is what was given');
    await Promise.all(
      nodes.flatMap((node, n) =>
        Array.from({ length: PODS }, (_, p) => until(() => node.release(`podwire.${n}-${p}`))),
      ),
    );
    assert.deepEqual(await heldBy(store), []);
    assert.deepEqual(await store.handles.list(), []);
  } finally {
    await Promise.all(clients.map(client => client.close()));
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise(resolve => server.close(resolve));
  return port;
}

async function heldBy(store: IpamStore): Promise<string[]> {
  return (await store.blocks.list()).flatMap(({ spec }) => allocations(spec).map(({ address }) => address));
}

/** Repeats what fails, as a kubelet repeats an ADD. */
async function until<T>(attempt: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}
