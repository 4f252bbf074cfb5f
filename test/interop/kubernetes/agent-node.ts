// A node of ours at a real kube-apiserver: a namespace with containerd and `podwire agent`, as `podwire up` makes them.
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { killCgroup } from '../../../src/kubelet/cgroup.ts';
import { CriClient } from '../../../src/kubelet/cri-client.ts';
import {
  CONTAINERD_ENV,
  cloneTemplateRoot,
  containerdPaths,
  ensureTemplateRoot,
  waitForContainerd,
  writeContainerdConfig,
} from '../../../src/lab/containerd.ts';
import { type ChildHandle, run, spawnChild } from '../../../src/linux/exec.ts';
import type { LabNamespace } from '../../harness/netns-lab.ts';
import type { RealControlPlane } from './real-control-plane.ts';

const ROOT = join(import.meta.dirname, '../../..');

const MISSING = ['/usr/bin/containerd', '/bin/busybox', join(ROOT, 'dist/cni/bridge')].filter(
  path => !existsSync(path),
);

export const SKIP_WITHOUT_CONTAINERD: string | false =
  MISSING.length > 0 ? `needs ${MISSING.join(', ')} (npm run setup)` : false;

export interface AgentNodeOptions {
  name: string;
  address: string;
  namespace: LabNamespace;
  plane: RealControlPlane;
  /** Further flags of `podwire agent`. */
  args?: readonly string[];
}

export class AgentNode {
  readonly name: string;
  readonly address: string;
  readonly namespace: LabNamespace;
  log = '';
  readonly #options: AgentNodeOptions;
  readonly #directory = mkdtempSync(join(tmpdir(), 'pwk-'));
  readonly #cgroup: string;
  #containerd: ChildHandle | undefined;
  #agent: ChildHandle | undefined;

  constructor(options: AgentNodeOptions) {
    this.#options = options;
    this.name = options.name;
    this.address = options.address;
    this.namespace = options.namespace;
    this.#cgroup = `/podwire/${options.namespace.name}`;
  }

  get #socket(): string {
    return containerdPaths(this.#directory).socket;
  }

  async start(): Promise<void> {
    const confDir = join(this.#directory, 'net.d');
    mkdirSync(confDir);
    const template = await ensureTemplateRoot({ cacheDirectory: join(this.#directory, 'cache') });
    cloneTemplateRoot(template, containerdPaths(this.#directory).root);
    writeContainerdConfig({
      directory: this.#directory,
      cniBinDir: join(ROOT, 'dist/cni'),
      cniConfDir: confDir,
    });
    this.#containerd = spawnChild('containerd', ['--config', containerdPaths(this.#directory).config], {
      netns: this.namespace.netns,
      env: { ...CONTAINERD_ENV, PODWIRE_CNI_SOCKET: join(this.#directory, 'cni.sock') },
    });
    await waitForContainerd(this.#socket);
    this.startAgent();
  }

  startAgent(): void {
    const { plane, name, address, args = [] } = this.#options;
    const files = plane.pki.nodes[name];
    if (!files) throw new Error(`the control plane knows no node ${name}`);
    const agent = spawnChild(
      process.execPath,
      [
        ...['--disable-warning=ExperimentalWarning', join(ROOT, 'src/cmd/podwire.ts'), 'agent'],
        ...['--kubeconfig', files.kubeconfig, '--proxy-kubeconfig', plane.pki.kubeconfigs.kubeProxy],
        ...['--node-name', name, '--node-ip', address, '--state-dir', this.#directory],
        ...['--containerd-socket', this.#socket, '--cni-conf-dir', join(this.#directory, 'net.d')],
        ...['--serving-cert', files.serving.cert, '--serving-key', files.serving.key],
        ...['--client-ca', plane.pki.ca.cert, '--cgroup-parent', this.#cgroup],
        ...['--cluster-cidr', '10.244.0.0/16', '--service-cidr', '10.96.0.0/16', ...args],
      ],
      {
        netns: this.namespace.netns,
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { XTABLES_LOCKFILE: join(this.#directory, 'xtables.lock') },
      },
    );
    for (const stream of [agent.stdout, agent.stderr])
      stream?.on('data', (chunk: Buffer) => {
        this.log += chunk.toString('utf8');
      });
    this.#agent = agent;
  }

  async stopAgent(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.#agent?.kill(signal);
    await this.#agent?.exited;
    this.#agent = undefined;
  }

  /** The whole answer of an HTTP server, asked from the node itself. */
  http(address: string, port: number): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const socket = this.namespace.connect(address, port);
    let text = '';
    socket.setTimeout(2000, () => socket.destroy(new Error(`${address}:${port}: no answer`)));
    socket.on('data', chunk => {
      text += chunk.toString();
    });
    socket.on('error', reject);
    socket.on('close', () => resolve(text));
    socket.write('GET / HTTP/1.0\r\n\r\n');
    return promise;
  }

  async close(): Promise<void> {
    await this.stopAgent('SIGKILL');
    const cri = new CriClient(this.#socket);
    try {
      for (const { id } of await cri.listPodSandboxes()) {
        await cri.stopPodSandbox(id).catch(() => {});
        await cri.removePodSandbox(id).catch(() => {});
      }
    } catch {
      // No containerd came up: nothing is left in it.
    } finally {
      cri.close();
    }
    this.#containerd?.kill('SIGKILL');
    await this.#containerd?.exited;
    await killCgroup(this.#cgroup);
    const mounts = await run('findmnt', ['-rno', 'TARGET']);
    for (const target of mounts.stdout.split('\n').filter(path => path.startsWith(`${this.#directory}/`)))
      await run('umount', ['-l', target]);
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
