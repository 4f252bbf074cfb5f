// Runs a policy on one route. Pure. A result that does not depend on the prefix may be cached per attribute set:
// `dependsOnPrefix` tells.

import { type AsSegment, countAs, type PathAttributes, prependAs } from '../packet/path-attributes.ts';
import { addressWords } from '../packet/prefix-batch.ts';
import type { PathSource } from '../rib/path-source.ts';
import { type Changes, type Match, type Policy, type PrefixMatch, parseLargeCommunity } from './policy.ts';

/** The route a policy looks at; the prefix as big-endian words, so that no object is made for it. */
export interface PolicyRoute {
  readonly family: 4 | 6;
  readonly words: Uint32Array;
  readonly at: number;
  readonly length: number;
  readonly attributes: PathAttributes;
  readonly source: PathSource;
  readonly peerKind: 'internal' | 'external';
  /** The link of the next hop, where it is known. */
  readonly link?: string | undefined;
}

export interface Verdict {
  readonly accept: boolean;
  /** The statement that decided, or `otherwise`. */
  readonly statement: string;
  readonly attributes: PathAttributes;
}

export function dependsOnPrefix(policy: Policy): boolean {
  return policy.statements.some(
    ({ match }) => match.prefixes !== undefined || match.length !== undefined || match.link !== undefined,
  );
}

export function evaluate(policy: Policy, route: PolicyRoute): Verdict {
  let { attributes } = route;
  for (const statement of policy.statements) {
    if (!matches(statement.match, route, attributes)) continue;
    if (statement.action === 'reject') return { accept: false, statement: statement.name, attributes };
    if (statement.set !== undefined) attributes = change(attributes, statement.set);
    if (statement.action === 'accept') return { accept: true, statement: statement.name, attributes };
  }
  return { accept: policy.otherwise === 'accept', statement: 'otherwise', attributes };
}

function matches(match: Match, route: PolicyRoute, attributes: PathAttributes): boolean {
  if (match.families !== undefined && !match.families.includes(route.family)) return false;
  if (match.from !== undefined && !match.from.includes(route.source.kind)) return false;
  if (match.peerKind !== undefined && match.peerKind !== route.peerKind) return false;
  if (match.length !== undefined && (route.length < match.length.min || route.length > match.length.max))
    return false;
  if (match.prefixes !== undefined && !match.prefixes.some(prefix => matchesPrefix(prefix, route)))
    return false;
  if (match.localPref !== undefined) {
    const value = attributes.localPref ?? 100;
    if (value < match.localPref.min || value > match.localPref.max) return false;
  }
  if (match.communities !== undefined && !match.communities.some(c => attributes.communities?.includes(c)))
    return false;
  if (
    match.largeCommunities !== undefined &&
    !match.largeCommunities.some(c => hasLargeCommunity(attributes, c))
  )
    return false;
  if (match.asPathPrefix !== undefined && !beginsWith(attributes.asPath, match.asPathPrefix)) return false;
  if (match.asPathContains !== undefined && countAs(attributes.asPath, match.asPathContains) === 0)
    return false;
  if (match.nextHops !== undefined && !match.nextHops.includes(attributes.nextHop ?? '')) return false;
  if (match.link !== undefined && (route.link === undefined || !globMatches(match.link, route.link)))
    return false;
  return true;
}

const probe = (address: Uint8Array): Uint32Array => {
  const words = new Uint32Array(4);
  addressWords(address, words, 0);
  return words;
};

function matchesPrefix(prefix: PrefixMatch, route: PolicyRoute): boolean {
  const inside =
    prefix.cidr.family === route.family &&
    route.length >= prefix.min &&
    route.length <= prefix.max &&
    route.length >= prefix.cidr.prefixLength &&
    startsWith(route, prefix);
  return inside !== (prefix.negate === true);
}

/** The first `cidr.prefixLength` bits of the route are the CIDR's. */
function startsWith(route: PolicyRoute, { cidr }: PrefixMatch): boolean {
  const words = probe(cidr.network);
  let bits = cidr.prefixLength;
  for (let i = 0; bits > 0; i++, bits -= 32) {
    const mask = bits >= 32 ? -1 : -1 << (32 - bits);
    if (((words[i]! ^ route.words[route.at + i]!) & mask) !== 0) return false;
  }
  return true;
}

function hasLargeCommunity(attributes: PathAttributes, text: string): boolean {
  const wanted = parseLargeCommunity(text);
  const list = attributes.largeCommunities ?? [];
  if (wanted === undefined) return false;
  for (let i = 0; i < list.length; i += 3)
    if (list[i] === wanted[0] && list[i + 1] === wanted[1] && list[i + 2] === wanted[2]) return true;
  return false;
}

function beginsWith(path: readonly AsSegment[], prefix: readonly number[]): boolean {
  const flat = path.flatMap(segment => segment.asns);
  return prefix.every((asn, i) => flat[i] === asn);
}

export function globMatches(glob: string, text: string): boolean {
  const pattern = glob
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${pattern}$`).test(text);
}

/** The attributes with a statement's changes made. */
export function change(attributes: PathAttributes, set: Changes): PathAttributes {
  let communities = attributes.communities;
  if (set.removeCommunities !== undefined)
    communities = communities?.filter(c => !set.removeCommunities?.includes(c));
  if (set.addCommunities !== undefined)
    communities = [...new Set([...(communities ?? []), ...set.addCommunities])];
  let largeCommunities = attributes.largeCommunities;
  for (const text of set.addLargeCommunities ?? []) {
    const parts = parseLargeCommunity(text);
    if (parts !== undefined && !hasLargeCommunity(attributes, text))
      largeCommunities = [...(largeCommunities ?? []), ...parts];
  }
  let asPath = attributes.asPath;
  for (const asn of [...(set.prepend ?? [])].reverse()) asPath = prependAs(asPath, asn);
  return attributes.with({
    asPath,
    communities: communities?.length === 0 ? undefined : communities,
    largeCommunities,
    ...(set.localPref === undefined ? {} : { localPref: set.localPref }),
    ...(set.med === undefined ? {} : { med: set.med ?? undefined }),
    ...(set.nextHop === undefined ? {} : { nextHop: set.nextHop, linkLocalNextHop: undefined }),
    ...(set.origin === undefined ? {} : { origin: set.origin }),
  });
}
