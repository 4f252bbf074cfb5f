// Routing policy as plain data: ordered statements, each a match, changes, and a verdict. One form for import and
// export, ours and Calico's BGPFilter (which calico/filters.ts turns into this). evaluate.ts runs it.
import type { Cidr } from '../../../src/lib/cidr.ts';

/** A prefix condition: the route is inside `cidr` with a length in `[min, max]`; `negate` turns it round. */
export interface PrefixMatch {
  readonly cidr: Cidr;
  readonly min: number;
  readonly max: number;
  readonly negate?: boolean;
}

/** All conditions that are present must hold; lists match when any of their members does. */
export interface Match {
  readonly prefixes?: readonly PrefixMatch[];
  /** A prefix length alone. */
  readonly length?: { readonly min: number; readonly max: number };
  readonly families?: readonly (4 | 6)[];
  /** Where the path was learned: our own routes, or a kind of peer. */
  readonly from?: readonly ('local' | 'internal' | 'external')[];
  /** The peer the policy is run for (export: the receiver; import: the sender). */
  readonly peerKind?: 'internal' | 'external';
  /** RFC 1997 communities, any of them. */
  readonly communities?: readonly number[];
  /** RFC 8092 communities as `a:b:c`, any of them. */
  readonly largeCommunities?: readonly string[];
  /** The path begins with these AS numbers. */
  readonly asPathPrefix?: readonly number[];
  /** The path contains this AS number. */
  readonly asPathContains?: number;
  readonly localPref?: { readonly min: number; readonly max: number };
  /** Link of the route's next hop, as a glob with `*` and `?`. */
  readonly link?: string;
  readonly nextHops?: readonly string[];
}

export interface Changes {
  readonly localPref?: number;
  /** `null` takes it away. */
  readonly med?: number | null;
  readonly nextHop?: string;
  readonly origin?: number;
  readonly prepend?: readonly number[];
  readonly addCommunities?: readonly number[];
  readonly removeCommunities?: readonly number[];
  readonly addLargeCommunities?: readonly string[];
}

export interface Statement {
  /** Shown by the looking glass as the reason. */
  readonly name: string;
  readonly match: Match;
  readonly set?: Changes;
  /** `next` goes on with the following statement, changes kept. */
  readonly action: 'accept' | 'reject' | 'next';
}

export interface Policy {
  readonly name: string;
  readonly statements: readonly Statement[];
  /** When no statement decided. */
  readonly otherwise: 'accept' | 'reject';
}

export const ACCEPT_ALL: Policy = { name: 'accept-all', statements: [], otherwise: 'accept' };
export const REJECT_ALL: Policy = { name: 'reject-all', statements: [], otherwise: 'reject' };

/** RFC 8326: the route is about to go; receivers prefer any other. */
export const GRACEFUL_SHUTDOWN = 0xffff0000;
/** RFC 1997. */
export const NO_EXPORT = 0xffffff01;
export const NO_ADVERTISE = 0xffffff02;
export const NO_EXPORT_SUBCONFED = 0xffffff03;

/** `aa:nn` as a number; undefined when the text is no standard community. */
export function parseCommunity(text: string): number | undefined {
  const match = /^(\d{1,5}):(\d{1,5})$/.exec(text);
  if (match === null) return undefined;
  const [high, low] = [Number(match[1]), Number(match[2])];
  return high > 65535 || low > 65535 ? undefined : high * 65536 + low;
}

export function formatCommunity(community: number): string {
  return `${community >>> 16}:${community & 65535}`;
}

/** `aa:nn:mm`, each 32 bits; undefined when the text is no large community. */
export function parseLargeCommunity(text: string): [number, number, number] | undefined {
  const match = /^(\d{1,10}):(\d{1,10}):(\d{1,10})$/.exec(text);
  if (match === null) return undefined;
  const parts = [Number(match[1]), Number(match[2]), Number(match[3])] as [number, number, number];
  return parts.some(part => part > 0xffffffff) ? undefined : parts;
}
