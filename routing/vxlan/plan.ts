// The VXLAN backend's objects, exactly flannel's (pkg/backend/vxlan), so that our nodes and flannel's share one overlay:
// device flannel.<VNI> (flannel-v6.<VNI>), its /32 (/128) address, and for each peer a permanent neighbour, an FDB entry
// and an onlink route. With DirectRouting a peer on our own link gets a plain route instead. Pure.
import type { KernelState } from '../../src/kernel/state.ts';
import { ROUTE_PROTOCOL } from '../../src/kernel/state.ts';
import { formatIp, type IpFamily } from '../../src/lib/ip.ts';
import type { VxlanBackend } from '../subnet/net-conf.ts';
import type { Peer } from '../subnet/peers.ts';
import type { Self, SelfFamily } from '../subnet/self.ts';
import { isDirect, type Underlay } from '../subnet/underlay.ts';
import type { PeerWays } from '../way-table.ts';

/** What VXLAN adds to a packet: outer Ethernet 14, IP 20 or 40, UDP 8, VXLAN 8. */
const VXLAN_OVERHEAD = { 4: 50, 6: 70 } as const;

export function vxlanDevice(family: IpFamily, vni: number): string {
  return family === 4 ? `flannel.${vni}` : `flannel-v6.${vni}`;
}

/** MTU of the pods: the smallest of the devices, so that one route MTU fits both families. */
export function vxlanMtu(backend: VxlanBackend, underlay: Underlay, families: readonly SelfFamily[]): number {
  const outer = backend.mtuBytes ?? underlay.mtuBytes;
  return outer - Math.max(...families.map(family => VXLAN_OVERHEAD[family.family]));
}

/** The device of one family, its address and its sysctls. */
function planDevice(family: SelfFamily, backend: VxlanBackend, underlay: Underlay): KernelState {
  const link = vxlanDevice(family.family, backend.vni);
  const outer = backend.mtuBytes ?? underlay.mtuBytes;
  return {
    links: [
      {
        name: link,
        kind: 'vxlan',
        up: true,
        mtuBytes: outer - VXLAN_OVERHEAD[family.family],
        mac: family.vtepMac,
        alias: 'podwire:overlay',
        vxlan: {
          vni: backend.vni,
          port: backend.port,
          local: family.localIp,
          dev: underlay.link,
          learning: backend.learning,
          ...(backend.gbp ? { gbp: true } : {}),
        },
      },
    ],
    addresses: [{ link, address: `${formatIp(family.subnet.network)}/${family.family === 4 ? 32 : 128}` }],
    sysctls: [{ path: `net/ipv6/conf/${link}/accept_ra`, value: '0', optional: true }],
    ...(backend.txChecksumOffload === undefined
      ? {}
      : { features: [{ link, name: 'tx-checksum-ip-generic', on: backend.txChecksumOffload }] }),
  };
}

/** The same number for the same subnet in every plan: the address itself for IPv4, a hash for IPv6 (FNV-1a). */
function nexthopId(peer: Peer): number {
  if (peer.family === 4) return Buffer.from(peer.cidr.network).readUInt32BE(0);
  let hash = 0x811c9dc5;
  for (const byte of peer.cidr.network) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0 || 1;
}

/** Equivalent to: `ip neigh replace`, `bridge fdb append`, `ip route replace … via … dev flannel.1 onlink`. */
export function planVxlanPeer(
  peer: Peer,
  backend: VxlanBackend,
  underlay: Underlay,
  viaNexthop: boolean,
): PeerWays | undefined {
  const protocol = ROUTE_PROTOCOL.overlay;
  if (backend.directRouting && isDirect(underlay, peer.publicIp))
    return {
      route: { destination: peer.subnet, gateway: peer.publicIp, link: underlay.link, protocol },
    };
  if (!peer.vtep) return undefined;
  const link = vxlanDevice(peer.family, backend.vni);
  const gateway = formatIp(peer.cidr.network);
  const { mac } = peer.vtep;
  const id = nexthopId(peer);
  return {
    ...(viaNexthop
      ? {
          nexthop: { id, family: peer.family, gateway, link, onlink: true, protocol },
          route: { destination: peer.subnet, nexthopId: id, protocol },
        }
      : { route: { destination: peer.subnet, gateway, link, onlink: true, protocol } }),
    neighbour: { link, address: gateway, mac, state: 'permanent' },
    fdb: { link, mac, destination: peer.publicIp },
  };
}

/** The devices with their addresses and settings. */
export function planVxlanDevices(self: Self, backend: VxlanBackend, underlay: Underlay): KernelState {
  const devices = self.families.map(family => planDevice(family, backend, underlay));
  return {
    links: devices.flatMap(device => device.links ?? []),
    addresses: devices.flatMap(device => device.addresses ?? []),
    sysctls: devices.flatMap(device => device.sysctls ?? []),
    ...(backend.txChecksumOffload === undefined
      ? {}
      : { features: devices.flatMap(device => device.features ?? []) }),
  };
}
