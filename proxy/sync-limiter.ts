// When to sync: the first change at once, later ones not closer together than the minimum interval, with a burst of two
// (Kubernetes pkg/util/async BoundedFrequencyRunner). Where no interval is asked for, it adapts: a sync that took long is
// followed by a pause as long, so that a storm of changes never takes more than half of the time.

const BURST = 2;
/** No adaptive pause is longer: upstream's default minSyncPeriod. */
const MAX_ADAPTIVE_MS = 1000;

export interface LimiterClock {
  now(): number;
  setTimer(fn: () => void, ms: number): { cancel(): void };
}

export const SYSTEM_CLOCK: LimiterClock = {
  now: () => performance.now(),
  setTimer: (fn, ms) => {
    const timer = setTimeout(fn, ms);
    return { cancel: () => clearTimeout(timer) };
  },
};

export class SyncLimiter {
  readonly #run: () => Promise<void>;
  readonly #minIntervalMs: number | undefined;
  readonly #clock: LimiterClock;
  #tokens = BURST;
  #refilledAt: number;
  #notBefore = 0;
  #timer: { cancel(): void } | undefined;
  #running = false;
  #again = false;
  #stopped = false;

  /** `run` must not reject. */
  constructor(run: () => Promise<void>, minIntervalMs?: number, clock: LimiterClock = SYSTEM_CLOCK) {
    this.#run = run;
    this.#minIntervalMs = minIntervalMs;
    this.#clock = clock;
    this.#refilledAt = clock.now();
  }

  /** Something changed: sync as soon as allowed. */
  request(): void {
    if (this.#stopped) return;
    if (this.#running) {
      this.#again = true;
      return;
    }
    this.#timer ??= this.#clock.setTimer(() => {
      this.#timer = undefined;
      void this.#start();
    }, this.#wait());
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #wait(): number {
    const now = this.#clock.now();
    if (this.#minIntervalMs === undefined) return Math.max(0, this.#notBefore - now);
    const gained = this.#minIntervalMs > 0 ? (now - this.#refilledAt) / this.#minIntervalMs : BURST;
    this.#tokens = Math.min(BURST, this.#tokens + gained);
    this.#refilledAt = now;
    return this.#tokens >= 1 ? 0 : (1 - this.#tokens) * this.#minIntervalMs;
  }

  async #start(): Promise<void> {
    this.#running = true;
    this.#tokens -= 1;
    const from = this.#clock.now();
    await this.#run();
    const now = this.#clock.now();
    this.#notBefore = now + Math.min(MAX_ADAPTIVE_MS, now - from);
    this.#running = false;
    if (this.#again) {
      this.#again = false;
      this.request();
    }
  }
}
