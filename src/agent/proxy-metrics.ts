// kube-proxy's metrics under upstream's names (Kubernetes pkg/proxy/metrics), so that dashboards and alerts go on
// working, and two of our own: what was mended, and objects that are wrong. What can be counted from the present state
// is counted when somebody asks.

import type { ResolvedPort } from '../../proxy/model/types.ts';
import type { SyncResult } from '../../proxy/proxy.ts';
import type { KernelState } from '../kernel/state.ts';
import { Counter, createRegistry, Gauge, Histogram, type Registry } from '../observe/metrics.ts';

/** Powers of two from a millisecond to 16 s. */
const SYNC_BUCKETS = Array.from({ length: 15 }, (_, index) => 0.001 * 2 ** index);
/** Upstream's: 0.25 and 0.5 s, each second to a minute, each 5 s to two minutes, each 30 s to five. */
const PROGRAMMING_BUCKETS = [
  0.25,
  0.5,
  ...Array.from({ length: 59 }, (_, index) => 1 + index),
  ...Array.from({ length: 12 }, (_, index) => 60 + 5 * index),
  ...Array.from({ length: 7 }, (_, index) => 120 + 30 * index),
];

export type ChangeKind = 'service' | 'endpoint';

export interface MetricsSource {
  ports(): Iterable<ResolvedPort>;
  problems(): readonly { reason: string }[];
  /** What the rules of iptables mode are; undefined in other modes. */
  desired(): KernelState | undefined;
}

export class ProxyMetrics {
  readonly registry: Registry = createRegistry({ process: true });
  readonly #duration: { all: Histogram; full: Histogram; partial: Histogram };
  readonly #programming: Histogram;
  readonly #lastSync: Gauge;
  readonly #lastQueued: Gauge;
  readonly #changes: Record<ChangeKind, { pending: Gauge; total: Counter }>;
  readonly #failures: Record<'iptables' | 'partial' | 'nftables' | 'cleanup', Counter>;
  readonly #iptablesLast: Gauge;
  readonly #health: Record<'healthz' | 'livez', Counter>;
  readonly #flowSync: Histogram;
  readonly #flowsDeleted: Counter;
  readonly #repairs: Counter;
  readonly #fallbacks: Counter;

