// One neighbour as the speaker keeps it: the session, its place in the tables, and graceful restart as its helper
// (RFC 4724 section 4.2: the peer restarted, its routes stay until it told them again or its time is over).
import type { SessionEnd } from '../fsm/events.ts';
import type { Negotiated } from '../fsm/negotiate.ts';
import { FAMILIES, type Family } from '../packet/context.ts';
import type { PathSource } from '../rib/path-source.ts';
import type { Rib } from '../rib/rib.ts';
import type { Peer } from '../session/peer.ts';
import type { GroupMember } from './adj-rib-out.ts';
import type { Receiver } from './receive.ts';
import type { RouteExporter } from './route-exporter.ts';

/** A peer that came back but never finishes (no End-of-RIB) keeps its stale routes no longer than this. */
const STALE_LIMIT_MS = 360_000;

export class Neighbour {
  readonly peer: Peer;
  readonly index: number;
  readonly member: GroupMember;
  readonly dynamic: boolean;
  source: PathSource;
  receiver: Receiver | undefined;
  readonly groups = new Map<Family, RouteExporter>();
  /** Families whose End-of-RIB came in this session. */
  readonly endOfRib = new Set<Family>();
  /** RFC 7606 problems seen: attribute sets discarded or treated as withdraw. */
  malformed = 0;
  staleSinceMs: number | undefined;
  readonly #ribs: Readonly<Record<Family, Rib>>;
  #staleTimer: NodeJS.Timeout | undefined;

  constructor(options: {
    peer: Peer;
    index: number;
    dynamic: boolean;
    source: PathSource;
    ribs: Readonly<Record<Family, Rib>>;
  }) {
    this.peer = options.peer;
    this.index = options.index;
    this.dynamic = options.dynamic;
    this.source = options.source;
    this.#ribs = options.ribs;
    this.member = {
      sourceIndex: options.index,
      backlogBytes: () => options.peer.connection?.backlogBytes ?? 0,
      send: bytes => options.peer.send(bytes),
    };
  }

  /** Paths in the tables, by family. */
  received(family: Family): number {
    return this.#ribs[family].counts[this.index] ?? 0;
  }

  get receivedTotal(): number {
    return this.received(4) + this.received(6);
  }

  /** The session ended: routes go, or stay for the peer's restart time. */
  ended(end: SessionEnd, negotiated: Negotiated | undefined): void {
    this.endOfRib.clear();
    const restart = end.graceful ? negotiated?.gracefulRestart : undefined;
    for (const family of FAMILIES) {
      const kept = restart?.families.some(entry => entry.family === family) === true;
      if (!kept) this.#ribs[family].removeSource(this.index);
      else {
        // RFC 4724 section 4.2: what is stale from an earlier restart goes now.
        this.#ribs[family].sweepStale(this.index);
        this.#ribs[family].markStale(this.index);
      }
    }
    if (restart === undefined) {
      this.cancelStale();
      return;
    }
    this.staleSinceMs = Date.now();
    this.#sweepAfter(restart.restartSeconds * 1000);
  }

  /** The session is back: families whose forwarding state the peer lost go at once. */
  resumed(negotiated: Negotiated): void {
    if (this.staleSinceMs === undefined) return;
    const families = negotiated.gracefulRestart?.families ?? [];
    for (const family of FAMILIES)
      if (!families.some(entry => entry.family === family && entry.forwarding))
        this.#ribs[family].sweepStale(this.index);
    this.#sweepAfter(STALE_LIMIT_MS);
  }

  /** End-of-RIB, or the end of a refresh: what was not told again is gone. */
  finished(family: Family): void {
    this.endOfRib.add(family);
    this.#ribs[family].sweepStale(this.index);
    const negotiated = this.peer.negotiated;
    if (negotiated?.families.every(one => this.endOfRib.has(one)) === true) this.cancelStale();
  }

  removeRoutes(): void {
    this.cancelStale();
    for (const family of FAMILIES) this.#ribs[family].removeSource(this.index);
  }

  #sweepAfter(ms: number): void {
    clearTimeout(this.#staleTimer);
    this.#staleTimer = setTimeout(() => {
      this.cancelStale();
      for (const family of FAMILIES) this.#ribs[family].sweepStale(this.index);
    }, ms);
    this.#staleTimer.unref();
  }

  /** Nobody sweeps what is stale any more. */
  cancelStale(): void {
    clearTimeout(this.#staleTimer);
    this.#staleTimer = undefined;
    this.staleSinceMs = undefined;
  }
}
