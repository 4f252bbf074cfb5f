// CalicoNodeStatus (api/pkg/apis/projectcalico/v3/nodestatus.go): the status calico-node would write, from our speaker.
import type { Speaker } from '../speaker/speaker.ts';
import { routeViews } from './routes.ts';
import { neighbourViews } from './status.ts';

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
  agent: { birdV4: { state: 'Ready' | 'NotReady'; version: string; routerID: string; lastBootTime: string } };
  bgp: { numberEstablishedV4: number; numberNotEstablishedV4: number; peersV4: PeerStatus[] };
  routes: { routesV4: RouteStatus[] };
}

export function calicoNodeStatus(speaker: Speaker, now: Date, version: string): CalicoNodeStatusBody {
  const neighbours = neighbourViews(speaker).filter(one => !one.address.includes(':'));
  const established = neighbours.filter(one => one.state === 'Established').length;
  const addressOf = new Map(neighbours.map(one => [one.name, one.address]));
  return {
    lastUpdated: now.toISOString(),
    agent: {
      birdV4: {
        state: speaker.complete ? 'Ready' : 'NotReady',
        version,
        routerID: speaker.config.routerId,
        lastBootTime: new Date(speaker.startedAtMs).toISOString(),
      },
    },
    bgp: {
      numberEstablishedV4: established,
      numberNotEstablishedV4: neighbours.length - established,
      peersV4: neighbours.map(one => ({
        peerIP: one.address,
        type: one.name.startsWith('mesh:') ? 'NodeMesh' : 'NodePeer',
        state: one.state,
        since: one.since,
      })),
    },
    routes: {
      routesV4: routeViews(speaker, { family: 4, bestOnly: true }).map(path => {
        const peerIP = addressOf.get(path.from);
        return {
          type: 'RIB',
          destination: path.prefix,
          gateway: path.nextHop ?? 'N/A',
          interface: '',
          learnedFrom:
            peerIP === undefined
              ? { sourceType: 'Static' }
              : { sourceType: path.from.startsWith('mesh:') ? 'NodeMesh' : 'BGPPeer', peerIP },
        };
      }),
    },
  };
}
