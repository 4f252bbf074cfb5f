// One of several processes leads, the others wait: a Lease that the leader renews. Times are judged by the local clock
// from the moment a change of the Lease was seen, so clocks of machines need not agree.
// Source: client-go tools/leaderelection (leaseDuration 15 s, renewDeadline 10 s, retryPeriod 2 s).
import type { Lease, Stored } from '../api/types.ts';
import { type Clock, formatMicroTime, sleep, systemClock } from '../lib/clock.ts';
import { errorMessage } from '../lib/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { KubeClient } from './client.ts';
import { RESOURCE } from './resources.ts';
import { isNotFound } from './status.ts';

export interface LeaderElectionOptions {
  client: KubeClient;
  /** Name of the Lease, `kube-scheduler`. */
  name: string;
  namespace?: string;
  /** Who we are: unique among the candidates. */
  identity: string;
  leaseDurationMs?: number;
  renewDeadlineMs?: number;
  retryPeriodMs?: number;
  log?: Logger;
  clock?: Clock;
}

export class LeaderElection {
  readonly #options: Required<Omit<LeaderElectionOptions, 'log'>> & { log?: Logger };
  /** The Lease as last seen, and when (local clock) its holder or renewal last changed. */
  #seen: { lease: Stored<Lease>; changedAtMs: number } | undefined;

  constructor(options: LeaderElectionOptions) {
    this.#options = {
      namespace: 'kube-system',
      leaseDurationMs: 15_000,
      renewDeadlineMs: 10_000,
      retryPeriodMs: 2_000,
      clock: systemClock,
      ...options,
    };
  }

  /**
   * Waits for the lead, calls `lead` once with a signal that aborts when the lead is lost, and returns after it ended.
   * A caller whose lead was lost exits or calls run again. On abort of `signal` the Lease is given up at once.
   */
  async run(lead: (signal: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<void> {
    const { clock, retryPeriodMs, name, identity, log } = this.#options;
    while (!(await this.#tryHold())) {
      await sleep(retryPeriodMs * (1 + Math.random() * 0.2), signal, clock);
      if (signal.aborted) return;
    }
    log?.info({ lease: name, identity }, 'became leader');
    const lost = new AbortController();
    const leading = lead(AbortSignal.any([signal, lost.signal])).finally(() => lost.abort());
    try {
      await this.#renew(AbortSignal.any([signal, lost.signal]));
    } finally {
      lost.abort();
      await leading;
      await this.#release();
    }
  }

  /** Renews until the signal aborts or the deadline passes without success. */
  async #renew(signal: AbortSignal): Promise<void> {
    const { clock, retryPeriodMs, renewDeadlineMs, name, log } = this.#options;
    let renewedAtMs = clock.now();
    while (!signal.aborted) {
      await sleep(retryPeriodMs, signal, clock);
      if (signal.aborted) return;
      if (await this.#tryHold()) {
        renewedAtMs = clock.now();
      } else if (clock.now() - renewedAtMs > renewDeadlineMs || this.#holder() !== this.#options.identity) {
        log?.error({ lease: name, holder: this.#holder() }, 'lost the lead');
        return;
      }
    }
  }

  #holder(): string | undefined {
    return this.#seen?.lease.spec?.holderIdentity;
  }

  /** Takes or renews the Lease; false when somebody else holds it or the server is away. */
  async #tryHold(): Promise<boolean> {
    const { client, name, namespace, identity, leaseDurationMs, clock, log } = this.#options;
    const now = formatMicroTime(clock.now());
    const mine = {
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(leaseDurationMs / 1000),
      renewTime: now,
    };
    try {
      const current = await client.get(RESOURCE.leases, name, namespace, { retries: 0 }).catch(error => {
        if (isNotFound(error)) return undefined;
        throw error;
      });
      if (!current) {
        const lease: Lease = {
          metadata: { name, namespace },
          spec: { ...mine, acquireTime: now, leaseTransitions: 0 },
        };
        this.#observe(await client.create(RESOURCE.leases, lease, namespace, { retries: 0 }));
        return true;
      }
      this.#observe(current);
      const spec = current.spec ?? {};
      const held = spec.holderIdentity === identity;
      if (spec.holderIdentity && !held && !this.#expired(spec.leaseDurationSeconds)) return false;
      const next: Lease = {
        ...current,
        spec: {
          ...mine,
          acquireTime: held ? spec.acquireTime : now,
          leaseTransitions: (spec.leaseTransitions ?? 0) + (held ? 0 : 1),
        },
      };
      this.#observe(await client.update(RESOURCE.leases, next, { retries: 0 }));
      return true;
    } catch (error) {
      log?.debug({ lease: name, error: errorMessage(error) }, 'lease not held');
      return false;
    }
  }

  #observe(lease: Stored<Lease>): void {
    const before = this.#seen?.lease.spec;
    const { holderIdentity, renewTime } = lease.spec ?? {};
    const changed = !before || before.holderIdentity !== holderIdentity || before.renewTime !== renewTime;
    this.#seen = {
      lease,
      changedAtMs: changed ? this.#options.clock.now() : (this.#seen?.changedAtMs ?? 0),
    };
  }

  #expired(durationSeconds: number | undefined): boolean {
    const durationMs = (durationSeconds ?? 0) * 1000 || this.#options.leaseDurationMs;
    return this.#options.clock.now() - (this.#seen?.changedAtMs ?? 0) > durationMs;
  }

  /** Lets the next candidate in without waiting for the Lease to run out. */
  async #release(): Promise<void> {
    const { client, identity, log } = this.#options;
    const lease = this.#seen?.lease;
    if (!lease || lease.spec?.holderIdentity !== identity) return;
    try {
      const spec = { ...lease.spec, holderIdentity: '', leaseDurationSeconds: 1 };
      await client.update(RESOURCE.leases, { ...lease, spec }, { retries: 0 });
    } catch (error) {
      log?.debug({ error: errorMessage(error) }, 'lease not released');
    }
  }
}
