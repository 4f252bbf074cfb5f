// What can be said about one neighbour. Native form; calico/ and configuration files are turned into it at the edge.
import type { Cidr } from '../../../src/lib/cidr.ts';
import type { Family } from '../packet/context.ts';
import type { Policy } from '../policy/policy.ts';

export interface PeerConfig {
  /** Unique; what logs, metrics and the looking glass call the peer. */
  readonly name: string;
  /** Canonical text. */
  readonly address: string;
  readonly port?: number;
  readonly localAddress?: string;
  /** Undefined accepts any. */
  readonly asn?: number;
  /** Instead of the speaker's AS, towards this peer. */
  readonly localAsn?: number;
  readonly families?: readonly Family[];
  readonly passive?: boolean;
  /** RFC 4271: 90. 0 turns keepalives off. */
  readonly holdTimeSeconds?: number;
  readonly connectRetryMs?: number;
  /** RFC 2385. */
  readonly password?: string;
  /** RFC 5082: the peer is at most this many hops away. */
  readonly ttlSecurityHops?: number;
  /** Hops an external session may cross; 1 when absent. Internal sessions are not limited. */
  readonly multihop?: number;
  readonly addPath?: { readonly send?: boolean; readonly receive?: boolean };
  /** Seconds the peer keeps our routes over our restart; 0 turns RFC 4724 off. */
  readonly gracefulRestartSeconds?: number;
  /** RFC 4456: the peer is our client. */
  readonly reflectorClient?: boolean;
  readonly nextHopMode?: 'auto' | 'self' | 'keep';
  /** Subnets that we and an external peer are both on: a next hop in them is kept (RFC 4271 section 5.1.3), with `auto`. */
  readonly sharedSubnets?: readonly Cidr[];
  readonly importPolicy?: Policy;
  readonly exportPolicy?: Policy;
  /** More accepted prefixes than this end the session (RFC 4486). */
  readonly maxPrefixes?: number;
  /** How often our own AS may stand in a received path. */
  readonly allowOwnAs?: number;
  /** The first AS of a path must be the peer's (RFC 4271 section 6.3); true when absent. */
  readonly enforceFirstAs?: boolean;
  readonly bfd?: BfdConfig;
}

/** RFC 5880; single hop (RFC 5881), or with routers between (RFC 5883). */
export interface BfdConfig {
  readonly multihop: boolean;
  readonly transmitMs: number;
  readonly receiveMs: number;
  readonly multiplier: number;
}

export const DEFAULT_HOLD_SECONDS = 90;
export const DEFAULT_RESTART_SECONDS = 120;
export const DEFAULT_CONNECT_RETRY_MS = 5000;
export const BGP_PORT = 179;

/** What a running session cannot change: when this text differs, the session is reset; everything else is live. */
export function sessionKey(config: PeerConfig): string {
  const {
    name,
    reflectorClient,
    password,
    importPolicy,
    exportPolicy,
    maxPrefixes,
    bfd,
    allowOwnAs,
    nextHopMode,
    sharedSubnets,
    enforceFirstAs,
    ...session
  } = config;
  return JSON.stringify(session, Object.keys(session).sort().concat('send', 'receive'));
}
