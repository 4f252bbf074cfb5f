// The host-gw backend's objects (flannel pkg/backend/hostgw): a plain route to each peer's subnet through the peer's own
// address. It needs every peer on one link; a peer behind a router is a problem of that peer, the others work. Pure.
import type { KernelState, RouteState } from '../../src/kernel/state.ts';
import { ROUTE_PROTOCOL } from '../../src/kernel/state.ts';
import type { Problem } from '../../src/lib/problem.ts';
import type { Peer } from '../subnet/peers.ts';
import { isDirect, type Underlay } from '../subnet/underlay.ts';

/** Equivalent to: `ip route replace SUBNET via PUBLIC-IP dev UNDERLAY` for each peer. */
export function planHostGw(
  peers: readonly Peer[],
  underlay: Underlay,
): { state: KernelState; problems: Problem[] } {
  const routes: RouteState[] = [];
  const problems: Problem[] = [];
  for (const peer of peers) {
    if (isDirect(underlay, peer.publicIp))
      routes.push({
        destination: peer.subnet,
        gateway: peer.publicIp,
        link: underlay.link,
        protocol: ROUTE_PROTOCOL.overlay,
      });
    else
      problems.push({
        kind: 'Node',
        name: peer.node,
        reason: 'NotDirectlyReachable',
        message: `public IP ${peer.publicIp} is not on link ${underlay.link}, and host-gw cannot cross a router; use vxlan with DirectRouting`,
      });
  }
  return { state: { routes }, problems };
}
