// This node's ends of the pools' tunnels: an address of the pools for tunl0, vxlan.calico and vxlan-v6.calico, and a MAC
// for the latter two, published as annotations of the Node for the others (calico's node/pkg/allocateip). Kept once given,
// since peers build routes on them; given back when no pool asks for the tunnel any more; replaced when the address is
// not in a pool, or is somebody else's, now.
import { createHash } from 'node:crypto';
import type { AddressSource } from '../../../cni/ipam/podwire/podwire-ipam.ts';
import { NODE_ANNOTATION } from '../../../routing/bgp/calico/node-info.ts';
import { type Pool, poolOf } from '../../../routing/bgp/calico/pools.ts';
import type { Node, Stored } from '../../api/types.ts';
import { canonicalIp, parseIp } from '../../lib/ip.ts';

export interface TunnelAddressesOptions {
  readonly nodeName: string;
  readonly addresses: AddressSource;
  /** null takes an annotation away. */
  readonly annotate: (annotations: Record<string, string | null>) => Promise<void>;
}

interface Tunnel {
  readonly kind: 'ipip' | 'vxlan';
  readonly family: 4 | 6;
  readonly handle: string;
  /** As Calico names it in the allocation's attributes. */
  readonly type: string;
  readonly annotation: string;
  readonly macAnnotation?: string;
}

const TUNNELS: readonly Tunnel[] = [
  {
    kind: 'ipip',
    family: 4,
    handle: 'ipip-tunnel-addr',
    type: 'ipipTunnelAddress',
    annotation: NODE_ANNOTATION.ipv4TunnelAddress,
  },
  {
    kind: 'vxlan',
    family: 4,
    handle: 'vxlan-tunnel-addr',
    type: 'vxlanTunnelAddress',
    annotation: NODE_ANNOTATION.ipv4VxlanTunnelAddress,
    macAnnotation: NODE_ANNOTATION.vxlanTunnelMac,
  },
  {
    kind: 'vxlan',
    family: 6,
    handle: 'vxlan-v6-tunnel-addr',
    type: 'vxlanV6TunnelAddress',
    annotation: NODE_ANNOTATION.ipv6VxlanTunnelAddress,
    macAnnotation: NODE_ANNOTATION.vxlanTunnelMacV6,
  },
];

/** Locally administered, unicast, and the same after every start; another one for each family. */
export function tunnelMac(nodeName: string, family: 4 | 6): string {
  const hash = createHash('sha256')
    .update(family === 4 ? nodeName : `${nodeName} v6`)
    .digest();
  return ['66', ...[...hash.subarray(0, 5)].map(byte => byte.toString(16).padStart(2, '0'))].join(':');
}

export class TunnelAddresses {
  readonly #options: TunnelAddressesOptions;
  /** Annotations whose address was seen to be ours in IPAM; asked once for each value. */
  readonly #verified = new Map<string, string>();

  constructor(options: TunnelAddressesOptions) {
    this.#options = options;
  }

  /** Publishes what is missing, takes back what is not used. The Node's change brings the next plan. */
  async ensure(node: Stored<Node>, pools: readonly Pool[]): Promise<void> {
    const known = node.metadata.annotations ?? {};
    const labels = node.metadata.labels ?? {};
    const wanted: Record<string, string | null> = {};
    for (const tunnel of TUNNELS) {
      const { kind, family, annotation, macAnnotation } = tunnel;
      const of = pools.filter(
        pool => pool[kind] !== 'Never' && pool.cidr.family === family && pool.selectsNode(labels),
      );
      const current = known[annotation];
      if (of.length === 0) {
        if (current === undefined) continue;
        await this.#release(tunnel);
        wanted[annotation] = null;
        if (macAnnotation !== undefined) wanted[macAnnotation] = null;
        continue;
      }
      // A pool that is disabled gives no new addresses; what has one keeps it.
      const mayAssign = of.some(pool => !pool.disabled);
      const address = await this.#address(tunnel, current, pools, mayAssign);
      if (address !== undefined && address !== current) wanted[annotation] = address;
      if (macAnnotation !== undefined && address !== undefined && known[macAnnotation] === undefined)
        wanted[macAnnotation] = tunnelMac(this.#options.nodeName, family);
    }
    if (Object.keys(wanted).length > 0) await this.#options.annotate(wanted);
  }

  async #address(
    tunnel: Tunnel,
    current: string | undefined,
    pools: readonly Pool[],
    mayAssign: boolean,
  ): Promise<string | undefined> {
    const { addresses, nodeName } = this.#options;
    const bytes = current === undefined ? undefined : parseIp(current);
    const inPool = bytes !== undefined && poolOf(pools, bytes) !== undefined;
    if (current !== undefined && inPool && this.#verified.get(tunnel.annotation) === current) return current;
    const handle = `${tunnel.handle}-${nodeName}`;
    const held = (await addresses.addresses(handle)).filter(text => {
      const own = parseIp(text);
      return own !== undefined && poolOf(pools, own) !== undefined;
    });
    let address = held.find(text => text === canonicalIp(current ?? '')) ?? held[0];
    if (address === undefined) {
      if (!mayAssign) return inPool ? current : undefined;
      // An address that is in no pool any more must not be held beside the new one.
      if (current !== undefined && !inPool) await addresses.release(handle);
      const { type, family } = tunnel;
      address = await addresses.assign({ handle, family, attributes: { type } });
    }
    this.#verified.set(tunnel.annotation, address);
    return address;
  }

  async #release({ handle, annotation }: Tunnel): Promise<void> {
    this.#verified.delete(annotation);
    await this.#options.addresses.release(`${handle}-${this.#options.nodeName}`);
  }
}
