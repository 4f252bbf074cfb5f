// Taking a node over from flanneld: its routes get our protocol number in place, one by one, so that no packet is lost
// and the reconciler knows them as ours from then on. Those that lead to nodes long gone are ours to remove then, too
// (flannel itself leaves them, flannel#2554). Devices, neighbours, FDB entries and chains are recognised by themselves.
import { ROUTE_PROTOCOL } from '../../src/kernel/state.ts';
import { cidrContainsCidr, parseCidr } from '../../src/lib/cidr.ts';
import type { Netns } from '../../src/linux/netns.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { type NetConf, networkOf } from './net-conf.ts';

/** What flanneld's netlink library writes: nobody's in particular, which is why the rest must fit as well. */
const RTPROT_BOOT = 3;
const MAIN_TABLE = 254;

/** Makes flanneld's routes to pod subnets ours; call it before the reconciler starts. Returns how many there were. */
export function takeOverRoutes(config: NetConf, netns?: Netns): number {
  const networks = ([4, 6] as const).flatMap(family => networkOf(config, family) ?? []);
  using rt = Rtnetlink.open(netns);
  let taken = 0;
  for (const route of rt.listRoutes({ protocol: RTPROT_BOOT })) {
    const destination = parseCidr(route.destination);
    const inPodNetwork = destination && networks.some(network => cidrContainsCidr(network, destination));
    if (!inPodNetwork || route.gateway === undefined || route.linkIndex === undefined) continue;
    if (route.table !== MAIN_TABLE) continue;
    // Equivalent to: `ip route replace DESTINATION via GATEWAY dev LINK [onlink] proto 213`
    rt.addRoute({
      destination: route.destination,
      gateway: route.gateway,
      link: route.linkIndex,
      protocol: ROUTE_PROTOCOL.overlay,
      replace: true,
      ...(route.onlink ? { onlink: true } : {}),
      ...(route.metric ? { metric: route.metric } : {}),
    });
    taken++;
  }
  return taken;
}
