// The ipip backend's objects (flannel pkg/backend/ipip): one tunnel device without a fixed peer, and for each peer an
// onlink route through it whose gateway is the peer's own address: the kernel takes that as the outer destination.
// IPv4 only. 20 bytes less than the underlay where VXLAN takes 50. With DirectRouting a peer on our link goes plain. Pure.
import type { KernelState } from '../../src/kernel/state.ts';
import { ROUTE_PROTOCOL } from '../../src/kernel/state.ts';
import { formatIp } from '../../src/lib/ip.ts';
import type { IpipBackend } from '../subnet/net-conf.ts';
import type { Peer } from '../subnet/peers.ts';
import type { Self } from '../subnet/self.ts';
import { isDirect, type Underlay } from '../subnet/underlay.ts';
import type { PeerWays } from '../way-table.ts';

export const IPIP_DEVICE = 'flannel.ipip';
/** The outer IPv4 header. */
const IPIP_OVERHEAD = 20;

export function ipipMtu(underlay: Underlay): number {
  return underlay.mtuBytes - IPIP_OVERHEAD;
}

/** Equivalent to: `ip link add flannel.ipip type ipip local IP`. */
export function planIpipDevice(self: Self, underlay: Underlay): KernelState {
  const own = self.families.find(family => family.family === 4);
  if (!own) return {};
  return {
    links: [
      {
        name: IPIP_DEVICE,
        kind: 'ipip',
        up: true,
        mtuBytes: ipipMtu(underlay),
        alias: 'podwire:overlay',
        ipip: { local: own.localIp },
      },
    ],
    addresses: [{ link: IPIP_DEVICE, address: `${formatIp(own.subnet.network)}/32` }],
  };
}

/** Equivalent to: `ip route replace SUBNET via PEER dev flannel.ipip onlink`. */
export function planIpipPeer(peer: Peer, backend: IpipBackend, underlay: Underlay): PeerWays {
  const { subnet, publicIp } = peer;
  const way = { destination: subnet, gateway: publicIp, protocol: ROUTE_PROTOCOL.overlay };
  return {
    route:
      backend.directRouting && isDirect(underlay, publicIp)
        ? { ...way, link: underlay.link }
        : { ...way, link: IPIP_DEVICE, onlink: true },
  };
}
