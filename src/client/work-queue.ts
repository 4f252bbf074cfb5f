// The queue between informers and reconcilers: keys, each at most once waiting and at most once in work; a key added
// while in work comes again afterwards. Failures come back later and later. Source: client-go util/workqueue.
import { backoffMs } from '../lib/backoff.ts';
import { type Clock, systemClock } from '../lib/clock.ts';
import { ApiError, errorMessage } from '../lib/errors.ts';
import type { Logger } from '../observe/log.ts';

export interface WorkQueueOptions {
  name?: string;
  /** Of the per-key back-off; default 5 ms to 1000 s, as in Kubernetes. */
  baseDelayMs?: number;
  maxDelayMs?: number;
  /** Of all failures together: so many at once, then so many a second; default 100 and 10. */
  burst?: number;
  perSecond?: number;
  clock?: Clock;
  log?: Logger;
}

/** Brings one key in order. May answer when to look at the key again; throwing means later, with back-off. */
export type Reconcile = (
  key: string,
  signal: AbortSignal,
) => Promise<{ requeueAfterMs: number } | undefined> | Promise<void>;

export class WorkQueue {
  readonly name: string;
  readonly #options: Required<Omit<WorkQueueOptions, 'log'>> & { log?: Logger };
  /** Insertion order is the order of service. */
  readonly #waiting = new Set<string>();
  readonly #working = new Set<string>();
  readonly #again = new Set<string>();
  readonly #delayed = new Map<string, { dueMs: number; cancel: () => void }>();
  readonly #failures = new Map<string, number>();
  readonly #idleWorkers: (() => void)[] = [];
  #tokens: number;
  #tokensAtMs: number;
  #closed = false;

  constructor(options: WorkQueueOptions = {}) {
    this.#options = {
      name: 'queue',
      baseDelayMs: 5,
      maxDelayMs: 1_000_000,
      burst: 100,
      perSecond: 10,
      clock: systemClock,
      ...options,
    };
    this.name = this.#options.name;
    this.#tokens = this.#options.burst;
    this.#tokensAtMs = this.#options.clock.now();
  }

  /** Keys that wait, without those whose time has not come. */
  get length(): number {
    return this.#waiting.size;
  }

  add(key: string): void {
    if (this.#closed) return;
    if (this.#working.has(key)) {
      this.#again.add(key);
      return;
    }
    this.#waiting.add(key);
    this.#idleWorkers.pop()?.();
  }

  /** Adds after `ms`; of two delays of one key the shorter wins. */
  addAfter(key: string, ms: number): void {
    if (this.#closed) return;
    if (ms <= 0) {
      this.add(key);
      return;
    }
    const dueMs = this.#options.clock.now() + ms;
    const present = this.#delayed.get(key);
    if (present && present.dueMs <= dueMs) return;
    present?.cancel();
    const cancel = this.#options.clock.after(ms, () => {
      this.#delayed.delete(key);
      this.add(key);
    });
    this.#delayed.set(key, { dueMs, cancel });
  }

  /** Adds after the back-off of the key's failures so far, not before the bucket has a token. */
  addRateLimited(key: string): void {
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    const { baseDelayMs: baseMs, maxDelayMs: maxMs } = this.#options;
    this.addAfter(key, Math.max(backoffMs({ baseMs, maxMs, jitter: 0 }, failures), this.#bucketWaitMs()));
  }

  /** The key is in order: its next failure starts from the shortest delay. */
  forget(key: string): void {
    this.#failures.delete(key);
  }

  failuresOf(key: string): number {
    return this.#failures.get(key) ?? 0;
  }

  /** Works until `signal` aborts, then resolves when the last worker is done. */
  async run(workers: number, reconcile: Reconcile, signal: AbortSignal): Promise<void> {
    const close = (): void => this.#close();
    if (signal.aborted) close();
    else signal.addEventListener('abort', close, { once: true });
    await Promise.all(Array.from({ length: workers }, () => this.#work(reconcile, signal)));
  }

  async #work(reconcile: Reconcile, signal: AbortSignal): Promise<void> {
    while (!this.#closed) {
      const key = this.#take();
      if (key === undefined) {
        await new Promise<void>(resolve => this.#idleWorkers.push(resolve));
        continue;
      }
      try {
        const result = await reconcile(key, signal);
        this.forget(key);
        if (result) this.addAfter(key, result.requeueAfterMs);
      } catch (error) {
        if (!signal.aborted) this.#failed(key, error);
      } finally {
        this.#working.delete(key);
        if (this.#again.delete(key)) this.add(key);
      }
    }
  }

  #failed(key: string, error: unknown): void {
    // A conflict is the optimistic lock at work, not news.
    const level = error instanceof ApiError && error.status === 409 ? 'debug' : 'warn';
    const details = { queue: this.name, key, failures: this.failuresOf(key) + 1 };
    this.#options.log?.[level](
      { ...details, error: error instanceof ApiError ? errorMessage(error) : error },
      'reconcile failed, will be tried again',
    );
    this.addRateLimited(key);
  }

  #take(): string | undefined {
    const { value, done } = this.#waiting.values().next();
    if (done) return undefined;
    this.#waiting.delete(value);
    this.#working.add(value);
    return value;
  }

  #bucketWaitMs(): number {
    const { burst, perSecond, clock } = this.#options;
    const now = clock.now();
    this.#tokens = Math.min(burst, this.#tokens + ((now - this.#tokensAtMs) / 1000) * perSecond);
    this.#tokensAtMs = now;
    this.#tokens -= 1;
    return this.#tokens >= 0 ? 0 : (-this.#tokens / perSecond) * 1000;
  }

  #close(): void {
    this.#closed = true;
    for (const { cancel } of this.#delayed.values()) cancel();
    this.#delayed.clear();
    this.#waiting.clear();
    for (const wake of this.#idleWorkers.splice(0)) wake();
  }
}
