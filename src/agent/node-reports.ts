// What a node tells people: Events about objects it had to refuse, one Event on its own Node for a burst of repairs, and
// the counters behind /metrics.
import type { NftRepair } from '../../proxy/backend/nftables/apply/keeper.ts';
import type { OverlayStatus } from '../../routing/overlay.ts';
import type { KubeObject } from '../api/types.ts';
import type { EventRecorder } from '../client/event-recorder.ts';
import type { Repair } from '../kernel/reconciler.ts';
import type { Problem } from '../lib/problem.ts';
import { Counter, createRegistry, type Registry } from '../observe/metrics.ts';
import { OverlayMetrics } from './overlay-metrics.ts';

/** Repairs of one cause come in a burst; together they are one Event. */
const REPAIR_BURST_MS = 1000;
const NAMED_REPAIRS = 3;

export interface NodeReportsOptions {
  events: EventRecorder;
  /** The own Node; undefined before it is known. */
  node: () => KubeObject | undefined;
  overlay: () => OverlayStatus;
}

export class NodeReports {
  readonly #options: NodeReportsOptions;
  readonly #registry: Registry = createRegistry({ process: true });
  readonly #overlay: OverlayMetrics;
  readonly #serviceProblems: Counter<'reason'>;
  /** In words, until they become one Event. */
  #repairs: string[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(options: NodeReportsOptions) {
    this.#options = options;
    this.#overlay = new OverlayMetrics(this.#registry, options.overlay);
    this.#serviceProblems = new Counter({
      name: 'podwire_proxy_problems_total',
      help: 'Times that a Service or EndpointSlice was found to be wrong, by reason',
      labelNames: ['reason'],
      registers: [this.#registry],
    });
  }

  metrics(): Promise<string> {
    return this.#registry.metrics();
  }

  overlayProblems(problems: readonly Problem[]): void {
    this.#overlay.refused(problems);
    this.#event(problems);
  }

  serviceProblems(problems: readonly Problem[]): void {
    for (const { reason } of problems) this.#serviceProblems.inc({ reason });
    this.#event(problems);
  }

  repaired(repair: Repair): void {
    this.#overlay.repaired(repair);
    this.#tellRepair(repair.text);
  }

  /** What the nftables mode mended in its own table. */
  rulesRepaired(repairs: readonly NftRepair[]): void {
    for (const { what } of repairs) {
      this.#overlay.repaired({ action: 'change', kind: 'nftables' });
      this.#tellRepair(what);
    }
  }

  #tellRepair(text: string): void {
    this.#repairs.push(text);
    this.#timer ??= setTimeout(() => this.#flushRepairs(), REPAIR_BURST_MS).unref();
  }

  #flushRepairs(): void {
    this.#timer = undefined;
    const repairs = this.#repairs.splice(0);
    const node = this.#options.node();
    if (!node || repairs.length === 0) return;
    const named = repairs.slice(0, NAMED_REPAIRS);
    const rest = repairs.length - named.length;
    const message = `somebody changed the network of this node; mended: ${named.join('; ')}${rest > 0 ? ` and ${rest} more` : ''}`;
    this.#options.events.event(node, 'Warning', 'NetworkRepaired', message);
  }

  #event(problems: readonly Problem[]): void {
    for (const { kind, namespace, name, reason, message } of problems) {
      const apiVersion = kind === 'EndpointSlice' ? 'discovery.k8s.io/v1' : 'v1';
      this.#options.events.event(
        { apiVersion, kind, metadata: { namespace, name } },
        'Warning',
        reason,
        message,
      );
    }
  }
}
