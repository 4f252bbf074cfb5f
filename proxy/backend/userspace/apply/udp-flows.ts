// Tracked UDP flows keep the translation that their first packet got. When a Service's port gets a listener, flows that
// went elsewhere must go, and when a listener goes, the flows to it: a client that keeps its port would otherwise talk
// to nobody (kubernetes#139628).
import { Conntrack } from '../../../../src/linux/conntrack.ts';
import type { Netns } from '../../../../src/linux/netns.ts';
import { Rtnetlink } from '../../../../src/linux/rtnetlink.ts';
import { joinHostPort } from '../../../model/types.ts';
import type { Served } from '../plan/plan.ts';

const IPPROTO_UDP = 17;

/** To be called with the new rules in place; how many flows were removed. */
export function removeStaleUdpFlows(
  netns: Netns | undefined,
  opened: readonly Served[],
  closedPorts: ReadonlySet<number>,
): number {
  /** By `ip:port`, and for node ports by port: where flows are to go. */
  const wanted = new Map<string, number>();
  for (const { frontend, proxyPort } of opened)
    if (frontend.protocol === 'UDP')
      for (const { ip, port } of frontend.portals)
        wanted.set(ip === undefined ? String(port) : joinHostPort(ip, port), proxyPort);
  if (wanted.size === 0 && closedPorts.size === 0) return 0;
  const own = ownAddresses(netns);
  using conntrack = Conntrack.open(netns);
  return conntrack.deleteWhere(
    ({ original, reply }) => {
      const { destination, destinationPort = 0 } = original;
      if (own.has(reply.source) && closedPorts.has(reply.sourcePort ?? 0)) return true;
      const proxyPort =
        wanted.get(joinHostPort(destination, destinationPort)) ??
        (own.has(destination) ? wanted.get(String(destinationPort)) : undefined);
      return proxyPort !== undefined && reply.sourcePort !== proxyPort;
    },
    { protocol: IPPROTO_UDP },
  );
}

function ownAddresses(netns: Netns | undefined): Set<string> {
  using rt = Rtnetlink.open(netns);
  return new Set(rt.listAddresses().map(({ address }) => address.split('/')[0] ?? ''));
}
