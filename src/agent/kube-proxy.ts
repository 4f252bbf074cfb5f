// kube-proxy, the daemon: follows Services, EndpointSlices and its own Node at any Kubernetes API server, and keeps this
// machine's rules. It is what runs in place of upstream's kube-proxy.
//
//   API ─▶ Informers ─▶ ServiceModel ─▶ ProxyEngine (ServiceProxy ─▶ KernelReconciler ─▶ kernel)
//              │                             │  └─▶ health check ports   ▲
//              └─ Node, addresses ─▶ settings ─ changed? built anew ─────┘
//
// The engine is built of settings; when the Node's addresses or podCIDRs change it is replaced over the same kernel and
// the same model. The model is the one copy of Services and endpoints: the informers keep little more than names.
import { availableParallelism, hostname } from 'node:os';
import type { ProxyConfiguration } from '../../proxy/config/config.ts';
import { ProxyHealth } from '../../proxy/health/proxy-health.ts';
import { ServiceModel } from '../../proxy/model/model.ts';
import { HEADLESS_LABEL, PROXY_NAME_LABEL } from '../../proxy/model/services.ts';
import { applyConntrackSysctls, applyOomScore, planConntrackSysctls } from '../../proxy/node-settings.ts';
import type { SyncResult } from '../../proxy/proxy.ts';
import type { EndpointSlice, KubeObject, Node, Service, Stored } from '../api/types.ts';
import { KubeClient } from '../client/client.ts';
import { EventRecorder } from '../client/event-recorder.ts';
import { type Change, Informer } from '../client/informer.ts';
import type { ClientConfig } from '../client/kubeconfig.ts';
import { RESOURCE } from '../client/resources.ts';
import { errorMessage, PodwireError } from '../lib/errors.ts';
import type { Problem } from '../lib/problem.ts';
import { Rtnetlink } from '../linux/rtnetlink.ts';
import { readSysctl } from '../linux/sysctl.ts';
import type { Logger } from '../observe/log.ts';
import { ProxyEngine } from './proxy-engine.ts';
import { ProxyHttp } from './proxy-http.ts';
import { ProxyMetrics } from './proxy-metrics.ts';
import { ProxyReport } from './proxy-report.ts';
import { type ProxySettings, type Surroundings, settingsFrom } from './proxy-settings.ts';
import { RepairEvents } from './repair-events.ts';
import { ServiceNetworks } from './service-networks.ts';

const NOT_OURS = `!${HEADLESS_LABEL},!${PROXY_NAME_LABEL}`;
const TRIGGER_TIME = 'endpoints.kubernetes.io/last-change-trigger-time';
/** How often the machine's addresses are looked at again. */
const SURROUNDINGS_MS = 30_000;
/** The first rules do not wait longer for the ServiceCIDRs. */
const NETWORKS_PATIENCE_MS = 3000;
/** Objects of a list at once, so that a large cluster's never lie in memory whole. */
const PAGE_SIZE = 500;

export interface KubeProxyOptions {
  configuration: ProxyConfiguration;
  client: ClientConfig;
  log: Logger;
}

/** --hostname-override, else this machine's name as kubelet would register it. */
export function nodeNameOf(configuration: ProxyConfiguration): string {
  const name = (configuration.string('hostnameOverride') || hostname()).trim().toLowerCase();
  if (name === '') throw new PodwireError('INVALID_CONFIG', 'hostnameOverride: this machine has no name');
  return name;
}

/** Enough for an Event about the object, and to know a change from none. */
function onlyName<T extends KubeObject>({ apiVersion, kind, metadata }: Stored<T>): Stored<T> {
  const { name, namespace, uid, resourceVersion } = metadata;
  return { apiVersion, kind, metadata: { name, namespace, uid, resourceVersion } } as Stored<T>;
}

export class KubeProxy {
  readonly #options: KubeProxyOptions;
  readonly #nodeName: string;
  readonly #log: Logger;
  readonly #client: KubeClient;
  readonly #events: EventRecorder;
  readonly #repairs: RepairEvents;
  readonly #model: ServiceModel;
  readonly #nodes: Informer<Node>;
  readonly #services: Informer<Service>;
  readonly #slices: Informer<EndpointSlice>;
  readonly #networks: ServiceNetworks;
  readonly #health: ProxyHealth;
  readonly #metrics: ProxyMetrics;
  readonly #report: ProxyReport;
  readonly #http: ProxyHttp;
  #engine: ProxyEngine | undefined;
  #settings = '';
  #building: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  #awaitsSync = false;
  #triggers: number[] = [];
  readonly #startedAt = Date.now();

