// The real kube-proxy 1.20.2 as the peer of a benchmark, iptables mode on iptables-legacy, where PODWIRE_KUBERNETES_BIN names a
// directory that has it (test/interop/kubernetes/build-peers.sh). Time runs until the kernel's table is another one.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EndpointSlice, Service } from '../../../src/api/types.ts';
import { Iptables } from '../../../src/linux/iptables.ts';
import type { LabNamespace } from '../../harness/netns-lab.ts';
import { KubeProxyProcess } from '../../interop/kubernetes/kube-proxy-process.ts';
import { skipWithout } from '../../interop/kubernetes/peers.ts';
import { StaticApi } from './static-api.ts';

const API_PORT = 6443;
const POLL_MS = 2;
/** Without a change for so long it has done all that it was told. */
const QUIET_MS = 1500;

/** False when the real kube-proxy can be run here, else why not. */
export const WITHOUT_REAL_KUBE_PROXY: string | false = skipWithout('kube-proxy');

export interface RealKubeProxyOptions {
  namespace: LabNamespace;
  /** For lock files and the like. */
  directory: string;
  objects: readonly [Service, EndpointSlice][];
  nodeAddress: string;
  clusterCidr: string;
  timeoutMs?: number;
}

export class RealKubeProxy {
  /** From its start until its rules were in the kernel. */
  coldMs = 0;
  readonly #api: StaticApi;
  readonly #process: KubeProxyProcess;
  readonly #iptables: Iptables;
  readonly #timeoutMs: number;

  private constructor(options: RealKubeProxyOptions) {
    const { namespace, directory, objects, nodeAddress, clusterCidr, timeoutMs = 120_000 } = options;
    this.#timeoutMs = timeoutMs;
    this.#api = new StaticApi(namespace, { port: API_PORT, nodeAddress });
    this.#api.put(...objects);
    const kubeconfig = join(directory, `${namespace.name}.conf`);
    writeFileSync(kubeconfig, JSON.stringify(kubeconfigOf(`http://127.0.0.1:${API_PORT}`)));
    this.#iptables = new Iptables({ netns: namespace.netns, lockDirectory: directory, backend: 'legacy' });
    this.#process = new KubeProxyProcess({
      namespace,
      whose: 'real',
      kubeconfig,
      iptables: 'legacy',
      fields: {
        mode: 'iptables',
        clusterCIDR: clusterCidr,
        clientConnection: { kubeconfig, contentType: 'application/json' },
        conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
        iptables: { syncPeriod: '1h', minSyncPeriod: '1s' },
      },
    });
  }

  /** Resolves when it has written its rules and is quiet. */
  static async start(options: RealKubeProxyOptions): Promise<RealKubeProxy> {
    const made = new RealKubeProxy(options);
    const from = performance.now();
    made.#process.start();
    try {
      await made.#process.ready(made.#timeoutMs);
      made.coldMs = (await made.#quiet()) - from;
    } catch (error) {
      await made.stop();
      throw error;
    }
    return made;
  }

  /** Milliseconds from the watch event until the kernel has other rules. */
  async change(slice: EndpointSlice): Promise<number> {
    const before = this.#fingerprint();
    const from = performance.now();
    this.#api.change(slice);
    while (this.#fingerprint() === before) {
      if (performance.now() - from > this.#timeoutMs)
        throw new Error(`no change in ${this.#timeoutMs} ms\n${this.#process.log.slice(-2000)}`);
      await sleep(POLL_MS);
    }
    const took = performance.now() - from;
    await this.#quiet();
    return took;
  }

  async stop(): Promise<void> {
    await this.#process.close();
    this.#api.close();
  }

  #fingerprint(): string | undefined {
    return this.#iptables.legacyFingerprint(4, 'nat');
  }

  /** When the table changed last, once it has been quiet for a while. */
  async #quiet(): Promise<number> {
    let last = this.#fingerprint();
    let since = performance.now();
    while (performance.now() - since < QUIET_MS) {
      await sleep(POLL_MS * 10);
      const now = this.#fingerprint();
      if (now === last) continue;
      last = now;
      since = performance.now();
    }
    return since;
  }
}

function kubeconfigOf(server: string): object {
  return {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'c', cluster: { server } }],
    contexts: [{ name: 'c', context: { cluster: 'c', user: '' } }],
    'current-context': 'c',
  };
}