  constructor(source: MetricsSource) {
    const registers = [this.registry];
    const counter = (name: string, help: string, labelNames: string[] = []): Counter =>
      new Counter({ name: `kubeproxy_${name}`, help, labelNames, registers });
    const gauge = (name: string, help: string, labelNames: string[] = []): Gauge =>
      new Gauge({ name: `kubeproxy_${name}`, help, labelNames, registers });
    const histogram = (name: string, help: string, buckets = SYNC_BUCKETS): Histogram =>
      new Histogram({ name: `kubeproxy_${name}`, help, buckets, registers });
    this.#duration = {
      all: histogram('sync_proxy_rules_duration_seconds', 'Time of a sync of the rules'),
      full: histogram('sync_full_proxy_rules_duration_seconds', 'Time of a sync of all rules'),
      partial: histogram('sync_partial_proxy_rules_duration_seconds', 'Time of a sync of changed rules'),
    };
    this.#programming = histogram(
      'network_programming_duration_seconds',
      'From the change of a pod or Service until the rules say so',
      PROGRAMMING_BUCKETS,
    );
    this.#lastSync = gauge('sync_proxy_rules_last_timestamp_seconds', 'When rules were last synced');
    this.#lastQueued = gauge(
      'sync_proxy_rules_last_queued_timestamp_seconds',
      'When a sync was last asked for',
    );
    const changes = (kind: ChangeKind): { pending: Gauge; total: Counter } => ({
      pending: gauge(`sync_proxy_rules_${kind}_changes_pending`, `${kind} changes not yet in the rules`),
      total: counter(`sync_proxy_rules_${kind}_changes_total`, `${kind} changes`),
    });
    this.#changes = { service: changes('service'), endpoint: changes('endpoint') };
    this.#failures = {
      iptables: counter('sync_proxy_rules_iptables_restore_failures_total', 'Failed syncs, iptables'),
      partial: counter(
        'sync_proxy_rules_iptables_partial_restore_failures_total',
        'Failed syncs of changed rules, iptables',
      ),
      nftables: counter('sync_proxy_rules_nftables_sync_failures_total', 'Failed syncs, nftables'),
      cleanup: counter('sync_proxy_rules_nftables_cleanup_failures_total', 'Failed removals of old rules'),
    };
    new Gauge({
      name: 'kubeproxy_sync_proxy_rules_iptables_total',
      help: 'Rules of ours in each table',
      labelNames: ['table'],
      registers,
      collect() {
        this.reset();
        for (const [table, rules] of rulesByTable(source.desired())) this.set({ table }, rules);
      },
    });
    this.#iptablesLast = gauge('sync_proxy_rules_iptables_last', 'Rules written by the last sync', ['table']);
    new Gauge({
      name: 'kubeproxy_sync_proxy_rules_no_local_endpoints_total',
      help: 'Service ports with traffic policy Local and no endpoint on this node',
      labelNames: ['traffic_policy'],
      registers,
      collect() {
        let [internal, external] = [0, 0];
        for (const { port, local } of source.ports()) {
          if (port.internalPolicyLocal && local.length === 0) internal++;
          if (port.externalPolicyLocal && local.length === 0) external++;
        }
        this.set({ traffic_policy: 'internal' }, internal);
        this.set({ traffic_policy: 'external' }, external);
      },
    });
    new Gauge({
      name: 'podwire_proxy_problems',
      help: 'Services and EndpointSlices of which something is wrong and left out',
      labelNames: ['reason'],
      registers,
      collect() {
        this.reset();
        for (const { reason } of source.problems()) this.inc({ reason });
      },
    });
    this.#health = {
      healthz: counter('proxy_healthz_total', 'Answers of /healthz', ['code']),
      livez: counter('proxy_livez_total', 'Answers of /livez', ['code']),
    };
    this.#flowSync = histogram('conntrack_reconciler_sync_duration_seconds', 'Time to find stale UDP flows');
    this.#flowsDeleted = counter('conntrack_reconciler_deleted_entries_total', 'Stale UDP flows removed');
    this.#repairs = new Counter({
      name: 'podwire_kernel_repairs_total',
      help: 'Kernel state that somebody else had changed and that was put back',
      labelNames: ['kind'],
      registers,
    });
    this.#fallbacks = new Counter({
      name: 'podwire_iptables_fallbacks_total',
      help: 'Changes of a legacy table that needed the iptables-restore program; the log says why',
      registers,
    });
  }

  changed(kind: ChangeKind): void {
    this.#changes[kind].total.inc();
    this.#changes[kind].pending.inc();
    this.#lastQueued.setToCurrentTime();
  }

  /** `triggers`: when the changes that this sync brought into the kernel were made, epoch milliseconds. */
  synced(result: SyncResult, desired: KernelState | undefined, triggers: readonly number[]): void {
    const seconds = result.durationMs / 1000;
    this.#duration.all.observe(seconds);
    (result.full ? this.#duration.full : this.#duration.partial).observe(seconds);
    this.#lastSync.setToCurrentTime();
    for (const { pending } of Object.values(this.#changes)) pending.set(0);
    for (const [table, rules] of rulesByTable(desired)) this.#iptablesLast.set({ table }, rules);
    const now = Date.now();
    for (const at of triggers) this.#programming.observe(Math.max(0, now - at) / 1000);
  }

  syncFailed(mode: string, full: boolean): void {
    if (mode === 'nftables') this.#failures.nftables.inc();
    else (full ? this.#failures.iptables : this.#failures.partial).inc();
  }

  cleanupFailed(): void {
    this.#failures.cleanup.inc();
  }

  answered(endpoint: 'healthz' | 'livez', code: number): void {
    this.#health[endpoint].inc({ code: String(code) });
  }

  flowsCleaned(deleted: number, durationMs: number): void {
    this.#flowSync.observe(durationMs / 1000);
    this.#flowsDeleted.inc(deleted);
  }

  fellBack(): void {
    this.#fallbacks.inc();
  }

  repaired(kind: string): void {
    this.#repairs.inc({ kind });
  }
}

function rulesByTable(state: KernelState | undefined): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { table, chains, jumps } of state?.xtables ?? []) {
    const rules = chains.reduce((sum, chain) => sum + chain.rules.length, jumps.length);
    counts.set(table, (counts.get(table) ?? 0) + rules);
  }
  return counts;
}