  constructor(options: KubeProxyOptions) {
    const { configuration, log } = options;
    this.#options = options;
    this.#log = log;
    this.#nodeName = nodeNameOf(configuration);
    this.#client = new KubeClient(options.client, { userAgent: 'podwire-kube-proxy', log });
    this.#events = new EventRecorder({
      client: this.#client,
      component: 'kube-proxy',
      host: this.#nodeName,
      log,
    });
    this.#repairs = new RepairEvents(this.#events, () => this.#nodes.get(this.#nodeName));
    this.#model = new ServiceModel({ name: this.#nodeName });
    this.#nodes = new Informer<Node>(this.#client, RESOURCE.nodes, {
      fieldSelector: `metadata.name=${this.#nodeName}`,
      log,
    });
    this.#services = new Informer<Service>(this.#client, RESOURCE.services, {
      labelSelector: NOT_OURS,
      pageSize: PAGE_SIZE,
      keep: onlyName,
      log,
    });
    this.#slices = new Informer<EndpointSlice>(this.#client, RESOURCE.endpointSlices, {
      labelSelector: NOT_OURS,
      pageSize: PAGE_SIZE,
      keep: onlyName,
      log,
    });
    this.#networks = new ServiceNetworks({
      client: this.#client,
      onChange: () => this.#rebuild(),
      log,
    });
    this.#health = new ProxyHealth(configuration.number('iptables.syncPeriod'));
    this.#metrics = new ProxyMetrics({
      ports: () => this.#engine?.proxy.ports() ?? [],
      problems: () => this.#engine?.proxy.problems() ?? [],
      desired: () => this.#engine?.desired,
    });
    this.#report = new ProxyReport({
      node: this.#nodeName,
      proxy: () => this.#engine?.proxy,
      reconciler: () => this.#engine?.reconciler,
      healthz: () => this.#health.healthz().status,
    });
    this.#http = new ProxyHttp({
      healthz: configuration.string('healthzBindAddress'),
      metrics: configuration.string('metricsBindAddress'),
      hardFail: configuration.boolean('bindAddressHardFail'),
      health: this.#health,
      measured: this.#metrics,
      mode: () => configuration.string('mode') || 'iptables',
      configz: () => configuration.toObject(),
      report: this.#report,
      log,
    });
  }

  /** Resolves when everything runs; the first sync comes when the API server has answered. */
  async start(signal: AbortSignal): Promise<void> {
    const { configuration } = this.#options;
    if (configuration.ignored.length > 0)
      this.#log.warn({ fields: configuration.ignored }, 'these fields have no effect here');
    applyOomScore(configuration.number('oomScoreAdj'), this.#log);
    applyConntrackSysctls(planConntrackSysctls(configuration, availableParallelism()), this.#log);
    await this.#http.start();
    this.#nodes.onChange(change => this.#onNode(change));
    this.#services.onChange(change => this.#onService(change));
    this.#slices.onChange(change => this.#onSlice(change));
    for (const part of [this.#nodes, this.#services, this.#slices, this.#networks]) part.start(signal);
    const whenStopped = (): void => {};
    const networks = this.#networks.asked(NETWORKS_PATIENCE_MS, signal);
    Promise.all([this.#nodes.synced(signal), networks]).then(() => this.#whenNodeKnown(), whenStopped);
    this.#services.synced(signal).then(() => this.#engine?.proxy.listed('services'), whenStopped);
    this.#slices.synced(signal).then(() => this.#engine?.proxy.listed('slices'), whenStopped);
    this.#log.info({ node: this.#nodeName, mode: configuration.string('mode') || 'iptables' }, 'started');
  }

  /** The rules stay: connections go on, and whoever starts next adopts them. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    await this.#building;
    await Promise.all([
      this.#engine?.stop(),
      this.#http.stop(),
      this.#nodes.stop(),
      this.#services.stop(),
      this.#slices.stop(),
      this.#networks.stop(),
    ]);
    await this.#client.close();
  }

  #whenNodeKnown(): void {
    if (this.#stopped) return;
    const node = this.#nodes.get(this.#nodeName);
    if (node) this.#events.event(node, 'Normal', 'Starting', '');
    else
      this.#log.warn(
        { node: this.#nodeName },
        "there is no such Node: the machine's own addresses are used; is --hostname-override needed?",
      );
    this.#timer = setInterval(() => this.#rebuild(), SURROUNDINGS_MS);
    this.#rebuild();
  }

  #surroundings(): Surroundings {
    using rt = Rtnetlink.open();
    let ipv6 = true;
    try {
      ipv6 = readSysctl(undefined, 'net/ipv6/conf/all/disable_ipv6') === '0';
    } catch {
      ipv6 = false;
    }
    return {
      node: this.#nodes.get(this.#nodeName),
      addresses: rt.listAddresses().map(({ address }) => address.split('/')[0] ?? ''),
      serviceCidrs: this.#networks.cidrs,
      ipv6,
    };
  }

  /** Builds the engine, or builds it anew when its settings are not what they were. */
  #rebuild(): void {
    if (this.#stopped || this.#timer === undefined) return;
    const settings = settingsFrom(this.#options.configuration, this.#surroundings());
    if (!settings) {
      this.#log.info({ node: this.#nodeName }, 'waiting for podCIDRs of the Node (detectLocalMode NodeCIDR)');
      return;
    }
    const text = JSON.stringify(settings);
    if (text === this.#settings) return;
    this.#settings = text;
    this.#building = this.#building
      .then(() => this.#replace(settings))
      .catch(error => this.#log.error({ error }, `start the proxy: ${errorMessage(error)}`));
  }

  async #replace(settings: ProxySettings): Promise<void> {
    const before = this.#engine;
    this.#engine = undefined;
    await before?.stop();
    if (this.#stopped) return;
    if (before) this.#log.info('the Node or the addresses changed: rules are planned anew');
    const engine = new ProxyEngine({
      nodeName: this.#nodeName,
      model: this.#model,
      settings,
      healthy: () => this.#health.healthz().status === 200,
      onSynced: result => this.#onSynced(engine, result),
      onSyncFailed: full => this.#metrics.syncFailed(settings.mode, full),
      onFlowsCleaned: (deleted, durationMs) => this.#metrics.flowsCleaned(deleted, durationMs),
      onCleanupFailed: () => this.#metrics.cleanupFailed(),
      onProblems: problems => this.#onProblems(problems),
      onRepaired: (kind, text) => {
        this.#metrics.repaired(kind);
        this.#repairs.tell(text);
        this.#report.repaired(text);
      },
      onIptablesFallback: () => this.#metrics.fellBack(),
      log: this.#log,
    });
    await engine.start();
    this.#engine = engine;
    const node = this.#nodes.get(this.#nodeName);
    if (node) engine.proxy.setNode(node);
    if (this.#services.hasSynced()) engine.proxy.listed('services');
    if (this.#slices.hasSynced()) engine.proxy.listed('slices');
  }

  #onNode({ type, object }: Change<Node>): void {
    if (type === 'deleted') return;
    this.#health.setNode(object);
    this.#engine?.proxy.setNode(object);
    this.#rebuild();
  }

  #onService({ type, object }: Change<Service>): void {
    this.#metrics.changed('service');
    if (type === 'deleted') this.#model.deleteService(object.metadata.namespace ?? '', object.metadata.name);
    else this.#model.upsertService(object);
    this.#engine?.proxy.changed();
    this.#queued();
  }

  #onSlice({ type, object }: Change<EndpointSlice>): void {
    this.#metrics.changed('endpoint');
    if (type === 'deleted') this.#model.deleteSlice(object.metadata.namespace ?? '', object.metadata.name);
    else this.#model.upsertSlice(object);
    this.#engine?.proxy.changed();
    const trigger = Date.parse(object.metadata.annotations?.[TRIGGER_TIME] ?? '');
    if (trigger > this.#startedAt) this.#triggers.push(trigger);
    this.#queued();
  }

  /** A change that alters nothing is settled at once, and must not count as one that waits. */
  #queued(): void {
    this.#health.queued();
    const { proxy } = this.#engine ?? {};
    if (!proxy || this.#awaitsSync) return;
    this.#awaitsSync = true;
    void proxy.settled().then(() => {
      this.#awaitsSync = false;
      if (proxy.ready) this.#health.updated();
    });
  }

  #onSynced(engine: ProxyEngine, result: SyncResult): void {
    this.#awaitsSync = false;
    this.#health.updated();
    this.#metrics.synced(result, engine.desired, this.#triggers.splice(0));
    if (result.full)
      this.#log.info({ ...result, durationMs: Math.round(result.durationMs) }, 'all rules are in place');
  }

  #onProblems(problems: readonly Problem[]): void {
    for (const { kind, namespace, name, reason, message } of problems) {
      const known =
        kind === 'Service' ? this.#services.get(name, namespace) : this.#slices.get(name, namespace);
      const apiVersion = kind === 'EndpointSlice' ? 'discovery.k8s.io/v1' : 'v1';
      const object = known ?? { apiVersion, kind, metadata: { name, namespace } };
      this.#events.event(object, 'Warning', reason, message);
    }
  }
}
