// The service proxy's heart: Services, EndpointSlices and the node in, the desired kernel state of room `proxy` out.
// It knows neither the API client nor the kernel: the agent feeds it and gives it callbacks. Nothing is written before
// both lists were seen once whole: half a list would take running Services away (kubernetes#75360).
import type { EndpointSlice, Node, Service } from '../src/api/types.ts';
import type { KernelState } from '../src/kernel/state.ts';
import { errorMessage } from '../src/lib/errors.ts';
import { type Problem, problemKey } from '../src/lib/problem.ts';
import type { Netns } from '../src/linux/netns.ts';
import type { Logger } from '../src/observe/log.ts';
import type { Difference, ForgottenFrontend, ProxyBackend } from './backend/backend.ts';
import { IptablesBackend } from './backend/iptables/backend.ts';
import { DEFAULT_IPTABLES_CONFIG, type IptablesConfig } from './backend/iptables/plan/config.ts';
import type { NftRepair } from './backend/nftables/apply/keeper.ts';
import { NftablesBackend } from './backend/nftables/backend.ts';
import { DEFAULT_NFTABLES_CONFIG, type NftablesConfig } from './backend/nftables/plan/config.ts';
import type { RelayHostChoice } from './backend/userspace/apply/hosted-relay.ts';
import {
  DEFAULT_USERSPACE_CONFIG,
  UserspaceBackend,
  type UserspaceConfig,
} from './backend/userspace/backend.ts';
import { type HealthCheck, ServiceModel } from './model/model.ts';
import { serviceKey } from './model/services.ts';
import type { NodeTopology } from './model/topology.ts';
import type { Endpoint, Family, ResolvedPort, ServicePort } from './model/types.ts';
import { SyncLimiter } from './sync-limiter.ts';

const ZONE_LABEL = 'topology.kubernetes.io/zone';
/** A failed sync is tried again after so long. */
const RETRY_MS = 1000;

export interface SyncResult {
  /** The first sync, or one after a failure: everything was written or checked. */
  full: boolean;
  durationMs: number;
  /** Service ports that changed. */
  changedPorts: number;
  services: number;
  endpoints: number;
}

export interface ServiceProxyOptions {
  nodeName: string;
  /** What is known of the cluster already, kept by somebody who outlives this proxy; else it has its own. */
  model?: ServiceModel;
  families?: readonly Family[];
  /** Where rules are kept; iptables unless told. */
  mode?: 'iptables' | 'nftables' | 'userspace';
  iptables?: Partial<IptablesConfig>;
  /** What is not said here is taken from `iptables`, as far as both modes know it. */
  nftables?: Partial<NftablesConfig>;
  userspace?: Partial<UserspaceConfig>;
  /** userspace mode: the relay in a process of its own, that outlives this one. */
  relayHost?: RelayHostChoice;
  /** Where the nftables mode writes and the userspace mode listens; the process's own unless told. */
  netns?: Netns;
  /** nftables mode: how often everything is compared with the kernel; every minute unless told. */
  verifyIntervalMs?: number;
  /** nftables mode: what somebody else had changed. */
  onRepair?: (repairs: NftRepair[]) => void;
  /** --iptables-min-sync-period; adaptive when absent. */
  minSyncPeriodMs?: number;
  /** The whole desired state, each time it changed. */
  setDesired: (state: KernelState) => void;
  /** Resolves when the kernel has what was last given to setDesired; a rejection is retried. */
  settled?: () => Promise<void>;
  onSynced?: (result: SyncResult) => void;
  /** It is tried again in a second. */
  onSyncFailed?: (full: boolean) => void;
  onHealthChecks?: (checks: HealthCheck[]) => void;
  onProblems?: (problems: Problem[]) => void;
  log?: Logger;
}

