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
import { eventually } from '../../interop/overlay/flanneld-process.ts';
import { StaticApi } from './static-api.ts';

const API_PORT = 6443;
const POLL_MS = 2;
/** Without a change for so long it has done all that it was told. */
const QUIET_MS = 1500;
/** A chain has a head and an end beside its rules; an endpoint has a chain of two and a rule that leads to it. */
const CHAIN_ENTRIES = 2;
const ENDPOINT_ENTRIES = CHAIN_ENTRIES + 3;
const MOST_CHANGES = 10;

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
  /** So many entries at least has table nat when it is done. */
  readonly #entries: number;

  private constructor(options: RealKubeProxyOptions) {
    const { namespace, directory, objects, nodeAddress, clusterCidr, timeoutMs = 120_000 } = options;
    this.#timeoutMs = timeoutMs;
    // Before the first change; a change takes away one endpoint at most.
    this.#entries =
      objects.reduce((sum, [, slice]) => sum + entriesOf(slice), 0) - MOST_CHANGES * ENDPOINT_ENTRIES;
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
      await eventually('all rules', () => made.#isComplete(), made.#timeoutMs);
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

  /**
   * Its /healthz says yes before it has done anything, and its first sync may know a part of the Services only, which its
   * metrics do not tell: what counts is the size of the table.
   */
  #isComplete(): boolean {
    return Number.parseInt(this.#fingerprint() ?? '0', 10) >= this.#entries;
  }

  #fingerprint(): string | undefined {
    return this.#iptables.legacyFingerprint(4, 'nat');
  }

  /** When the table changed last, once it has been quiet for a while. */
  async #quiet(): Promise<number> {
    let last = this.#fingerprint();
    let since = performance.now();
    for (;;) {
      await sleep(POLL_MS * 10);
      const now = this.#fingerprint();
      if (now !== last) since = performance.now();
      last = now;
      if (performance.now() - since < QUIET_MS) continue;
      if (this.#isComplete()) return since;
    }
  }
}

/** Of one Service with a cluster IP: two rules of KUBE-SERVICES, its chain, and its endpoints. */
function entriesOf({ endpoints }: EndpointSlice): number {
  return 2 + CHAIN_ENTRIES + endpoints.length * ENDPOINT_ENTRIES;
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

export interface RealFigures {
  coldSeconds: number;
  /** Median, milliseconds. */
  changeMs: number;
  note: string;
}

/**
 * The real one with these objects: from nothing, and each of `changed` in turn. Every slice must have another number of
 * endpoints than before, for that is what the size of a table shows. Undefined where it is not built.
 */
export async function realFigures(
  options: RealKubeProxyOptions,
  changed: readonly EndpointSlice[],
): Promise<RealFigures | undefined> {
  if (WITHOUT_REAL_KUBE_PROXY) return undefined;
  const real = await RealKubeProxy.start(options);
  try {
    const times: number[] = [];
    for (const slice of changed) times.push(await real.change(slice));
    const changeMs = times.toSorted((a, b) => a - b)[times.length >> 1]!;
    const note = `the real kube-proxy 1.20.2, iptables-legacy, in this run (cold ${(real.coldMs / 1000).toFixed(1)} s)`;
    return { coldSeconds: real.coldMs / 1000, changeMs, note };
  } finally {
    await real.stop();
  }
}
