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
import { RepairEvents } from './repair-events.ts';

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
  readonly #repairs: RepairEvents;

  constructor(options: NodeReportsOptions) {
    this.#options = options;
    this.#repairs = new RepairEvents(options.events, options.node);
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
    this.#repairs.tell(repair.text);
  }

  /** What the nftables mode mended in its own table. */
  rulesRepaired(repairs: readonly NftRepair[]): void {
    for (const { what } of repairs) {
      this.#overlay.repaired({ action: 'change', kind: 'nftables' });
      this.#repairs.tell(what);
    }
  }

  #event(problems: readonly Problem[]): void {
    for (const { kind, namespace, name, reason, message } of problems) {
      const apiVersion = kind === 'EndpointSlice' ? 'discovery.k8s.io/v1' : 'v1';
      this.#options.events.event(
        { apiVersion, kind, metadata: { namespace, name } },
        'Warning',
        reason,
        message,
        { shared: true },
      );
    }
  }
}
