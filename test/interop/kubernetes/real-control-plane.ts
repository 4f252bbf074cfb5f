// A real kube-apiserver with a real etcd on loopback ports, certificates made by ours, authorization as kubeadm sets it
// (Node and RBAC); on request the real kube-controller-manager and kube-scheduler. Namespaces reach it with bringIn().
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ClusterPki, createClusterPki, type NodeIdentity } from '../../../src/apiserver/pki.ts';
import { KubeClient } from '../../../src/client/client.ts';
import { loadKubeconfig } from '../../../src/client/kubeconfig.ts';
import { type ChildHandle, spawnChild } from '../../../src/linux/exec.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import { freePort } from '../../harness/control-plane.ts';
import type { LabNamespace } from '../../harness/netns-lab.ts';
import { EtcdProcess } from '../overlay/etcd-process.ts';
import { bringIn, eventually } from '../overlay/flanneld-process.ts';
import { type Peer, peerPath } from './peers.ts';

const READY_MS = 90_000;
const KEPT_LOG_BYTES = 4_000_000;
/** kube-apiserver's port in a namespace of its own. */
const HOME_PORT = 6443;

/** Makes a port of our own loopback lead to one of a namespace's. Answers how to end it. */
async function bringOut(
  namespace: LabNamespace,
  port: { inside: number; outside: number },
): Promise<() => void> {
  const sockets = new Set<Socket>();
  const server = createServer(outside => {
    const inside = namespace.connect('127.0.0.1', port.inside);
    for (const [from, to] of [
      [inside, outside],
      [outside, inside],
    ] as const) {
      sockets.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  });
  await new Promise<void>(resolve => server.listen(port.outside, '127.0.0.1', resolve));
  return () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
}

export interface RealControlPlaneOptions {
  /** Identities of kubelets to make. */
  nodes?: readonly NodeIdentity[];
  serviceCidrs?: readonly string[];
  /** For Pods without real service accounts; needs to be off with our controllers, which do not make any. */
  serviceAccounts?: boolean;
  featureGates?: string;
  /** Where kube-apiserver runs and the address that it has there, port 6443; else this process' own loopback. */
  home?: { namespace: LabNamespace; address: string };
}

/** A program of Kubernetes' own with what it printed last. */
export class PeerProcess {
  readonly child: ChildHandle;
  log = '';

  constructor(peer: Peer, args: readonly string[], netns?: Netns) {
    this.child = spawnChild(peerPath(peer), args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(netns ? { netns } : {}),
    });
    for (const stream of [this.child.stdout, this.child.stderr])
      stream?.on('data', (chunk: Buffer) => {
        this.log = (this.log + chunk.toString('utf8')).slice(-KEPT_LOG_BYTES);
      });
  }

  async stop(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.child.exited;
  }
}

export class RealControlPlane {
  readonly directory = mkdtempSync(join(tmpdir(), 'pwt-kubernetes-'));
  readonly pki: ClusterPki;
  readonly admin: KubeClient;
  readonly port: number;
  readonly #etcd = new EtcdProcess();
  readonly #options: RealControlPlaneOptions;
  readonly #processes: PeerProcess[] = [];
  readonly #ends: (() => void)[] = [];
  #api: PeerProcess | undefined;

  private constructor(port: number, options: RealControlPlaneOptions) {
    this.port = port;
    this.#options = options;
    const { home } = options;
    const server = `https://127.0.0.1:${port}`;
    this.pki = createClusterPki(join(this.directory, 'pki'), {
      sans: ['127.0.0.1', '10.96.0.1', ...(home ? [home.address] : [])],
      adminServer: server,
      componentServer: home ? `https://${home.address}:${HOME_PORT}` : server,
      nodes: options.nodes ?? [],
    });
    this.admin = new KubeClient(loadKubeconfig(this.pki.kubeconfigs.admin));
  }

  static async start(options: RealControlPlaneOptions = {}): Promise<RealControlPlane> {
    const plane = new RealControlPlane(await freePort(), options);
    try {
      await plane.#etcd.start();
      if (options.home) {
        const { namespace } = options.home;
        plane.#ends.push(bringIn(namespace, plane.#etcd.port));
        plane.#ends.push(await bringOut(namespace, { inside: HOME_PORT, outside: plane.port }));
      }
      await plane.startApiServer();
    } catch (error) {
      await plane.stop();
      throw error;
    }
    return plane;
  }