function createBackend(
  options: ServiceProxyOptions,
  families: readonly Family[],
  syncAgain: () => void,
): ProxyBackend {
  const iptables = { ...DEFAULT_IPTABLES_CONFIG, ...options.iptables };
  if (options.mode === 'userspace')
    return new UserspaceBackend({
      ...options,
      families,
      onRelayLost: syncAgain,
      config: {
        ...DEFAULT_USERSPACE_CONFIG,
        // On one address each, so that answers of UDP come from the address that was asked.
        listen: {
          v4: iptables.nodeIps.find(ip => !ip.includes(':')) ?? '0.0.0.0',
          v6: iptables.nodeIps.find(ip => ip.includes(':')) ?? '::',
        },
        ...options.userspace,
      },
    });
  if (options.mode !== 'nftables') return new IptablesBackend({ ...options, families, config: iptables });
  const { masqueradeMark, masqueradeAll, localDetector, nodePortAddresses, nodeIps, randomFully } = iptables;
  return new NftablesBackend({
    ...options,
    families,
    config: {
      ...DEFAULT_NFTABLES_CONFIG,
      ...{ masqueradeMark, masqueradeAll, localDetector, nodeIps, randomFully },
      ...(nodePortAddresses ? { nodePortAddresses } : {}),
      ...options.nftables,
    },
  });
}

export class ServiceProxy {
  readonly #options: ServiceProxyOptions;
  readonly #model: ServiceModel;
  readonly #backend: ProxyBackend;
  readonly #limiter: SyncLimiter;
  #lastSync: { at: number; result: SyncResult } | undefined;
  #lastFailure: { at: number; message: string } | undefined;
  #haveServices = false;
  #haveSlices = false;
  #full = true;
  #syncing = false;
  #ready = false;
  #reported = new Set<string>();
  #retry: NodeJS.Timeout | undefined;
  #idle: PromiseWithResolvers<void> | undefined;

  constructor(options: ServiceProxyOptions) {
    this.#options = options;
    const families = options.families ?? [4, 6];
    this.#model = options.model ?? new ServiceModel({ name: options.nodeName });
    this.#model.startAnew(families);
    this.#backend = createBackend(options, families, () => this.#syncAgain());
    this.#limiter = new SyncLimiter(() => this.#sync(), options.minSyncPeriodMs);
  }

