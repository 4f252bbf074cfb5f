// How packets to another node's pods travel, per pool: plain, through tunl0 (IPIP), or through vxlan.calico. BGP says
// which node has a block; this says what the kernel route looks like, and which links it needs. Felix's shapes
// (felix/dataplane/linux/{ipip_mgr,vxlan_mgr,route_mgr}.go): tunnel routes are onlink, CrossSubnet goes plain inside
// the node's own subnet.

import type { Node } from '../../../src/api/types.ts';
import type { KernelState } from '../../../src/kernel/state.ts';
import { cidrContains, parseCidr } from '../../../src/lib/cidr.ts';
import { formatIp, parseIp } from '../../../src/lib/ip.ts';
import type { FibNextHop, FibShape } from '../../fib/fib-table.ts';
import { type CalicoNode, calicoNode, NODE_ANNOTATION, nodeAddress } from './node-info.ts';
import { type Pool, poolOf } from './pools.ts';

/** linux/if_tunnel.h: the fallback device has `remote any`; a second such device is EEXIST, so it must be this one. */
export const IPIP_LINK = 'tunl0';
export const VXLAN_LINK = 'vxlan.calico';
/** Calico's defaults (FelixConfiguration vxlanVNI, vxlanPort). */
const VXLAN_VNI = 4096;
const VXLAN_PORT = 4789;
const IPIP_OVERHEAD_BYTES = 20;
const VXLAN_OVERHEAD_BYTES = 50;
const ALIAS = 'podwire:bgp';

export interface EncapsulationInput {
  readonly nodeName: string;
  readonly nodes: readonly Node[];
  readonly pools: readonly Pool[];
  /** The link and MTU the node's own address is on. */
  readonly underlay: { readonly link: string; readonly mtuBytes: number };
}

interface Peer {
  readonly node: CalicoNode;
  readonly vtep: string | undefined;
  readonly mac: string | undefined;
}

function sameSubnet(self: CalicoNode, nextHop: string): boolean {
  const bytes = parseIp(nextHop);
  return (
    bytes !== undefined && [self.ipv4, self.ipv6].some(own => own !== undefined && cidrContains(own, bytes))
  );
}

/** What the FIB asks for every route: another next hop, or undefined for the plain one. */
export function routeShape(input: EncapsulationInput): FibShape {
  const peers = peersByAddress(input.nodes);
  const self = peers.find(([, { node }]) => node.name === input.nodeName)?.[1].node;
  const byAddress = new Map(peers);
  return (destination, nextHop): FibNextHop | undefined => {
    const pool = poolOf(input.pools, destination.network);
    if (pool === undefined || self === undefined) return undefined;
    const tunnelled = (mode: Pool['ipip']): boolean =>
      mode === 'Always' || (mode === 'CrossSubnet' && !sameSubnet(self, nextHop));
    if (tunnelled(pool.ipip)) return { gateway: nextHop, link: IPIP_LINK, onlink: true };
    const vtep = byAddress.get(nextHop)?.vtep;
    if (tunnelled(pool.vxlan) && vtep !== undefined) return { gateway: vtep, link: VXLAN_LINK, onlink: true };
    return undefined;
  };
}

function peersByAddress(nodes: readonly Node[]): [string, Peer][] {
  return nodes.flatMap(object => {
    const node = calicoNode(object);
    const annotations = object.metadata?.annotations ?? {};
    const peer: Peer = {
      node,
      vtep: annotations[NODE_ANNOTATION.ipv4VxlanTunnelAddress],
      mac: annotations[NODE_ANNOTATION.vxlanTunnelMac],
    };
    return ([4, 6] as const).flatMap(family => {
      const address = nodeAddress(node, family);
      return address === undefined ? [] : [[address, peer] as [string, Peer]];
    });
  });
}

/** The tunnel devices the pools ask for, with this node's addresses and the VTEPs of the others. */
export function tunnelState(input: EncapsulationInput): KernelState {
  const state: Required<Pick<KernelState, 'links' | 'addresses' | 'neighbours' | 'fdb'>> = {
    links: [],
    addresses: [],
    neighbours: [],
    fdb: [],
  };
  const peers = peersByAddress(input.nodes);
  const own = peers.find(([, { node }]) => node.name === input.nodeName)?.[1];
  if (own === undefined) return {};
  const uses = (kind: 'ipip' | 'vxlan'): boolean =>
    input.pools.some(pool => pool[kind] !== 'Never' && pool.selectsNode(own.node.labels));
  if (uses('ipip')) {
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
  if (uses('vxlan')) vxlanState(input, own, peers, state);
  return state;
}

function hostPrefix(address: string | undefined): string | undefined {
  const cidr = address === undefined ? undefined : parseCidr(`${address}/32`);
  return cidr === undefined ? undefined : `${formatIp(cidr.network)}/32`;
}

function vxlanState(
  input: EncapsulationInput,
  own: Peer,
  peers: readonly [string, Peer][],
  state: Required<Pick<KernelState, 'links' | 'addresses' | 'neighbours' | 'fdb'>>,
): void {
  const local = nodeAddress(own.node, 4);
  state.links.push({
    name: VXLAN_LINK,
    kind: 'vxlan',
    up: true,
    alias: ALIAS,
    mtuBytes: input.underlay.mtuBytes - VXLAN_OVERHEAD_BYTES,
    ...(own.mac === undefined ? {} : { mac: own.mac }),
    vxlan: {
      vni: VXLAN_VNI,
      port: VXLAN_PORT,
      learning: false,
      dev: input.underlay.link,
      ...(local === undefined ? {} : { local }),
    },
  });
  const address = hostPrefix(own.vtep);
  if (address !== undefined) state.addresses.push({ link: VXLAN_LINK, address });
  for (const [underlay, { node, vtep, mac }] of peers) {
    if (node.name === own.node.name || vtep === undefined || mac === undefined) continue;
    if (underlay.includes(':')) continue;
    state.neighbours.push({ link: VXLAN_LINK, address: vtep, mac, state: 'permanent' });
    state.fdb.push({ link: VXLAN_LINK, mac, destination: underlay });
  }
}
