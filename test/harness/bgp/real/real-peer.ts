// A real speaker (BIRD, FRR, GoBGP, ExaBGP) as the interop matrix drives it, whatever its own words for things are. It
// has THEIRS.v4 and THEIRS.v6 (pair.ts) and one session over IPv4 with each neighbour, for both families.
import { OURS, type Pair } from '../pair.ts';

export interface RealPeerSetup {
  readonly asn: number;
  /** The AS of every neighbour. */
  readonly remoteAsn: number;
  /** Addresses of neighbours; our speaker alone when absent. */
  readonly neighbours?: readonly string[];
  /** RFC 2385. */
  readonly password?: string;
  /** RFC 4724, restarting and helping. */
  readonly gracefulRestart?: boolean;
  /** RFC 7911, both directions, all paths. */
  readonly addPath?: boolean;
  /** RFC 4456: every neighbour is its client. */
  readonly reflector?: boolean;
}

export interface RealPeer {
  /** Begins, or begins again after kill(); then as one that restarts. */
  start(): Promise<void>;
  /** Announces exactly these prefixes. */
  announce(cidrs: readonly string[]): Promise<void>;
  /** Prefixes our speaker told it, sorted; one with two paths twice. */
  learned(): Promise<string[]>;
  /** What it knows of a prefix, in its own words. */
  show(cidr: string): Promise<string>;
  /** RFC 2918: asks our speaker for its routes again. */
  requestRefresh(): Promise<void>;
  /** Ends the session with our speaker, which comes back. */
  reset(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
}

export type RealPeerFactory = (pair: Pair, setup: RealPeerSetup, cidrs: readonly string[]) => RealPeer;

export const neighboursOf = (setup: RealPeerSetup): readonly string[] => setup.neighbours ?? [OURS.v4];

export const isV6 = (cidr: string): boolean => cidr.includes(':');
