// The scheduler's metrics, under kube-scheduler's names.
import { Counter, Histogram, LATENCY_BUCKETS, type Registry } from '../observe/metrics.ts';

export class SchedulerMetrics {
  readonly #attempts: Counter<'result'>;
  readonly #algorithm: Histogram;
  readonly #podSeconds: Histogram<'attempts'>;

  constructor(registry: Registry) {
    const registers = [registry];
    this.#attempts = new Counter({
      name: 'scheduler_schedule_attempts_total',
      help: 'Attempts to schedule pods, by the result.',
      labelNames: ['result'],
      registers,
    });
    this.#algorithm = new Histogram({
      name: 'scheduler_scheduling_algorithm_duration_seconds',
      help: 'Time to choose a node.',
      buckets: LATENCY_BUCKETS,
      registers,
    });
    this.#podSeconds = new Histogram({
      name: 'scheduler_pod_scheduling_sli_duration_seconds',
      help: 'From the first sight of a pod to its binding, by the number of attempts.',
      labelNames: ['attempts'],
      buckets: LATENCY_BUCKETS,
      registers,
    });
  }

  attempt(result: 'scheduled' | 'unschedulable', seconds: number): void {
    this.#attempts.inc({ result });
    this.#algorithm.observe(seconds);
  }

  bound(seconds: number, attempts: number): void {
    this.#podSeconds.observe({ attempts: attempts > 15 ? '15+' : String(attempts) }, seconds);
  }
}
