// How packets to another node's pods travel, per pool: plain, through tunl0 (IPIP), or through vxlan.calico. BGP says
// which node has a block; this says what the kernel route looks like, and which links it needs. Felix's shapes
// (felix/dataplane/linux/{ipip_mgr,vxlan_mgr,route_mgr}.go): tunnel routes are onlink, CrossSubnet goes plain inside
// the node's own subnet.

import type { Node } from '../../../src/api/types.ts';
import { type KernelState, ROUTE_PROTOCOL } from '../../../src/kernel/state.ts';
import { formatCidr } from '../../../src/lib/cidr.ts';
import { canonicalIp, formatIp, ipFamily, parseIp } from '../../../src/lib/ip.ts';
import type { FibNextHop, FibShape } from '../../fib/fib-table.ts';
import { type CalicoNode, calicoNode, inOwnSubnet, NODE_ANNOTATION, nodeAddress } from './node-info.ts';
import { type Pool, poolOf } from './pools.ts';

/** linux/if_tunnel.h: the fallback device has `remote any`; a second such device is EEXIST, so it must be this one. */
export const IPIP_LINK = 'tunl0';
/** Felix's names: a device for each family. */
export const VXLAN_LINK: Readonly<Record<4 | 6, string>> = { 4: 'vxlan.calico', 6: 'vxlan-v6.calico' };
/** Calico's defaults (FelixConfiguration vxlanVNI, vxlanPort). */
const VXLAN_VNI = 4096;
const VXLAN_PORT = 4789;
const IPIP_OVERHEAD_BYTES = 20;
/** Outer Ethernet 14, IP 20 or 40, UDP 8, VXLAN 8. */
const VXLAN_OVERHEAD_BYTES: Readonly<Record<4 | 6, number>> = { 4: 50, 6: 70 };
const ALIAS = 'podwire:bgp';

export interface EncapsulationInput {
  readonly nodeName: string;
  readonly nodes: readonly Node[];
  readonly pools: readonly Pool[];
  /** The link and MTU the node's own address is on. */
  readonly underlay: { readonly link: string; readonly mtuBytes: number };
}

/** A node's end of the VXLAN of one family. */
interface Vtep {
  readonly address: string | undefined;
  readonly mac: string | undefined;
}

interface Peer {
  readonly node: CalicoNode;
  readonly vtep: Readonly<Record<4 | 6, Vtep>>;
}

type TunnelState = Required<
  Pick<KernelState, 'links' | 'addresses' | 'routes' | 'neighbours' | 'fdb' | 'sysctls'>
>;

/** What the FIB asks for every route: another next hop, or undefined for the plain one. */
export function routeShape(input: EncapsulationInput): FibShape {
  const peers = peersByAddress(input.nodes);
  const self = peers.find(([, { node }]) => node.name === input.nodeName)?.[1].node;
  const byAddress = new Map(peers);
  return (destination, nextHop): FibNextHop | undefined => {
    const pool = poolOf(input.pools, destination.network);
    if (pool === undefined || self === undefined) return undefined;
    const tunnelled = (mode: Pool['ipip']): boolean =>
      mode === 'Always' || (mode === 'CrossSubnet' && !inOwnSubnet(self, nextHop));
    if (tunnelled(pool.ipip)) return { gateway: nextHop, link: IPIP_LINK, onlink: true };
    const { family } = destination;
    const vtep = byAddress.get(nextHop)?.vtep[family].address;
    if (tunnelled(pool.vxlan) && vtep !== undefined)
      return { gateway: vtep, link: VXLAN_LINK[family], onlink: true };
    return undefined;
  };
}

/** Equal texts: routes have the same shapes. What routeShape looks at, and nothing else. */
export function shapeKey({ nodeName, nodes, pools }: EncapsulationInput): string {
  const tunnels = peersByAddress(nodes).map(([address, { node, vtep }]) => [
    address,
    vtep[4].address,
    vtep[6].address,
    ...(node.name === nodeName ? [node.ipv4, node.ipv6].map(own => own && formatCidr(own)) : []),
  ]);
  return JSON.stringify([pools.map(({ cidr, ipip, vxlan }) => [formatCidr(cidr), ipip, vxlan]), tunnels]);
}

/** What pods must leave for the tunnels of the pools they may be in; 0 without any. */
export function tunnelOverheadBytes(pools: readonly Pool[]): number {
  const overheads = pools.map(({ cidr, ipip, vxlan }) => {
    if (vxlan !== 'Never') return VXLAN_OVERHEAD_BYTES[cidr.family];
    return ipip === 'Never' ? 0 : IPIP_OVERHEAD_BYTES;
  });
  return Math.max(0, ...overheads);
}

