// A real API server on 127.0.0.1 with a store in a temporary directory, and clients with the components' identities.
import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Node, Pod } from '../../src/api/types.ts';
import { startApiServer } from '../../src/apiserver/main.ts';
import { createClusterPki } from '../../src/apiserver/pki.ts';
import type { ApiServer } from '../../src/apiserver/server.ts';
import { KubeClient } from '../../src/client/client.ts';
import { Informer } from '../../src/client/informer.ts';
import { loadKubeconfig } from '../../src/client/kubeconfig.ts';
import { RESOURCE } from '../../src/client/resources.ts';
import { silentLogger } from '../../src/observe/log.ts';

export interface ControlPlane {
  /** For kubectl. */
  kubeconfig: string;
  admin: KubeClient;
  controllers: KubeClient;
  scheduler: KubeClient;
  /** Stops the server, waits, starts it on the same store. */
  restart(awayMs?: number): Promise<void>;
  stop(): Promise<void>;
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise(resolve => server.close(resolve));
  return port;
}

export async function startControlPlane(): Promise<ControlPlane> {
  const dataDir = mkdtempSync(join(tmpdir(), 'podwire-control-plane-'));
  const port = await freePort();
  const pki = createClusterPki(join(dataDir, 'pki'), {
    sans: ['127.0.0.1'],
    adminServer: `https://127.0.0.1:${port}`,
  });
  const start = (): Promise<ApiServer> =>
    startApiServer({
      dataDir,
      tls: { certFile: pki.apiserver.cert, keyFile: pki.apiserver.key, clientCaFile: pki.ca.cert },
      listeners: [{ address: '127.0.0.1', port }],
      serviceCidrs: ['10.96.0.0/16'],
      advertiseAddress: '192.0.2.1',
      log: silentLogger(),
    });
  let server = await start();
  const client = (file: string): KubeClient => new KubeClient(loadKubeconfig(file));
  const clients = {
    admin: client(pki.kubeconfigs.admin),
    controllers: client(pki.kubeconfigs.controllerManager),
    scheduler: client(pki.kubeconfigs.scheduler),
  };
  return {
    kubeconfig: pki.kubeconfigs.admin,
    ...clients,
    async restart(awayMs = 0) {
      await server.stop();
      await new Promise(resolve => setTimeout(resolve, awayMs));
      server = await start();
    },
    async stop() {
      await Promise.all(Object.values(clients).map(each => each.close()));
      await server.stop();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

export function makeNode(name: string, cpu = '4'): Node {
  const amounts = { cpu, memory: '8Gi', pods: '110' };
  return {
    metadata: { name, labels: { 'kubernetes.io/hostname': name } },
    status: {
      capacity: amounts,
      allocatable: amounts,
      addresses: [{ type: 'InternalIP', address: `192.0.2.${10 + Number(name.replace(/\D/g, ''))}` }],
      conditions: [
        { type: 'Ready', status: 'True', reason: 'KubeletReady', lastHeartbeatTime: '2026-01-01T00:00:00Z' },
      ],
    },
  };
}

/** Registers a node as a kubelet would: the object, then its status. */
export async function registerNode(client: KubeClient, name: string, cpu?: string): Promise<void> {
  const node = makeNode(name, cpu);
  await client.create(RESOURCE.nodes, node);
  await client.patch(
    RESOURCE.nodes,
    name,
    { status: node.status },
    { type: 'strategic', subresource: 'status' },
  );
}

/** Plays the kubelets of all nodes: placed pods run and are ready, deleted ones go. Answers how to stop it. */
export async function playKubelets(client: KubeClient): Promise<() => Promise<void>> {
  const pods = new Informer(client, RESOURCE.pods);
  let last = 1;
  const report = async (pod: Pod): Promise<void> => {
    const { name = '', namespace, deletionTimestamp, uid } = pod.metadata ?? {};
    if (deletionTimestamp) {
      await client.delete(RESOURCE.pods, name, { namespace, gracePeriodSeconds: 0, preconditions: { uid } });
    } else if (pod.spec?.nodeName && !pod.status?.podIP) {
      const podIP = `10.244.0.${++last}`;
      const lastTransitionTime = new Date().toISOString();
      const status = {
        phase: 'Running',
        podIP,
        podIPs: [{ ip: podIP }],
        conditions: [{ type: 'Ready', status: 'True', lastTransitionTime }],
      };
      await client.patch(
        RESOURCE.pods,
        name,
        { status },
        { type: 'strategic', namespace, subresource: 'status' },
      );
    }
  };
  pods.onChange(({ type, object }) => {
    // A pod that is gone or changed meanwhile comes by again with its next event.
    if (type !== 'deleted') report(object).catch(() => {});
  });
  pods.start();
  await pods.synced();
  return () => pods.stop();
}
