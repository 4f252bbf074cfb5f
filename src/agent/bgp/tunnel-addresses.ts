// This node's end of the pools' tunnels: an address of the pools for tunl0 or vxlan.calico, and a MAC, published as
// annotations of the Node for the others (calico's node/pkg/allocateip). Kept once given: peers build routes on them.
import { createHash } from 'node:crypto';
import type { AddressSource } from '../../../cni/ipam/podwire/podwire-ipam.ts';
import { NODE_ANNOTATION } from '../../../routing/bgp/calico/node-info.ts';
import type { Pool } from '../../../routing/bgp/calico/pools.ts';
import type { Node, Stored } from '../../api/types.ts';

export interface TunnelAddressesOptions {
  readonly nodeName: string;
  readonly addresses: AddressSource;
  readonly annotate: (annotations: Record<string, string>) => Promise<void>;
}

const KINDS = {
  ipip: { annotation: NODE_ANNOTATION.ipv4TunnelAddress, type: 'ipipTunnelAddress' },
  vxlan: { annotation: NODE_ANNOTATION.ipv4VxlanTunnelAddress, type: 'vxlanTunnelAddress' },
} as const;

/** Locally administered, unicast, and the same after every start. */
export function tunnelMac(nodeName: string): string {
  const hash = createHash('sha256').update(nodeName).digest();
  return ['66', ...[...hash.subarray(0, 5)].map(byte => byte.toString(16).padStart(2, '0'))].join(':');
}

/** Publishes what is missing. The Node's change brings the next plan. */
export async function ensureTunnelAddresses(
  node: Stored<Node>,
  pools: readonly Pool[],
  { nodeName, addresses, annotate }: TunnelAddressesOptions,
): Promise<void> {
  const known = node.metadata.annotations ?? {};
  const wanted: Record<string, string> = {};
  for (const kind of ['ipip', 'vxlan'] as const) {
    const used = pools.some(
      pool =>
        pool[kind] !== 'Never' &&
        pool.cidr.family === 4 &&
        !pool.disabled &&
        pool.selectsNode(node.metadata.labels ?? {}),
    );
    const { annotation, type } = KINDS[kind];
    if (!used || known[annotation] !== undefined) continue;
    wanted[annotation] = await addresses.assign({
      handle: `${kind}-tunnel-addr-${nodeName}`,
      family: 4,
      attributes: { type },
    });
    if (kind === 'vxlan') wanted[NODE_ANNOTATION.vxlanTunnelMac] = tunnelMac(nodeName);
  }
  if (Object.keys(wanted).length > 0) await annotate(wanted);
}