  /** All Services there are; the first call is one half of what the first sync waits for. */
  setServices(services: readonly Service[]): void {
    const present = new Set(services.map(({ metadata }) => serviceKey(metadata?.namespace, metadata?.name)));
    for (const key of [...this.#model.serviceKeys()]) if (!present.has(key)) this.#removeService(key);
    for (const service of services) this.#model.upsertService(service);
    this.#haveServices = true;
    this.changed();
  }

  upsertService(service: Service): void {
    this.#model.upsertService(service);
    this.changed();
  }

  deleteService(namespace: string, name: string): void {
    this.#removeService(serviceKey(namespace, name));
    this.changed();
  }

  /** All EndpointSlices there are; the other half of what the first sync waits for. */
  setEndpointSlices(slices: readonly EndpointSlice[]): void {
    const present = new Set(slices.map(({ metadata }) => serviceKey(metadata?.namespace, metadata?.name)));
    for (const key of [...this.#model.sliceKeys()]) if (!present.has(key)) this.#removeSlice(key);
    for (const slice of slices) this.#model.upsertSlice(slice);
    this.#haveSlices = true;
    this.changed();
  }

  upsertEndpointSlice(slice: EndpointSlice): void {
    this.#model.upsertSlice(slice);
    this.changed();
  }

  deleteEndpointSlice(namespace: string, name: string): void {
    this.#removeSlice(serviceKey(namespace, name));
    this.changed();
  }

  /** This node's object: its zone decides about topology hints. */
  setNode(node: Node): void {
    const topology: NodeTopology = {
      name: this.#options.nodeName,
      zone: node.metadata?.labels?.[ZONE_LABEL],
    };
    this.#model.setNode(topology);
    this.changed();
  }

  /** True after the first sync that reached the kernel. */
  get ready(): boolean {
    return this.#ready;
  }

  get mode(): 'iptables' | 'nftables' | 'userspace' {
    return this.#options.mode ?? 'iptables';
  }

  get families(): readonly Family[] {
    return this.#options.families ?? [4, 6];
  }

  /** The last sync that reached the kernel; epoch milliseconds. */
  get lastSync(): { at: number; result: SyncResult } | undefined {
    return this.#lastSync;
  }

  /** The last sync that failed, until one succeeds. */
  get lastFailure(): { at: number; message: string } | undefined {
    return this.#lastFailure;
  }

  /** See ProxyBackend. */
  get verifiedAt(): number | undefined {
    return this.#backend.verifiedAt;
  }

  /** Differences that the kernel state given to `setDesired` does not speak of; see ProxyBackend. */
  async diff(): Promise<Difference[]> {
    return (await this.#backend.diff?.()) ?? [];
  }

  /** See ProxyBackend. */
  takeForgotten(): ForgottenFrontend[] {
    return this.#backend.takeForgotten?.() ?? [];
  }

  /** The chains, elements or listeners that serve a port, one line each. */
  placesOf(resolved: ResolvedPort): string[] {
    return this.#backend.placesOf(resolved);
  }

  ports(): Iterable<ResolvedPort> {
    return this.#model.ports();
  }

  /** Every endpoint of a service port, also those that no policy may use: for explanations. */
  candidates(port: ServicePort): readonly Endpoint[] {
    return this.#model.candidates(port);
  }

  problems(): Problem[] {
    return this.#model.problems();
  }

  /** Resolves when everything given so far is synced. */
  settled(): Promise<void> {
    if (!this.#pending) return Promise.resolve();
    this.#idle ??= Promise.withResolvers<void>();
    return this.#idle.promise;
  }

  /** Stops syncing; the rules stay, so that connections go on. */
  stop(): void {
    this.#limiter.stop();
    clearTimeout(this.#retry);
    this.#backend.stop();
  }

  get #pending(): boolean {
    return this.#full || this.#syncing || this.#model.hasChanges;
  }

  #removeService(key: string): void {
    const [namespace = '', name = ''] = key.split('/');
    this.#model.deleteService(namespace, name);
  }

  #removeSlice(key: string): void {
    const [namespace = '', name = ''] = key.split('/');
    this.#model.deleteSlice(namespace, name);
  }

  /** The model was given all Services, or all EndpointSlices, by whoever keeps it. */
  listed(what: 'services' | 'slices'): void {
    if (what === 'services') this.#haveServices = true;
    else this.#haveSlices = true;
    this.changed();
  }

  /** The model may have changes. */
  changed(): void {
    if (this.#haveServices && this.#haveSlices && this.#pending) this.#limiter.request();
  }

  #syncAgain(): void {
    this.#full = true;
    this.changed();
  }

  async #sync(): Promise<void> {
    const started = performance.now();
    const full = this.#full;
    this.#full = false;
    this.#syncing = true;
    const { ports } = this.#model.update();
    for (const [id, resolved] of ports) this.#backend.set(id, resolved);
    try {
      if (full || ports.size > 0) await this.#backend.sync(full);
      this.#syncing = false;
    } catch (error) {
      this.#syncing = false;
      this.#full = true;
      this.#lastFailure = { at: Date.now(), message: errorMessage(error) };
      this.#options.onSyncFailed?.(full);
      this.#options.log?.error({ retryMs: RETRY_MS }, `sync proxy rules: ${errorMessage(error)}`);
      clearTimeout(this.#retry);
      this.#retry = setTimeout(() => this.#limiter.request(), RETRY_MS);
      return;
    }
    this.#ready = true;
    const result: SyncResult = {
      full,
      durationMs: performance.now() - started,
      changedPorts: ports.size,
      services: this.#model.serviceCount,
      endpoints: this.#backend.endpoints,
    };
    this.#lastSync = { at: Date.now(), result };
    this.#lastFailure = undefined;
    this.#options.log?.debug({ ...result }, 'proxy rules synced');
    this.#options.onHealthChecks?.([...this.#model.healthChecks()]);
    this.#report(this.#model.problems());
    this.#options.onSynced?.(result);
    if (this.#pending) return;
    this.#idle?.resolve();
    this.#idle = undefined;
  }

  #report(problems: Problem[]): void {
    const fresh = problems.filter(problem => !this.#reported.has(problemKey(problem)));
    this.#reported = new Set(problems.map(problemKey));
    for (const { kind, namespace, name, reason, message } of fresh)
      this.#options.log?.warn({ object: `${kind} ${namespace}/${name}`, reason }, message);
    if (fresh.length > 0) this.#options.onProblems?.(fresh);
  }
}