  /** What kube-apiserver printed last. */
  get log(): string {
    return this.#api?.log ?? '';
  }

  async startApiServer(): Promise<void> {
    const inDirectory = (name: string): string => join(this.directory, name);
    const { pki } = this;
    const { serviceCidrs = ['10.96.0.0/16'], serviceAccounts = false, featureGates, home } = this.#options;
    this.#serviceAccountKey();
    const flags = [
      `--etcd-servers=${this.#etcd.endpoint}`,
      `--service-cluster-ip-range=${serviceCidrs.join(',')}`,
      `--bind-address=${home ? '0.0.0.0' : '127.0.0.1'}`,
      `--secure-port=${home ? HOME_PORT : this.port}`,
      `--advertise-address=${home?.address ?? '192.0.2.1'}`,
      ...[`--tls-cert-file=${pki.apiserver.cert}`, `--tls-private-key-file=${pki.apiserver.key}`],
      ...[`--client-ca-file=${pki.ca.cert}`, '--authorization-mode=Node,RBAC', '--allow-privileged=true'],
      ...[`--kubelet-certificate-authority=${pki.ca.cert}`, '--kubelet-preferred-address-types=InternalIP'],
      `--kubelet-client-certificate=${pki.kubeletClient.cert}`,
      `--kubelet-client-key=${pki.kubeletClient.key}`,
      '--service-account-issuer=https://kubernetes.default.svc',
      `--service-account-key-file=${inDirectory('sa.key')}`,
      `--service-account-signing-key-file=${inDirectory('sa.key')}`,
      '--enable-admission-plugins=NodeRestriction',
      ...(serviceAccounts ? [] : ['--disable-admission-plugins=ServiceAccount']),
      ...(featureGates ? [`--feature-gates=${featureGates}`] : []),
    ];
    this.#api = new PeerProcess('kube-apiserver', flags, home?.namespace.netns);
    await eventually(
      'kube-apiserver is ready',
      async () => {
        const answer = await this.admin.request('GET', '/readyz', { retries: 0 }).catch(() => undefined);
        return answer?.status === 200;
      },
      READY_MS,
    ).catch(error => {
      throw new Error(`${error.message}\n${this.log.slice(-3000)}`);
    });
  }

  async stopApiServer(): Promise<void> {
    await this.#api?.stop();
  }

  /** kube-controller-manager, as a cluster of kubeadm's runs it. */
  startControllerManager(...args: string[]): PeerProcess {
    const kubeconfig = this.pki.kubeconfigs.controllerManager;
    return this.#run('kube-controller-manager', [
      ...[`--kubeconfig=${kubeconfig}`, `--authentication-kubeconfig=${kubeconfig}`],
      ...[
        `--authorization-kubeconfig=${kubeconfig}`,
        '--bind-address=127.0.0.1',
        '--port=0',
        '--secure-port=0',
      ],
      ...[`--root-ca-file=${this.pki.ca.cert}`, '--use-service-account-credentials=true'],
      ...[`--service-account-private-key-file=${join(this.directory, 'sa.key')}`, '--leader-elect=false'],
      ...args,
    ]);
  }

  startScheduler(...args: string[]): PeerProcess {
    const kubeconfig = this.pki.kubeconfigs.scheduler;
    return this.#run('kube-scheduler', [
      ...[`--kubeconfig=${kubeconfig}`, `--authentication-kubeconfig=${kubeconfig}`],
      ...[`--authorization-kubeconfig=${kubeconfig}`, '--port=0', '--secure-port=0', '--leader-elect=false'],
      ...args,
    ]);
  }

  #run(peer: Peer, args: string[]): PeerProcess {
    const made = new PeerProcess(peer, args, this.#options.home?.namespace.netns);
    this.#processes.push(made);
    return made;
  }

  #serviceAccountKey(): void {
    if (existsSync(join(this.directory, 'sa.key'))) return;
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    writeFileSync(join(this.directory, 'sa.key'), privateKey.export({ type: 'pkcs1', format: 'pem' }), {
      mode: 0o600,
    });
  }

  async stop(): Promise<void> {
    for (const started of this.#processes) await started.stop();
    await this.admin.close();
    await this.#api?.stop();
    for (const end of this.#ends) end();
    await this.#etcd.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