function peersByAddress(nodes: readonly Node[]): [string, Peer][] {
  return nodes.flatMap(object => {
    const node = calicoNode(object);
    const annotations = object.metadata?.annotations ?? {};
    const peer: Peer = {
      node,
      vtep: {
        4: {
          address: annotations[NODE_ANNOTATION.ipv4VxlanTunnelAddress],
          mac: annotations[NODE_ANNOTATION.vxlanTunnelMac],
        },
        6: {
          address: canonicalIp(annotations[NODE_ANNOTATION.ipv6VxlanTunnelAddress] ?? ''),
          mac: annotations[NODE_ANNOTATION.vxlanTunnelMacV6],
        },
      },
    };
    return ([4, 6] as const).flatMap(family => {
      const address = nodeAddress(node, family);
      return address === undefined ? [] : [[address, peer] as [string, Peer]];
    });
  });
}

/** The tunnel devices the pools ask for, with this node's addresses and the VTEPs of the others. */
export function tunnelState(input: EncapsulationInput): KernelState {
  const state: TunnelState = {
    ...{ links: [], addresses: [], routes: [], neighbours: [], fdb: [], sysctls: [] },
  };
  const peers = peersByAddress(input.nodes);
  const own = peers.find(([, { node }]) => node.name === input.nodeName)?.[1];
  if (own === undefined) return {};
  const uses = (kind: 'ipip' | 'vxlan', family: 4 | 6): boolean =>
    input.pools.some(
      pool => pool[kind] !== 'Never' && pool.cidr.family === family && pool.selectsNode(own.node.labels),
    );
  if (uses('ipip', 4)) {
    state.links.push({
      name: IPIP_LINK,
      kind: 'existing',
      fallbackOf: 'ipip',
      up: true,
      mtuBytes: input.underlay.mtuBytes - IPIP_OVERHEAD_BYTES,
    });
    const address = hostPrefix(own.node.ipv4TunnelAddress);
    if (address !== undefined) state.addresses.push({ link: IPIP_LINK, address });
  }
  for (const family of [4, 6] as const)
    if (uses('vxlan', family)) vxlanState(input, { own, peers, family }, state);
  return state;
}

function hostPrefix(address: string | undefined): string | undefined {
  const bytes = address === undefined ? undefined : parseIp(address);
  return bytes === undefined ? undefined : `${formatIp(bytes)}/${bytes.length * 8}`;
}

interface VxlanPeers {
  readonly own: Peer;
  readonly peers: readonly [string, Peer][];
  readonly family: 4 | 6;
}

function vxlanState(input: EncapsulationInput, { own, peers, family }: VxlanPeers, state: TunnelState): void {
  const local = nodeAddress(own.node, family);
  const link = VXLAN_LINK[family];
  const { mac, address } = own.vtep[family];
  state.links.push({
    name: link,
    kind: 'vxlan',
    up: true,
    alias: ALIAS,
    mtuBytes: input.underlay.mtuBytes - VXLAN_OVERHEAD_BYTES[family],
    ...(mac === undefined ? {} : { mac }),
    vxlan: {
      vni: VXLAN_VNI,
      port: VXLAN_PORT,
      learning: false,
      dev: input.underlay.link,
      ...(local === undefined ? {} : { local }),
    },
  });
  if (family === 6)
    state.sysctls.push({ path: `net/ipv6/conf/${link}/accept_ra`, value: '0', optional: true });
  const prefix = hostPrefix(address);
  if (prefix !== undefined) state.addresses.push({ link, address: prefix });
  for (const [underlay, { node, vtep }] of peers) {
    const theirs = vtep[family];
    if (node.name === own.node.name || theirs.address === undefined || theirs.mac === undefined) continue;
    if (ipFamily(underlay) !== family) continue;
    state.neighbours.push({ link, address: theirs.address, mac: theirs.mac, state: 'permanent' });
    state.fdb.push({ link, mac: theirs.mac, destination: underlay });
    // Linux takes no IPv6 gateway that it would reach by another link, onlink or not (ip6_route_check_nh_onlink): a block
    // that goes plain now holds its node's VTEP address too, and could never move into the tunnel.
    const way = family === 6 ? hostPrefix(theirs.address) : undefined;
    if (way !== undefined) state.routes.push({ destination: way, link, protocol: ROUTE_PROTOCOL.bgp });
  }
}
