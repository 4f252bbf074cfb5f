// What the overlay tells Prometheus. Gauges are read when they are asked for.
import type { OverlayStatus } from '../../routing/overlay.ts';
import type { Repair } from '../kernel/reconciler.ts';
import type { Problem } from '../lib/problem.ts';
import { Counter, Gauge, type Registry } from '../observe/metrics.ts';

export class OverlayMetrics {
  readonly #repairs: Counter<'action' | 'kind'>;
  readonly #problems: Counter<'reason'>;

  constructor(registry: Registry, status: () => OverlayStatus) {
    const registers = [registry];
    new Gauge({
      name: 'podwire_overlay_ready',
      help: 'Whether this node has a subnet and takes part in the overlay',
      registers,
      collect() {
        this.set(status().ready ? 1 : 0);
      },
    });
    new Gauge({
      name: 'podwire_overlay_peers',
      help: 'Subnets of other nodes that are programmed here',
      labelNames: ['family'],
      registers,
      collect() {
        this.reset();
        for (const family of [4, 6] as const)
          this.set({ family: `ipv${family}` }, status().peers.filter(peer => peer.family === family).length);
      },
    });
    new Gauge({
      name: 'podwire_overlay_refused_peers',
      help: 'Nodes that are left out now, by reason',
      labelNames: ['reason'],
      registers,
      collect() {
        this.reset();
        for (const problem of status().problems) this.inc({ reason: problem.reason });
      },
    });
    this.#problems = new Counter({
      name: 'podwire_overlay_refusals_total',
      help: 'Times that a node was found to be refused, by reason',
      labelNames: ['reason'],
      registers,
    });
    this.#repairs = new Counter({
      name: 'podwire_kernel_repairs_total',
      help: 'Kernel objects that somebody else had changed and that were mended',
      labelNames: ['action', 'kind'],
      registers,
    });
  }

  repaired({ action, kind }: { action: Repair['action']; kind: string }): void {
    this.#repairs.inc({ action, kind });
  }

  refused(problems: readonly Problem[]): void {
    for (const { reason } of problems) this.#problems.inc({ reason });
  }
}
