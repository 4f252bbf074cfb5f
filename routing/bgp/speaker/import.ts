// From what a peer sent to what may be chosen: the checks of RFC 4271 section 9.1.2 (loops), RFC 4456 section 8,
// next hops that cannot be meant, and import policy. Answers with a reason, so that the looking glass can ask again.
import { isLoopback, isMulticast, isUnspecified, parseIp } from '../../../src/lib/ip.ts';
import { countAs } from '../packet/path-attributes.ts';
import { evaluate, type PolicyRoute } from '../policy/evaluate.ts';
import { ACCEPT_ALL, GRACEFUL_SHUTDOWN, type Policy } from '../policy/policy.ts';
import type { AttributeEntry, AttributeStore } from '../rib/attribute-store.ts';
import type { PathSource } from '../rib/path-source.ts';
import type { Rib } from '../rib/rib.ts';

/** What import must know of the session; made anew when the session or its policy changes. */
export interface ImportContext {
  readonly source: PathSource;
  readonly localAsns: readonly number[];
  readonly routerId: number;
  readonly clusterId: number;
  readonly allowOwnAs: number;
  readonly enforceFirstAs: boolean;
  readonly policy: Policy;
  readonly policyDependsOnPrefix: boolean;
  /** Addresses of this node: as next hops they are refused. */
  readonly isOwnAddress: (address: string) => boolean;
}

/** Undefined when nothing speaks against the attributes. */
export function refuseAttributes(entry: AttributeEntry, context: ImportContext): string | undefined {
  const { attributes } = entry;
  const { source } = context;
  if (entry.unusable) return 'malformed attributes (RFC 7606: treat as withdraw)';
  for (const asn of context.localAsns)
    if (countAs(attributes.asPath, asn) > context.allowOwnAs) return `our AS ${asn} is in the path`;
  if (source.kind === 'external' && context.enforceFirstAs && entry.neighbourAs !== source.asn)
    return `the path does not begin with the peer's AS ${source.asn}`;
  if (source.kind === 'internal') {
    if (attributes.originatorId === context.routerId) return 'we are the originator (RFC 4456)';
    if (attributes.clusterList?.includes(context.clusterId) === true)
      return 'our cluster is in the cluster list (RFC 4456)';
  }
  return refuseNextHop(attributes.nextHop ?? '', context);
}

function refuseNextHop(nextHop: string, context: ImportContext): string | undefined {
  const bytes = parseIp(nextHop);
  if (bytes === undefined || isUnspecified(bytes) || isMulticast(bytes) || isLoopback(bytes))
    return `next hop ${nextHop} is no unicast address`;
  if (context.isOwnAddress(nextHop)) return `next hop ${nextHop} is our own address`;
  return undefined;
}

/** The attributes after import, or the reason why the route is refused. */
export function importRoute(
  context: ImportContext,
  received: AttributeEntry,
  store: AttributeStore,
  prefix: Pick<PolicyRoute, 'family' | 'words' | 'at' | 'length'>,
): AttributeEntry | string {
  const cached = received.verdictBy === context ? (received.verdict as AttributeEntry | string) : undefined;
  if (cached !== undefined) return cached;
  const refusal = refuseAttributes(received, context);
  if (refusal !== undefined) return remember(context, received, refusal);
  const base = withGracefulShutdown(context, received, store);
  if (context.policy === ACCEPT_ALL) return remember(context, received, base);
  const { source, policy } = context;
  const verdict = evaluate(policy, {
    ...prefix,
    attributes: base.attributes,
    source,
    peerKind: source.kind === 'external' ? 'external' : 'internal',
  });
  let result: AttributeEntry | string = `policy ${policy.name}, statement ${verdict.statement}`;
  if (verdict.accept)
    result = verdict.attributes === base.attributes ? base : store.canonical(verdict.attributes);
  return context.policyDependsOnPrefix ? result : remember(context, received, result);
}

/** Runs import again for every path of a session's source, after its policy changed. */
export function reimport(rib: Rib, context: ImportContext): void {
  rib.forEachPath(path => {
    if (rib.source[path] !== context.source.index) return;
    const net = rib.netOf[path]!;
    const verdict = importRoute(context, rib.received[path]!, rib.store, {
      family: rib.family,
      words: rib.nets.words,
      at: net * rib.nets.stride,
      length: rib.nets.lengths[net]!,
    });
    rib.setImported(path, typeof verdict === 'string' ? undefined : verdict);
  });
}

/** RFC 8326 section 4.2: a path that is about to go gets LOCAL_PREF 0. */
function withGracefulShutdown(
  context: ImportContext,
  received: AttributeEntry,
  store: AttributeStore,
): AttributeEntry {
  const { attributes } = received;
  if (context.source.kind !== 'external' || attributes.communities?.includes(GRACEFUL_SHUTDOWN) !== true)
    return received;
  return store.canonical(attributes.with({ localPref: 0 }));
}

function remember<T extends AttributeEntry | string>(context: object, entry: AttributeEntry, verdict: T): T {
  entry.verdictBy = context;
  entry.verdict = verdict;
  return verdict;
}
