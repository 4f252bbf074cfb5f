// How the kernel reaches the next hops of BGP routes: a node behind a router by way of that router (BIRD's "gateway
// recursive", as Calico configures it), any other one directly.
import type { NextHopResolver, ResolvedNextHop } from '../../../routing/bgp/speaker/next-hops.ts';
import type { Netns } from '../../linux/netns.ts';
import { Rtnetlink } from '../../linux/rtnetlink.ts';

/**
 * Equivalent to: `ip route get ADDRESS`. What has no route now is taken for a neighbour: when its link is back the route
 * is wanted again at once, and until then the kernel refuses it.
 */
export function kernelNextHops(netns: Netns | undefined): NextHopResolver {
  return (address): ResolvedNextHop => {
    using links = Rtnetlink.open(netns);
    try {
      return { metric: 0, gateway: links.getRoute(address).gateway ?? address };
    } catch {
      return { metric: 0, gateway: address };
    }
  };
}
