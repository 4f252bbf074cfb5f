// CalicoNodeStatus (api/pkg/apis/projectcalico/v3/nodestatus.go): the status calico-node would write, from our speaker.
// Where calico-node has two BIRDs, one a family, one speaker of ours answers for both.
import { ipFamily } from '../../../src/lib/ip.ts';
import type { Family } from '../packet/context.ts';
import type { Speaker } from '../speaker/speaker.ts';
import { routeViews } from './routes.ts';
import { neighbourViews } from './status.ts';
import type { NeighbourView } from './views.ts';

export type NodeStatusClass = 'Agent' | 'BGP' | 'Routes';

interface DaemonStatus {
  state: 'Ready' | 'NotReady';
  version: string;
  routerID: string;
  lastBootTime: string;
}

interface PeerStatus {
  peerIP: string;
  type: 'NodeMesh' | 'NodePeer' | 'GlobalPeer';
  state: string;
  since: string;
}

interface RouteStatus {
  type: 'FIB' | 'RIB';
  destination: string;
  gateway: string;
  interface: string;
  learnedFrom: { sourceType: 'BGPPeer' | 'NodeMesh' | 'Static'; peerIP?: string };
}

export interface CalicoNodeStatusBody {
  lastUpdated: string;
  agent?: { birdV4?: DaemonStatus; birdV6?: DaemonStatus };
  bgp?: {
    numberEstablishedV4: number;
    numberNotEstablishedV4: number;
    numberEstablishedV6: number;
    numberNotEstablishedV6: number;
    peersV4?: PeerStatus[];
    peersV6?: PeerStatus[];
  };
  routes?: { routesV4?: RouteStatus[]; routesV6?: RouteStatus[] };
}

export interface NodeStatusRequest {
  readonly classes: readonly NodeStatusClass[];
  readonly now: Date;
  readonly version: string;
  /** True for a BGPPeer that is neither for one node nor for selected ones. */
  readonly isGlobal: (peerName: string) => boolean;
  /** The link that the kernel's route to a prefix uses. */
  readonly linkOf: (destination: string) => string | undefined;
}

/** An object has to fit into the store; nobody reads more by kubectl. */
const MAX_ROUTES = 1000;
const isMesh = (name: string): boolean => name.startsWith('mesh:');

export function calicoNodeStatus(speaker: Speaker, request: NodeStatusRequest): CalicoNodeStatusBody {
  const { classes, now } = request;
  const neighbours = neighbourViews(speaker);
  return {
    lastUpdated: now.toISOString(),
    ...(classes.includes('Agent') ? { agent: agentStatus(speaker, request) } : {}),
    ...(classes.includes('BGP') ? { bgp: sessionStatus(neighbours, request) } : {}),
    ...(classes.includes('Routes')
      ? {
          routes: {
            routesV4: routeStatus(speaker, neighbours, request, 4),
            routesV6: routeStatus(speaker, neighbours, request, 6),
          },
        }
      : {}),
  };
}

function agentStatus(speaker: Speaker, { version }: NodeStatusRequest): CalicoNodeStatusBody['agent'] {
  const daemon: DaemonStatus = {
    state: speaker.complete ? 'Ready' : 'NotReady',
    version,
    routerID: speaker.config.routerId,
    lastBootTime: new Date(speaker.startedAtMs).toISOString(),
  };
  const { nextHops = {} } = speaker.config;
  return {
    ...(nextHops[4] === undefined ? {} : { birdV4: daemon }),
    ...(nextHops[6] === undefined ? {} : { birdV6: daemon }),
  };
}

function sessionStatus(
  neighbours: readonly NeighbourView[],
  { isGlobal }: NodeStatusRequest,
): CalicoNodeStatusBody['bgp'] {
  const of = (family: Family): PeerStatus[] =>
    neighbours
      .filter(({ address }) => ipFamily(address) === family)
      .map(({ name, address, state, since }) => ({
        peerIP: address,
        type: isMesh(name) ? 'NodeMesh' : isGlobal(name) ? 'GlobalPeer' : 'NodePeer',
        state,
        since,
      }));
  const [peersV4, peersV6] = [of(4), of(6)];
  const up = (peers: readonly PeerStatus[]): number =>
    peers.filter(({ state }) => state === 'Established').length;
  return {
    numberEstablishedV4: up(peersV4),
    numberNotEstablishedV4: peersV4.length - up(peersV4),
    numberEstablishedV6: up(peersV6),
    numberNotEstablishedV6: peersV6.length - up(peersV6),
    peersV4,
    peersV6,
  };
}

function routeStatus(
  speaker: Speaker,
  neighbours: readonly NeighbourView[],
  { linkOf }: NodeStatusRequest,
  family: Family,
): RouteStatus[] {
  const addressOf = new Map(neighbours.map(({ name, address }) => [name, address]));
  return routeViews(speaker, { family, limit: MAX_ROUTES }).map(
    ({ prefix, from, nextHop, best, multipath }) => {
      const peerIP = addressOf.get(from);
      return {
        type: best || multipath ? 'FIB' : 'RIB',
        destination: prefix,
        gateway: nextHop ?? 'N/A',
        interface: linkOf(prefix) ?? 'N/A',
        learnedFrom:
          peerIP === undefined
            ? { sourceType: 'Static' }
            : { sourceType: isMesh(from) ? 'NodeMesh' : 'BGPPeer', peerIP },
      };
    },
  );
}
