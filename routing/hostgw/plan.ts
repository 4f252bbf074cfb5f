// The host-gw backend's objects (flannel pkg/backend/hostgw): a plain route to each peer's subnet through the peer's own
// address. It needs every peer on one link; a peer behind a router is a problem of that peer, the others work. Pure.
import { ROUTE_PROTOCOL } from '../../src/kernel/state.ts';
import type { Problem } from '../../src/lib/problem.ts';
import type { Peer } from '../subnet/peers.ts';
import { isDirect, type Underlay } from '../subnet/underlay.ts';
import type { PeerWays } from '../way-table.ts';

/** Equivalent to: `ip route replace SUBNET via PUBLIC-IP dev UNDERLAY`. */
export function planHostGwPeer(peer: Peer, underlay: Underlay): PeerWays | Problem {
  if (isDirect(underlay, peer.publicIp))
    return {
      route: {
        destination: peer.subnet,
        gateway: peer.publicIp,
        link: underlay.link,
        protocol: ROUTE_PROTOCOL.overlay,
      },
    };
  return {
    kind: 'Node',
    name: peer.node,
    reason: 'NotDirectlyReachable',
    message: `public IP ${peer.publicIp} is not on link ${underlay.link}, and host-gw cannot cross a router; use vxlan with DirectRouting`,
  };
}
