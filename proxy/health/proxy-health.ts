// Is the proxy doing its work? (Kubernetes pkg/proxy/healthcheck/proxy_health.go, KEP-3836.) /livez: syncs keep up with
// changes. /healthz: the same, and this node should get traffic at all. /readyz, which upstream lacks: true only after
// the first sync that reached the kernel. The clock is passed in. Pure.
import type { Node } from '../../src/api/types.ts';

/** The cluster autoscaler's mark on a node that it is about to delete. */
const TO_BE_DELETED_TAINT = 'ToBeDeletedByClusterAutoscaler';

export interface HealthAnswer {
  status: 200 | 503;
  body: { lastUpdated: string; currentTime: string; nodeEligible?: boolean };
}

export class ProxyHealth {
  readonly #timeoutMs: number;
  readonly #now: () => number;
  #updatedAt: number | undefined;
  /** When the oldest change not yet synced came in. */
  #queuedAt: number | undefined;
  #eligible = true;

  /** `syncPeriodMs`: a change may wait twice as long before we call it unhealthy. */
  constructor(syncPeriodMs: number, now: () => number = Date.now) {
    this.#timeoutMs = 2 * syncPeriodMs;
    this.#now = now;
  }

  queued(): void {
    this.#queuedAt ??= this.#now();
  }

  updated(): void {
    this.#updatedAt = this.#now();
    this.#queuedAt = undefined;
  }

  setNode(node: Node): void {
    this.#eligible =
      node.metadata?.deletionTimestamp === undefined &&
      !(node.spec?.taints ?? []).some(taint => taint.key === TO_BE_DELETED_TAINT);
  }

  get alive(): boolean {
    return this.#queuedAt === undefined || this.#now() - this.#queuedAt < this.#timeoutMs;
  }

  livez(): HealthAnswer {
    return this.#answer(this.alive);
  }

  healthz(): HealthAnswer {
    const answer = this.#answer(this.alive && this.#eligible);
    return { ...answer, body: { ...answer.body, nodeEligible: this.#eligible } };
  }

  readyz(): HealthAnswer {
    return this.#answer(this.#updatedAt !== undefined && this.alive);
  }

  #answer(ok: boolean): HealthAnswer {
    const time = (ms: number): string => new Date(ms).toISOString();
    const now = this.#now();
    return {
      status: ok ? 200 : 503,
      // Upstream reports "now" while healthy, so that a load balancer's log shows progress without changes.
      body: { lastUpdated: time(this.alive ? now : (this.#updatedAt ?? 0)), currentTime: time(now) },
    };
  }
}
