// Keeps one lease of etcd alive, well before its end and at a time of its own: a cluster that started at once must not
// renew at once.
import { Backoff } from '../lib/backoff.ts';
import { sleep } from '../lib/clock.ts';
import { errorMessage } from '../lib/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { EtcdClient } from './etcd-client.ts';

const RETRY = { baseMs: 200, maxMs: 10_000 };

export interface LeaseRenewalOptions {
  client: EtcdClient;
  leaseId: bigint;
  ttlSeconds: number;
  /** --subnet-lease-renew-margin */
  marginMinutes: number;
  /** The lease has ended, with the keys under it. */
  onLost: () => void;
  log: Logger;
}

/** Runs from its making until stop(). */
export class LeaseRenewal {
  readonly #options: LeaseRenewalOptions;
  readonly #stop = new AbortController();

  constructor(options: LeaseRenewalOptions) {
    this.#options = options;
    void this.#run();
  }

  stop(): void {
    this.#stop.abort();
  }

  async #run(): Promise<void> {
    const { marginMinutes, log, onLost } = this.#options;
    const { signal } = this.#stop;
    let { ttlSeconds } = this.#options;
    while (!signal.aborted) {
      await sleep(renewalDelayMs(ttlSeconds, marginMinutes, Math.random()), signal);
      ttlSeconds = await this.#renew();
      if (signal.aborted) return;
      if (ttlSeconds === 0) return onLost();
      log.debug({ ttlSeconds }, 'lease renewed');
    }
  }

  /** Tries until etcd answers: the seconds it lives from now on, 0 when it is gone. */
  async #renew(): Promise<number> {
    const { client, leaseId, log } = this.#options;
    const { signal } = this.#stop;
    const backoff = new Backoff(RETRY);
    while (!signal.aborted) {
      try {
        return await client.keepAlive(leaseId);
      } catch (thrown) {
        if (signal.aborted) break;
        log.warn({ error: errorMessage(thrown) }, 'the lease of our subnet cannot be renewed yet');
        await sleep(backoff.nextMs(), signal);
      }
    }
    return 0;
  }
}

/**
 * Between a third and a half of a lease's life, and never later than `marginMinutes` before its end: a daemon that is
 * killed just before a renewal still leaves half a life for its return. `random` is in [0, 1).
 */
export function renewalDelayMs(ttlSeconds: number, marginMinutes: number, random: number): number {
  const margin = marginMinutes * 60;
  const latest = ttlSeconds > margin ? ttlSeconds - margin : ttlSeconds / 10;
  return Math.min(latest, ttlSeconds * (1 / 3 + random / 6)) * 1000;
}
