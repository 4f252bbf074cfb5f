// Exponential back-off with jitter. Pure apart from the random source, which may be passed in.

export interface BackoffOptions {
  baseMs: number;
  maxMs: number;
  /** Growth per step, default 2. */
  factor?: number;
  /** Share of the delay that is random, 0..1, default 0.5: the delay lies in [d·(1-jitter), d]. */
  jitter?: number;
  random?: () => number;
}

/** Counts failures and says how long to wait before the next try. */
export class Backoff {
  readonly #options: BackoffOptions;
  #failures = 0;

  constructor(options: BackoffOptions) {
    this.#options = options;
  }

  get failures(): number {
    return this.#failures;
  }

  /** One more failure: the delay before the next try. */
  nextMs(): number {
    return backoffMs(this.#options, this.#failures++);
  }

  reset(): void {
    this.#failures = 0;
  }
}

/** The delay after `failures` earlier failures. */
export function backoffMs(options: BackoffOptions, failures: number): number {
  const { baseMs, maxMs, factor = 2, jitter = 0.5, random = Math.random } = options;
  const full = Math.min(maxMs, baseMs * factor ** Math.min(failures, 64));
  return full * (1 - jitter * random());
}
