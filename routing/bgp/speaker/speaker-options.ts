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

/** What BFD says about the path to a peer, for the looking glass. */
export interface PathState {
  readonly state: 'AdminDown' | 'Down' | 'Init' | 'Up';
  readonly multihop: boolean;
  /** Silence for so long takes the path down; 0 before the peer has spoken. */
  readonly detectionMs: number;
}

/** BFD as the speaker sees it; a path that goes down is told with Speaker.pathDown. */
export interface PathWatch {
  /** Starts anew when the peer is watched already. Throws KernelError when a socket cannot be made. */
  watch(peer: string, local: string, config: BfdConfig): void;
  /** Ends it administratively: the peer takes it for no failure. */
  unwatch(peer: string): void;
  state(peer: string): PathState | undefined;
}
