// What import and export must know of one session, worked out from the configuration and the negotiation.
import { canonicalIp } from '../../../src/lib/ip.ts';
import type { Negotiated } from '../fsm/negotiate.ts';
import type { Family } from '../packet/context.ts';
import { dependsOnPrefix } from '../policy/evaluate.ts';
import { ACCEPT_ALL } from '../policy/policy.ts';
import type { ExportContext } from './export.ts';
import type { ImportContext } from './import.ts';
import type { Neighbour } from './neighbour.ts';
import { localAsnOf, routerIdNumber } from './open.ts';
import type { SpeakerConfig } from './speaker-config.ts';

/** RFC 4456: the router id where no cluster id is given. */
function clusterIdOf(config: SpeakerConfig): number {
  return routerIdNumber(config.clusterId ?? config.routerId);
}

export function importContextOf(
  speaker: SpeakerConfig,
  neighbour: Neighbour,
  isOwnAddress: ((address: string) => boolean) | undefined,
): ImportContext {
  const { config } = neighbour.peer;
  const policy = config.importPolicy ?? ACCEPT_ALL;
  const own = new Set(speaker.listen.map(({ address }) => address));
  const local = canonicalIp(neighbour.peer.localAddress ?? '');
  if (local !== undefined) own.add(local);
  return {
    source: neighbour.source,
    localAsns: [...new Set([speaker.asn, localAsnOf(speaker, config)])],
    routerId: routerIdNumber(speaker.routerId),
    clusterId: clusterIdOf(speaker),
    allowOwnAs: config.allowOwnAs ?? 0,
    enforceFirstAs: config.enforceFirstAs ?? true,
    policy,
    policyDependsOnPrefix: dependsOnPrefix(policy),
    isOwnAddress: address => own.has(address) || isOwnAddress?.(address) === true,
  };
}

export function exportContextOf(
  speaker: SpeakerConfig,
  neighbour: Neighbour,
  negotiated: Negotiated,
): ExportContext {
  const { config } = neighbour.peer;
  const policy = config.exportPolicy ?? ACCEPT_ALL;
  const nextHops: Partial<Record<Family, string>> = { ...speaker.nextHops };
  const local = canonicalIp(neighbour.peer.localAddress ?? '');
  if (local !== undefined) nextHops[local.includes(':') ? 6 : 4] = local;
  return {
    external: negotiated.external,
    localAsn: localAsnOf(speaker, config),
    routerId: routerIdNumber(speaker.routerId),
    clusterId: clusterIdOf(speaker),
    reflectorClient: config.reflectorClient === true,
    nextHopMode: config.nextHopMode ?? 'auto',
    sharedSubnets: config.sharedSubnets ?? [],
    nextHops,
    extendedNextHop: negotiated.extendedNextHop,
    policy,
    policyDependsOnPrefix: dependsOnPrefix(policy),
  };
}
