// kube-proxy, ours or the real one, inside a namespace of a test, with the ports of its own there.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endRelayHosts } from '../../../proxy/backend/userspace/apply/host-directory.ts';
import { type ChildExit, type ChildHandle, spawnChild } from '../../../src/linux/exec.ts';
import type { LabNamespace } from '../../harness/netns-lab.ts';
import { eventually } from '../overlay/flanneld-process.ts';
import { peerPath } from './peers.ts';

const OURS = join(import.meta.dirname, '../../../src/cmd/kube-proxy.ts');
const READY_MS = 30_000;

export interface KubeProxyProcessOptions {
  namespace: LabNamespace;
  whose: 'ours' | 'real';
  kubeconfig: string;
  /** Fields of KubeProxyConfiguration beside those that are filled in. */
  fields?: Record<string, unknown>;
  /** Which iptables the real one finds in its PATH; ours chooses by itself. */
  iptables?: 'nft' | 'legacy';
}

export class KubeProxyProcess {
  readonly directory = mkdtempSync(join(tmpdir(), 'pwt-kube-proxy-'));
  readonly #options: KubeProxyProcessOptions;
  #child: ChildHandle | undefined;
  log = '';

  constructor(options: KubeProxyProcessOptions) {
    this.#options = options;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  start(): void {
    const { namespace, whose, kubeconfig, fields, iptables } = this.#options;
    const config = join(this.directory, 'config.json');
    writeFileSync(
      config,
      JSON.stringify({
        apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
        kind: 'KubeProxyConfiguration',
        clientConnection: { kubeconfig },
        hostnameOverride: 'node',
        ...fields,
      }),
    );
    const [command, ...args] =
      whose === 'real'
        ? [peerPath('kube-proxy')]
        : [process.execPath, '--disable-warning=ExperimentalWarning', OURS];
    this.#child = spawnChild(command!, [...args, '--config', config], {
      netns: namespace.netns,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        XTABLES_LOCKFILE: `/run/${namespace.name}.xtables.lock`,
        PODWIRE_RELAY_DIRECTORY: join(this.directory, 'relay'),
        ...(iptables ? { PATH: `${this.#alternatives(iptables)}:${process.env.PATH}` } : {}),
      },
    });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.on('data', (chunk: Buffer) => {
        this.log += chunk.toString('utf8');
      });
  }

  /** Ours says so itself; the real one only says that it runs. */
  async ready(timeoutMs = READY_MS): Promise<void> {
    const path = this.#options.whose === 'ours' ? '/readyz' : '/healthz';
    await eventually(
      'kube-proxy is ready',
      async () => (await this.get(10256, path)).code === 200,
      timeoutMs,
    ).catch(error => {
      throw new Error(`${this.#options.whose}: ${error.message}\n${this.log.slice(-3000)}`);
    });
  }

  /** GET on the namespace's loopback. */
  get(port: number, path: string): Promise<{ code: number; body: string }> {
    const { promise, resolve } = Promise.withResolvers<{ code: number; body: string }>();
    const socket = this.#options.namespace.connect('127.0.0.1', port);
    let text = '';
    socket.on('data', chunk => {
      text += chunk.toString();
    });
    socket.on('error', () => resolve({ code: 0, body: '' }));
    socket.on('close', () => {
      const [head = '', ...rest] = text.split('\r\n\r\n');
      resolve({ code: Number(head.split(' ')[1] ?? 0), body: rest.join('\r\n\r\n') });
    });
    socket.write(`GET ${path} HTTP/1.0\r\nhost: localhost\r\n\r\n`);
    return promise;
  }

  async kill(signal: NodeJS.Signals = 'SIGTERM'): Promise<ChildExit | undefined> {
    const child = this.#child;
    this.#child = undefined;
    child?.kill(signal);
    return child?.exited;
  }

  async close(): Promise<void> {
    await this.kill('SIGKILL');
    await endRelayHosts(join(this.directory, 'relay'), 'stop');
    rmSync(this.directory, { recursive: true, force: true });
    rmSync(`/run/${this.#options.namespace.name}.xtables.lock`, { force: true });
  }

  /** A directory where iptables and its kin are those of one backend. */
  #alternatives(backend: 'nft' | 'legacy'): string {
    const directory = join(this.directory, 'bin');
    mkdirSync(directory, { recursive: true });
    for (const command of ['iptables', 'ip6tables'])
      for (const suffix of ['', '-save', '-restore'])
        symlinkSync(`/usr/sbin/${command}-${backend}${suffix}`, join(directory, command + suffix));
    return directory;
  }
}
