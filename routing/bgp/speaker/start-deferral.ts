// When a speaker that restarted has heard enough to say "that is all" (RFC 4724 section 4.1), without the trap that
// holds BIRD back for minutes: only peers that are up are waited for, and only for seconds.
import type { Neighbour } from './neighbour.ts';

const DEFAULT_DEFERRAL_MS = 3000;

export class StartDeferral {
  /** Until then the R bit is set and End-of-RIB is held back. */
  complete = false;
  readonly #done: (held: boolean) => void;
  #timer: NodeJS.Timeout | undefined;

  /** `done` is called once a start; `held` says whether peers wait for our End-of-RIB. */
  constructor(done: (held: boolean) => void) {
    this.#done = done;
  }

  start(restarting: boolean, deferralMs = DEFAULT_DEFERRAL_MS): void {
    this.complete = !restarting;
    this.#timer = setTimeout(() => this.#finish(), deferralMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  /** Whenever a session came up or an End-of-RIB came in. */
  check(neighbours: Iterable<Neighbour>): void {
    if (this.complete) return;
    for (const { peer, endOfRib } of neighbours) {
      if (peer.state !== 'Established') return;
      if (peer.negotiated?.gracefulRestart === undefined) continue;
      // A peer that is restarting itself waits for us: nobody would ever be first.
      if (peer.negotiated.gracefulRestart.restarting) continue;
      if (!peer.negotiated.families.every(family => endOfRib.has(family))) return;
    }
    this.#finish();
  }

  #finish(): void {
    clearTimeout(this.#timer);
    if (this.#timer === undefined) return;
    this.#timer = undefined;
    const held = !this.complete;
    this.complete = true;
    this.#done(held);
  }
}
