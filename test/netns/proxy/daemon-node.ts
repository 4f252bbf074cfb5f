// A node whose service proxy is the program kube-proxy, started inside the node's namespace beside an API server of ours
// that listens on that namespace's loopback; the test's own client reaches the same server on ours.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endRelayHosts } from '../../../proxy/backend/userspace/apply/host-directory.ts';
import type { EndpointSlice, Node, Service } from '../../../src/api/types.ts';
import { startApiServer } from '../../../src/apiserver/main.ts';
import { createClusterPki } from '../../../src/apiserver/pki.ts';
import type { ApiServer } from '../../../src/apiserver/server.ts';
import { KubeClient } from '../../../src/client/client.ts';
import { loadKubeconfig } from '../../../src/client/kubeconfig.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { type ChildExit, type ChildHandle, spawnChild } from '../../../src/linux/exec.ts';
import { listenTcp } from '../../../src/linux/listen.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { freePort } from '../../harness/control-plane.ts';
import type { LabNamespace } from '../../harness/netns-lab.ts';
import { NODE_IP, ProxyNode } from './node.ts';

const PROGRAM = join(import.meta.dirname, '../../../src/cmd/kube-proxy.ts');

export interface HttpAnswer {
  status: number;
  body: string;
}

export async function waitFor<T>(what: string, look: () => Promise<T | undefined>, ms = 15_000): Promise<T> {
  const until = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > until) throw new Error(`not in ${ms} ms: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

export class DaemonNode {
  readonly net: ProxyNode;
  readonly directory = mkdtempSync(join(tmpdir(), 'podwire-kube-proxy-'));
  /** Of userspace mode's relay hosts. */
  readonly relayDirectory = join(this.directory, 'relay');
  admin!: KubeClient;
  #server: ApiServer | undefined;
  #kubeconfig = '';
  #child: ChildHandle | undefined;
  #log = '';

  constructor(room: string) {
    this.net = new ProxyNode(room);
  }

  get node(): LabNamespace {
    return this.net.node;
  }

  /** What the running program has written. */
  get log(): string {
    return this.#log;
  }

  async start(): Promise<void> {
    const port = await freePort();
    const pki = createClusterPki(join(this.directory, 'pki'), {
      sans: ['127.0.0.1'],
      adminServer: `https://127.0.0.1:${port}`,
      componentServer: `https://127.0.0.1:${port}`,
    });
    this.#kubeconfig = pki.kubeconfigs.kubeProxy;
    this.#server = await startApiServer({
      dataDir: this.directory,
      tls: { certFile: pki.apiserver.cert, keyFile: pki.apiserver.key, clientCaFile: pki.ca.cert },
      listeners: [
        { address: '127.0.0.1', port },
        { fd: listenTcp({ netns: this.node.netns, address: '127.0.0.1', port }) },
      ],
      serviceCidrs: ['10.96.0.0/16', 'fd96::/112'],
      advertiseAddress: NODE_IP.v4,
      log: silentLogger(),
    });
    this.admin = new KubeClient(loadKubeconfig(pki.kubeconfigs.admin));
    const node: Node = {
      metadata: { name: 'node' },
      spec: { podCIDRs: ['10.244.1.0/24', 'fd00:244:1::/64'] },
    };
    await this.admin.create(RESOURCE.nodes, node);
    const addresses = [NODE_IP.v4, NODE_IP.v6].map(address => ({ type: 'InternalIP', address }));
    await this.admin.patch(
      RESOURCE.nodes,
      'node',
      { status: { addresses } },
      { type: 'strategic', subresource: 'status' },
    );
  }

  /** A file with these fields; the kubeconfig and the node's name are filled in. */
  writeConfig(fields: Record<string, unknown>): string {
    const path = join(this.directory, 'config.json');
    writeFileSync(
      path,
      JSON.stringify({
        apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
        kind: 'KubeProxyConfiguration',
        clientConnection: { kubeconfig: this.#kubeconfig },
        hostnameOverride: 'node',
        clusterCIDR: '10.244.0.0/16,fd00:244::/32',
        ...fields,
      }),
    );
    return path;
  }

  /** Starts the program; resolves when /readyz says yes. */
  async run(...args: string[]): Promise<void> {
    this.spawn(...args);
    await waitFor('kube-proxy ready', async () => {
      const answer = await this.get(10256, '/readyz');
      return answer?.status === 200 ? true : undefined;
    }).catch(error => {
      throw new Error(`${error.message}\n${this.#log}`);
    });
  }

  spawn(...args: string[]): ChildHandle {
    const child = spawnChild(process.execPath, ['--disable-warning=ExperimentalWarning', PROGRAM, ...args], {
      netns: this.node.netns,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        XTABLES_LOCKFILE: `/run/${this.node.name}.xtables.lock`,
        PODWIRE_RELAY_DIRECTORY: this.relayDirectory,
      },
    });
    this.#log = '';
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk: Buffer) => {
        this.#log += chunk.toString('utf8');
      });
    this.#child = child;
    return child;
  }

  /** Sends the program a signal; how it ended. */
  async end(signal: NodeJS.Signals): Promise<ChildExit | undefined> {
    const child = this.#child;
    this.#child = undefined;
    child?.kill(signal);
    return child?.exited;
  }

  /** GET on the node's loopback; undefined when nobody listens. */
  get(port: number, path: string): Promise<HttpAnswer | undefined> {
    const { promise, resolve } = Promise.withResolvers<HttpAnswer | undefined>();
    const socket = this.node.connect('127.0.0.1', port);
    let text = '';
    socket.on('data', chunk => {
      text += chunk.toString();
    });
    socket.on('error', () => resolve(undefined));
    socket.on('close', () => {
      const [head = '', ...rest] = text.split('\r\n\r\n');
      resolve(head === '' ? undefined : { status: Number(head.split(' ')[1]), body: rest.join('\r\n\r\n') });
    });
    // HTTP/1.0: the answer is not chunked and the server closes.
    socket.end(`GET ${path} HTTP/1.0\r\nhost: localhost\r\n\r\n`);
    return promise;
  }

  async expose(object: Service, slice: EndpointSlice): Promise<string> {
    const made = await this.admin.create(RESOURCE.services, object);
    await this.admin.create(RESOURCE.endpointSlices, slice);
    return made.spec?.clusterIP ?? '';
  }

  async close(): Promise<void> {
    await this.end('SIGKILL');
    await endRelayHosts(this.relayDirectory, 'stop');
    await this.admin?.close();
    await this.#server?.stop();
    await this.net.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
