// Back-off by key with the kubelet's rule (client-go flowcontrol): the first failure may be retried at once, then 10 s,
// doubling to 5 minutes, counted from the failure itself; forgotten after twice the maximum without one.

export class KeyedBackOff {
  readonly #initialMs: number;
  readonly #maxMs: number;
  readonly #entries = new Map<string, { delayMs: number; lastUpdateMs: number }>();

  constructor(initialMs = 10_000, maxMs = 300_000) {
    this.#initialMs = initialMs;
    this.#maxMs = maxMs;
  }

  /** Milliseconds still to wait when the last failure was at `eventMs`; 0: go on. */
  remainingMs(key: string, eventMs: number, nowMs: number): number {
    const entry = this.#entries.get(key);
    if (!entry || eventMs - entry.lastUpdateMs > 2 * this.#maxMs) return 0;
    return Math.max(0, eventMs + entry.delayMs - nowMs);
  }

  /** The present delay of a key, for messages. */
  delayMs(key: string): number {
    return this.#entries.get(key)?.delayMs ?? 0;
  }

  /** Notes a retry of the failure at `eventMs`: the next one waits longer. */
  next(key: string, eventMs: number, nowMs: number): void {
    const entry = this.#entries.get(key);
    if (!entry || eventMs - entry.lastUpdateMs > 2 * this.#maxMs)
      this.#entries.set(key, { delayMs: this.#initialMs, lastUpdateMs: nowMs });
    else this.#entries.set(key, { delayMs: Math.min(entry.delayMs * 2, this.#maxMs), lastUpdateMs: nowMs });
  }

  /** Forgets all keys that begin with `prefix` (a pod that is gone). */
  forget(prefix: string): void {
    for (const key of this.#entries.keys()) if (key.startsWith(prefix)) this.#entries.delete(key);
  }
}
