// A clock whose hands the test moves.
import type { Clock } from '../../src/lib/clock.ts';

export class FakeClock implements Clock {
  #now: number;
  readonly #timers = new Set<{ dueMs: number; fn: () => void }>();

  constructor(startMs = Date.UTC(2026, 0, 1)) {
    this.#now = startMs;
  }

  now(): number {
    return this.#now;
  }

  after(ms: number, fn: () => void): () => void {
    const timer = { dueMs: this.#now + ms, fn };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Milliseconds until each pending timer, ascending. */
  pending(): number[] {
    return [...this.#timers].map(timer => timer.dueMs - this.#now).sort((a, b) => a - b);
  }

  /** Moves on, fires what is due in order, and lets promises settle. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      await settle();
      const due = [...this.#timers].filter(timer => timer.dueMs <= end).sort((a, b) => a.dueMs - b.dueMs)[0];
      if (!due) break;
      this.#timers.delete(due);
      this.#now = Math.max(this.#now, due.dueMs);
      due.fn();
    }
    this.#now = end;
    await settle();
  }
}

function settle(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve));
}
