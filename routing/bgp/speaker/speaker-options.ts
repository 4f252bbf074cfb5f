// What a speaker is given once, when it is made; what may change while it runs is SpeakerConfig.
import type { Logger } from '../../../src/observe/log.ts';
import type { BfdConfig } from '../session/peer-config.ts';
import type { Transport } from '../session/transport.ts';
import type { NextHopResolver } from './next-hops.ts';
import type { RouteSink } from './route-sink.ts';
import type { SpeakerConfig } from './speaker-config.ts';

export interface SpeakerOptions {
  readonly config: SpeakerConfig;
  readonly transport: Transport;
  readonly log: Logger;
  readonly resolver?: NextHopResolver;
  readonly sink?: RouteSink;
  /** This node's addresses, next hops that cannot be meant. */
  readonly isOwnAddress?: (address: string) => boolean;
  /** Watches the paths to peers whose configuration asks for it (bfd/endpoint.ts). */
  readonly bfd?: PathWatch;
  /** The kernel still has our routes of before (RFC 4724, restarting speaker). */
  readonly restarting?: boolean;
  /** How long to wait for peers before End-of-RIB and the sweep; a peer that is down is never waited for longer. */
  readonly deferralMs?: number;
}

/** BFD as the speaker sees it; a path that goes down is told with Speaker.pathDown. */
export interface PathWatch {
  watch(peer: string, local: string, config: BfdConfig): Promise<void>;
  unwatch(peer: string): void;
}
