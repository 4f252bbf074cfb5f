// The kubelet: keeps the pods that the API has put on this node running, by CRI. It only wires its parts together:
//
//   pods informer ─▶ PodManager ─▶ PodWorker ─▶ CRI          NodeRegistrar ─▶ Node, Lease
//                       ▲  relist, probes  │                 KubeletServer ◀─ logs, exec
//                       └──────────────────┴─▶ ApiPods ─▶ pods/status
//
// Stopping it, or killing it, leaves every container as it is; the next start adopts them by their labels.

import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { cpus, totalmem } from 'node:os';
import type { Pod, Service } from '../api/types.ts';
import type { KubeClient } from '../client/client.ts';
import { EventRecorder } from '../client/event-recorder.ts';
import { Informer } from '../client/informer.ts';
import { RESOURCE } from '../client/resources.ts';
import { errorMessage } from '../lib/errors.ts';
import type { Logger } from '../observe/log.ts';
import { ApiPods } from './api-pods.ts';
import { KeyedBackOff } from './back-off.ts';
import { ApiConfigSource } from './config-source.ts';
import { CriClient } from './cri-client.ts';
import { parseResolvConf } from './dns.ts';
import type { DNSConfig } from './gen/cri.ts';
import { ImageManager } from './image-manager.ts';
import { LogRotator } from './log-rotator.ts';
import { DEFAULT_RUNTIME_NAME } from './names.ts';
import type { NodeContext } from './node-context.ts';
import { NodeRegistrar } from './node-registrar.ts';
import { PodManager } from './pod-manager.ts';
import { Prober } from './prober.ts';
import { RuntimeState } from './runtime-state.ts';
import { KubeletServer, type ServingOptions } from './server.ts';

/** The kubelet's own default. */
const DEFAULT_MAX_PODS = 110;
const DEFAULT_CGROUP_PARENT = '/kubepods';

export interface KubeletOptions {
  client: KubeClient;
  nodeName: string;
  nodeIps: string[];
  criSocket: string;
  podLogDir: string;
  stateDir: string;
  clusterDns?: string[];
  clusterDomain?: string;
  serving: ServingOptions;
  cgroupParent?: string;
  maxPods?: number;
  nodeLabels?: Record<string, string>;
  /** Shared with others of the process; else the kubelet watches Services itself. */
  services?: Informer<Service>;
  log: Logger;
}

export class Kubelet {
  readonly #options: KubeletOptions;
  readonly #abort = new AbortController();
  readonly #cri: CriClient;
  readonly #pods: Informer<Pod>;
  readonly #services: Informer<Service>;
  #manager: PodManager | undefined;
  #prober: Prober | undefined;
  #server: KubeletServer | undefined;
  #running: Promise<unknown> | undefined;

  constructor(options: KubeletOptions) {
    this.#options = options;
    const { client, nodeName, log } = options;
    this.#cri = new CriClient(options.criSocket);
    this.#pods = new Informer(client, RESOURCE.pods, { fieldSelector: `spec.nodeName=${nodeName}`, log });
    this.#services = options.services ?? new Informer(client, RESOURCE.services, { log });
  }

  /** Resolves once the server listens and the loops run; the node registers in the background until it succeeds. */
  async start(signal?: AbortSignal): Promise<void> {
    const o = this.#options;
    signal?.addEventListener('abort', () => void this.stop(), { once: true });
    await mkdir(o.stateDir, { recursive: true });
    await mkdir(o.podLogDir, { recursive: true });
    const prober: Prober = new Prober({
      cri: this.#cri,
      onChange: uid => manager.wake(uid),
      onFailure: (pod, container, kind, message) => {
        const title = `${kind[0]!.toUpperCase()}${kind.slice(1)}`;
        context.api.event(pod, 'Warning', 'Unhealthy', `${title} probe failed: ${message}`);
        o.log.debug({ pod: pod.metadata?.name, container: container.name, kind }, message);
      },
    });
    const context = this.#context(prober);
    const manager = new PodManager(context);
    this.#manager = manager;
    this.#prober = prober;
    this.#server = new KubeletServer({ ...o.serving, cri: this.#cri, manager, context, log: o.log });
    await this.#server.start();
    if (!o.services) this.#services.start(this.#abort.signal);
    this.#followPods(manager);
    const registrar = new NodeRegistrar({
      client: o.client,
      cri: this.#cri,
      nodeName: o.nodeName,
      nodeIps: o.nodeIps,
      kubeletPort: o.serving.port,
      maxPods: o.maxPods ?? DEFAULT_MAX_PODS,
      stateDir: o.stateDir,
      labels: o.nodeLabels,
      problem: () => manager.relistError,
      log: o.log,
    });
    const rotator = new LogRotator(this.#cri, o.log);
    const loops = [registrar, manager, rotator].map(part => part.run(this.#abort.signal));
    this.#running = Promise.all(loops).catch(error => {
      o.log.error({ error }, `kubelet loop ended: ${errorMessage(error)}`);
    });
  }

  #context(prober: Prober): NodeContext {
    const o = this.#options;
    const { client, log } = o;
    const signal = this.#abort.signal;
    const events = new EventRecorder({ client, component: 'kubelet', host: o.nodeName, log });
    return {
      cri: this.#cri,
      runtime: new RuntimeState(this.#cri),
      images: new ImageManager(this.#cri),
      prober,
      restarts: new KeyedBackOff(),
      api: new ApiPods({ client, events, log, signal }),
      sources: { config: new ApiConfigSource(client) },
      services: async () => {
        await this.#services.synced(signal);
        return this.#services.list();
      },
      node: { nodeName: o.nodeName, nodeIps: o.nodeIps, cpus: cpus().length, memoryBytes: totalmem() },
      dns: {
        clusterDns: o.clusterDns ?? [],
        clusterDomain: o.clusterDomain ?? 'cluster.local',
        host: hostResolver(),
      },
      cgroupParent: o.cgroupParent ?? DEFAULT_CGROUP_PARENT,
      podLogDir: o.podLogDir,
      stateDir: o.stateDir,
      runtimeName: DEFAULT_RUNTIME_NAME,
      log,
    };
  }

  #followPods(manager: PodManager): void {
    this.#pods.onChange(({ type, object }) => {
      if (type === 'deleted') manager.removePod(object.metadata.uid);
      else manager.setPod(object);
    });
    this.#pods.start(this.#abort.signal);
    this.#pods.synced(this.#abort.signal).then(
      async () => {
        manager.setComplete();
        await manager.sweep();
      },
      () => {},
    );
  }

  async stop(): Promise<void> {
    if (this.#abort.signal.aborted) return;
    this.#abort.abort();
    this.#prober?.stop();
    await Promise.all([
      this.#server?.stop(),
      this.#pods.stop(),
      this.#options.services ? undefined : this.#services.stop(),
      this.#manager?.stop(),
      this.#running,
    ]);
    this.#cri.close();
  }
}

function hostResolver(): DNSConfig {
  try {
    return parseResolvConf(readFileSync('/etc/resolv.conf', 'utf8'));
  } catch {
    return { servers: [], searches: [], options: [] };
  }
}
