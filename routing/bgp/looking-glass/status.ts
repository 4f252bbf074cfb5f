// `bgp status` and `bgp neighbors`: the speaker and its sessions at a glance. Counts are kept, not counted.

import { formatCidr } from '../../../src/lib/cidr.ts';
import { formatIpv4Number } from '../../../src/lib/ip.ts';
import type { Negotiated } from '../fsm/negotiate.ts';
import type { Family } from '../packet/context.ts';
import type { Neighbour } from '../speaker/neighbour.ts';
import type { Speaker } from '../speaker/speaker.ts';
import type { PathState } from '../speaker/speaker-options.ts';
import type { NeighbourView, StatusView } from './views.ts';

const iso = (ms: number): string => new Date(ms).toISOString();

export function statusView(speaker: Speaker): StatusView {
  const neighbours = [...speaker.neighbours.values()];
  const routes = (family: Family) => ({
    prefixes: speaker.ribs[family].nets.size,
    paths: speaker.ribs[family].size,
  });
  return {
    asn: speaker.config.asn,
    routerId: speaker.config.routerId,
    clusterId: speaker.config.clusterId,
    startedAt: iso(speaker.startedAtMs),
    complete: speaker.complete,
    neighbours: {
      configured: neighbours.length,
      established: neighbours.filter(({ peer }) => peer.state === 'Established').length,
    },
    routes: { ipv4: routes(4), ipv6: routes(6) },
    attributeSets: speaker.store.size,
    announced: speaker.originatedRoutes().map(({ cidr, origin }) => ({ prefix: formatCidr(cidr), origin })),
  };
}

function capabilityNames(negotiated: Negotiated | undefined): string[] {
  if (negotiated === undefined) return [];
  const { receive, send } = negotiated;
  const names: [boolean, string][] = [
    [negotiated.families.includes(4), 'ipv4-unicast'],
    [negotiated.families.includes(6), 'ipv6-unicast'],
    [receive.as4, 'four-octet-as'],
    [negotiated.routeRefresh, 'route-refresh'],
    [negotiated.enhancedRouteRefresh, 'enhanced-route-refresh'],
    [negotiated.gracefulRestart !== undefined, 'graceful-restart'],
    [negotiated.gracefulNotification, 'graceful-notification'],
    [receive.addPath4 || receive.addPath6, 'add-path-receive'],
    [send.addPath4 || send.addPath6, 'add-path-send'],
    [receive.maxMessageBytes > 4096, 'extended-message'],
    [negotiated.extendedNextHop, 'extended-next-hop'],
  ];
  return names.filter(([has]) => has).map(([, name]) => name);
}

/** Asked for, and watched only while the session is up. */
function bfdView(path: PathState | undefined): NeighbourView['bfd'] {
  if (path === undefined) return { state: 'waits for the session' };
  const { state, detectionMs, multihop } = path;
  return { state, multihop, detectionMs };
}

export function neighbourView(neighbour: Neighbour, path?: PathState): NeighbourView {
  const { peer, source } = neighbour;
  const { negotiated } = peer;
  const advertised = (family: Family): number => neighbour.groups.get(family)?.size ?? 0;
  return {
    name: peer.name,
    address: peer.config.address,
    asn: negotiated?.peer.asn ?? peer.config.asn,
    routerId: negotiated === undefined ? undefined : formatIpv4Number(negotiated.peer.routerId),
    kind: negotiated === undefined ? 'unknown' : negotiated.external ? 'external' : 'internal',
    state: peer.state,
    since: iso(peer.sinceMs),
    lastError: peer.lastError,
    timesEstablished: peer.establishedCount,
    received: { ipv4: neighbour.received(4), ipv6: neighbour.received(6) },
    advertised: { ipv4: advertised(4), ipv6: advertised(6) },
    updatesReceived: peer.updatesReceived,
    malformedAttributes: neighbour.malformed,
    reflectorClient: source.reflectorClient,
    holdTimeSeconds: negotiated === undefined ? undefined : negotiated.holdTimeMs / 1000,
    capabilities: capabilityNames(negotiated),
    bfd: peer.config.bfd === undefined ? undefined : bfdView(path),
    staleSince: neighbour.staleSinceMs === undefined ? undefined : iso(neighbour.staleSinceMs),
    history: peer.history.map(({ atMs, state, reason }) => ({ at: iso(atMs), state, reason })),
  };
}

export function neighbourViews(speaker: Speaker): NeighbourView[] {
  return [...speaker.neighbours.values()]
    .map(neighbour => neighbourView(neighbour, speaker.pathState(neighbour.peer.config.address)))
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}
