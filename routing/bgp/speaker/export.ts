// From the chosen path to what one kind of peer is told: RFC 4271 sections 5.1 and 9.1.3, RFC 1997, RFC 4456 and
// export policy. Says why not, so that the looking glass can answer.

import { type Cidr, cidrContains } from '../../../src/lib/cidr.ts';
import { parseIp } from '../../../src/lib/ip.ts';
import { DEFAULT_LOCAL_PREF } from '../decision/decide.ts';
import type { Family } from '../packet/context.ts';
import { type PathAttributes, prependAs } from '../packet/path-attributes.ts';
import { evaluate, type PolicyRoute } from '../policy/evaluate.ts';
import { ACCEPT_ALL, NO_ADVERTISE, NO_EXPORT, NO_EXPORT_SUBCONFED, type Policy } from '../policy/policy.ts';
import type { AttributeEntry, AttributeStore } from '../rib/attribute-store.ts';
import type { PathSource } from '../rib/path-source.ts';

/** What export must know of the peers of one group. */
export interface ExportContext {
  readonly external: boolean;
  readonly localAsn: number;
  readonly routerId: number;
  readonly clusterId: number;
  readonly reflectorClient: boolean;
  readonly nextHopMode: 'auto' | 'self' | 'keep';
  /** PeerConfig.sharedSubnets. */
  readonly sharedSubnets?: readonly Cidr[];
  /** Our address by family, as the peers of this group reach it. */
  readonly nextHops: Partial<Record<Family, string>>;
  readonly extendedNextHop: boolean;
  readonly policy: Policy;
  readonly policyDependsOnPrefix: boolean;
}

type Prefix = Pick<PolicyRoute, 'family' | 'words' | 'at' | 'length'>;

/** Why a path is kept from a kind of peer, before policy. */
export function withhold(
  attributes: PathAttributes,
  source: PathSource,
  context: ExportContext,
): string | undefined {
  if (source.kind === 'internal' && !context.external && !source.reflectorClient && !context.reflectorClient)
    return 'learned from an internal peer, and neither side is a reflector client (RFC 4271 9.2.1, RFC 4456 6)';
  if (attributes.communities?.includes(NO_ADVERTISE) === true) return 'community no-advertise (RFC 1997)';
  if (
    context.external &&
    attributes.communities?.some(c => c === NO_EXPORT || c === NO_EXPORT_SUBCONFED) === true
  )
    return 'community no-export (RFC 1997)';
  return undefined;
}

/** The attributes to send, or the reason why the route is not sent. */
export function exportRoute(
  context: ExportContext,
  entry: AttributeEntry,
  source: PathSource,
  store: AttributeStore,
  prefix: Prefix,
): AttributeEntry | string {
  let { attributes } = entry;
  const reason = withhold(attributes, source, context);
  if (reason !== undefined) return reason;
  const base = baseAttributes(attributes, source, context, prefix.family);
  if (typeof base === 'string') return base;
  attributes = base;
  if (context.policy !== ACCEPT_ALL) {
    const verdict = evaluate(context.policy, {
      ...prefix,
      attributes,
      source,
      peerKind: context.external ? 'external' : 'internal',
    });
    if (!verdict.accept) return `policy ${context.policy.name}, statement ${verdict.statement}`;
    attributes = verdict.attributes;
  }
  if (context.external)
    attributes = attributes.with({ asPath: prependAs(attributes.asPath, context.localAsn) });
  return store.canonical(attributes);
}

/** Everything that policy may then change, before our AS is put in front. */
function baseAttributes(
  attributes: PathAttributes,
  source: PathSource,
  context: ExportContext,
  family: Family,
): PathAttributes | string {
  const own = source.kind === 'local';
  const keep =
    !own &&
    attributes.nextHop !== undefined &&
    (context.nextHopMode === 'keep' ||
      (context.nextHopMode === 'auto' && (!context.external || isShared(attributes.nextHop, context))));
  const nextHop = keep
    ? attributes.nextHop
    : attributes.nextHop && own
      ? attributes.nextHop
      : self(context, family);
  if (nextHop === undefined) return `no IPv${family} next hop of ours is known for this session`;
  if (nextHop.includes(':') && family === 4 && !context.extendedNextHop)
    return 'the peer takes no IPv6 next hop for IPv4 (RFC 8950)';
  const changes: Partial<PathAttributes> = { nextHop };
  if (!keep) changes.linkLocalNextHop = undefined;
  if (context.external) {
    changes.localPref = undefined;
    changes.originatorId = undefined;
    changes.clusterList = undefined;
    // RFC 4271 section 5.1.4: a MED from one neighbour AS is not passed on to another.
    if (!own) changes.med = undefined;
  } else {
    changes.localPref = attributes.localPref ?? DEFAULT_LOCAL_PREF;
    if (source.kind === 'internal') {
      // RFC 4456 section 8.
      changes.originatorId = attributes.originatorId ?? source.routerId;
      changes.clusterList = [context.clusterId, ...(attributes.clusterList ?? [])];
    }
  }
  return attributes.with(changes);
}

/** RFC 4271 section 5.1.3: the peer reaches that router itself, and need not go over us. */
function isShared(nextHop: string, { sharedSubnets = [] }: ExportContext): boolean {
  if (sharedSubnets.length === 0) return false;
  const bytes = parseIp(nextHop);
  return bytes !== undefined && sharedSubnets.some(subnet => cidrContains(subnet, bytes));
}

function self(context: ExportContext, family: Family): string | undefined {
  const own = context.nextHops[family];
  if (own !== undefined) return own;
  return family === 4 && context.extendedNextHop ? context.nextHops[6] : undefined;
}
