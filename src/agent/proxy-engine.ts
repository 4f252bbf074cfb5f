// The part of the proxy daemon that one set of settings makes: service model, planner, kernel reconciler, health check
// listeners. Stopping it leaves the rules where they are; another one adopts them.
import { defaultHostDirectory } from '../../proxy/backend/userspace/apply/host-directory.ts';
import { LocalhostNodePorts } from '../../proxy/backend/userspace/localhost-node-ports.ts';
import { cleanupRules } from '../../proxy/cleanup.ts';
import { ConntrackCleaner } from '../../proxy/conntrack-cleaner.ts';
import { ServiceHealthServer } from '../../proxy/health/service-health.ts';
import type { ServiceModel } from '../../proxy/model/model.ts';
import { ServiceProxy, type SyncResult } from '../../proxy/proxy.ts';
import { KernelReconciler } from '../kernel/reconciler.ts';
import type { KernelState } from '../kernel/state.ts';
import { errorMessage } from '../lib/errors.ts';
import type { Problem } from '../lib/problem.ts';
import type { Logger } from '../observe/log.ts';
import type { ProxySettings } from './proxy-settings.ts';

export interface ProxyEngineOptions {
  nodeName: string;
  /** Outlives the engine. */
  model: ServiceModel;
  settings: ProxySettings;
  /** For health check ports: a node that cannot be programmed must not get traffic. */
  healthy: () => boolean;
  onSynced: (result: SyncResult) => void;
  onSyncFailed: (full: boolean) => void;
  onFlowsCleaned: (deleted: number, durationMs: number) => void;
  onCleanupFailed: () => void;
  onProblems: (problems: Problem[]) => void;
  /** Something that somebody else had changed was put back. */
  onRepaired: (kind: string, text: string) => void;
  /** A change of a legacy table went through the iptables-restore program. */
  onIptablesFallback: () => void;
  log: Logger;
}

export class ProxyEngine {
  readonly proxy: ServiceProxy;
  readonly #options: ProxyEngineOptions;
  readonly #reconciler: KernelReconciler;
  readonly #serviceHealth: ServiceHealthServer;
  readonly #cleaner = new ConntrackCleaner();
  #desired: KernelState | undefined;
  readonly #localhost: LocalhostNodePorts | undefined;
  #verified = false;
  #othersRemoved = false;

  constructor(options: ProxyEngineOptions) {
    this.#options = options;
    const { settings, log } = options;
    this.#reconciler = new KernelReconciler({
      rooms: ['proxy'],
      log: log.child({ room: 'kernel' }),
      verifyIntervalMs: settings.syncPeriodMs,
      onRepair: ({ kind, text }) => options.onRepaired(kind, text),
      onIptablesFallback: options.onIptablesFallback,
    });
    this.#serviceHealth = new ServiceHealthServer({
      ...(settings.healthCheckAddresses ? { addresses: settings.healthCheckAddresses } : {}),
      proxyHealthy: options.healthy,
      log,
    });
    this.#localhost = settings.localhostRelay ? new LocalhostNodePorts({ log }) : undefined;
    this.proxy = new ServiceProxy({
      nodeName: options.nodeName,
      model: options.model,
      families: settings.families,
      mode: settings.mode,
      iptables: settings.rules,
      nftables: { serviceCidrs: settings.serviceCidrs },
      userspace: settings.userspace,
      relayHost: { directory: defaultHostDirectory() },
      verifyIntervalMs: settings.syncPeriodMs,
      onRepair: repairs => {
        for (const { what } of repairs) {
          log.warn({ repair: what }, 'the kernel had drifted and was mended');
          options.onRepaired('nftables', what);
        }
      },
      ...(settings.minSyncPeriodMs === undefined ? {} : { minSyncPeriodMs: settings.minSyncPeriodMs }),
      setDesired: state => {
        this.#desired = state;
        this.#reconciler.setDesired('proxy', state);
      },
      settled: () => this.#settled(),
      onSynced: result => {
        this.#afterSync();
        options.onSynced(result);
      },
      onSyncFailed: options.onSyncFailed,
      onHealthChecks: checks => this.#serviceHealth.sync(checks),
      onProblems: options.onProblems,
      log,
    });
  }

  /** What the rules are to be; undefined before the first sync. */
  get desired(): KernelState | undefined {
    return this.#desired;
  }

  get reconciler(): KernelReconciler {
    return this.#reconciler;
  }

  get mode(): string {
    return this.#options.settings.mode;
  }

  async start(): Promise<void> {
    await this.#reconciler.start();
  }

  async stop(): Promise<void> {
    this.proxy.stop();
    this.#serviceHealth.close();
    await this.#localhost?.stop();
    await this.#reconciler.stop();
  }

  /** The first time, ready means: compared with the kernel, not only sent. */
  async #settled(): Promise<void> {
    await this.#reconciler.settled();
    if (this.#verified) return;
    await this.#reconciler.verify();
    this.#verified = true;
  }

  #afterSync(): void {
    // The userspace mode sees to the flows of its own listeners.
    if (this.mode !== 'userspace') this.#cleanFlows();
    this.#localhost?.sync(this.proxy.ports());
    if (this.#othersRemoved) return;
    this.#othersRemoved = true;
    const { log, settings, onCleanupFailed } = this.#options;
    cleanupRules({ keep: settings.mode, relayDirectory: defaultHostDirectory(), log }).then(
      problems => problems.forEach(onCleanupFailed),
      error => {
        onCleanupFailed();
        log.warn(`remove rules of other modes: ${errorMessage(error)}`);
      },
    );
  }

  #cleanFlows(): void {
    try {
      const cleaned = this.#cleaner.sync(this.proxy.ports(), {
        networks: this.#options.settings.serviceCidrs,
        forgotten: this.proxy.takeForgotten(),
      });
      if (cleaned) this.#options.onFlowsCleaned(cleaned.deleted, cleaned.durationMs);
    } catch (error) {
      this.#options.log.error(`remove stale UDP flows: ${errorMessage(error)}`);
    }
  }
}
