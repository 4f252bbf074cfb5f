// What a controller has asked for and not yet seen in its informer. Until it has, the copy is behind the controller's
// own deeds, and acting on it would make or delete too many. Source: pkg/controller ControllerExpectations.
import type { Clock } from '../lib/clock.ts';

interface Expected {
  creations: number;
  /** uids */
  deletions: Set<string>;
  sinceMs: number;
}

/** An expectation this old was lost (the write never happened): go by the copy again. */
const TTL_MS = 5 * 60_000;

export class Expectations {
  readonly #byKey = new Map<string, Expected>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** True when the copy shows all that was done for `key`. */
  met(key: string): boolean {
    const expected = this.#byKey.get(key);
    if (!expected) return true;
    if (expected.creations <= 0 && expected.deletions.size === 0) return true;
    return this.#clock.now() - expected.sinceMs > TTL_MS;
  }

  expect(key: string, creations: number, deletions: Iterable<string>): void {
    this.#byKey.set(key, { creations, deletions: new Set(deletions), sinceMs: this.#clock.now() });
  }

  /** Seen, or given up. */
  created(key: string, count = 1): void {
    const expected = this.#byKey.get(key);
    if (expected) expected.creations -= count;
  }

  deleted(key: string, uid: string): void {
    this.#byKey.get(key)?.deletions.delete(uid);
  }

  forget(key: string): void {
    this.#byKey.delete(key);
  }
}
