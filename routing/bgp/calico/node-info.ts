// What Calico keeps about a node: annotations of the Node object (libcalico-go/lib/backend/k8s/resources/node.go), with
// the node's InternalIP where nothing was written. Also a router id that is always valid.
import { createHash } from 'node:crypto';
import type { Node } from '../../../src/api/types.ts';
import { type Cidr, cidrContains, parseCidrOrIp } from '../../../src/lib/cidr.ts';
import { formatIp, parseIp } from '../../../src/lib/ip.ts';
import { parseAsNumber } from './names.ts';

const A = 'projectcalico.org/';

export const NODE_ANNOTATION = {
  ipv4Address: `${A}IPv4Address`,
  ipv6Address: `${A}IPv6Address`,
  asNumber: `${A}ASNumber`,
  clusterId: `${A}RouteReflectorClusterID`,
  ipv4TunnelAddress: `${A}IPv4IPIPTunnelAddr`,
  ipv4VxlanTunnelAddress: `${A}IPv4VXLANTunnelAddr`,
  vxlanTunnelMac: `${A}VXLANTunnelMACAddr`,
  ipv6VxlanTunnelAddress: `${A}IPv6VXLANTunnelAddr`,
  vxlanTunnelMacV6: `${A}VXLANTunnelMACAddrV6`,
} as const;

/** Nodes with this label announce no services. */
export const EXCLUDE_LABEL = 'node.kubernetes.io/exclude-from-external-load-balancers';

export interface CalicoNode {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Address with the length of its subnet, which CrossSubnet compares. */
  readonly ipv4: Cidr | undefined;
  readonly ipv6: Cidr | undefined;
  readonly asn: number | undefined;
  /** Set: the node is a route reflector and leaves the mesh. */
  readonly clusterId: string | undefined;
  readonly ipv4TunnelAddress: string | undefined;
  readonly unschedulable: boolean;
}

export function calicoNode(node: Node): CalicoNode {
  const annotations = node.metadata?.annotations ?? {};
  const addresses = (node.status?.addresses ?? []).filter(({ type }) => type === 'InternalIP');
  const internal = (family: 4 | 6): Cidr | undefined => {
    for (const { address } of addresses) {
      const cidr = parseCidrOrIp(address);
      if (cidr?.family === family) return cidr;
    }
    return undefined;
  };
  const annotated = (key: string): Cidr | undefined => {
    const text = annotations[key];
    return text === undefined ? undefined : parseCidrOrIp(text);
  };
  return {
    name: node.metadata?.name ?? '',
    labels: node.metadata?.labels ?? {},
    ipv4: annotated(NODE_ANNOTATION.ipv4Address) ?? internal(4),
    ipv6: annotated(NODE_ANNOTATION.ipv6Address) ?? internal(6),
    asn: parseAsNumber(annotations[NODE_ANNOTATION.asNumber]),
    clusterId: annotations[NODE_ANNOTATION.clusterId] || undefined,
    ipv4TunnelAddress: annotations[NODE_ANNOTATION.ipv4TunnelAddress],
    unschedulable: node.spec?.unschedulable === true,
  };
}

export function nodeAddress(node: CalicoNode, family: 4 | 6): string | undefined {
  const cidr = family === 4 ? node.ipv4 : node.ipv6;
  return cidr === undefined ? undefined : formatIp(cidr.address);
}

/** True when no router is between the node and the address, as far as the node's own prefix length says. */
export function inOwnSubnet(node: CalicoNode, address: string): boolean {
  const bytes = parseIp(address);
  return (
    bytes !== undefined && [node.ipv4, node.ipv6].some(own => own !== undefined && cidrContains(own, bytes))
  );
}

/**
 * The node's IPv4 address; without one, a hash of its name. Calico's hash may fall into class D or E, which peers
 * refuse ("bad BGP identifier", calico#5146), so the first octet is kept in 1..223 and out of 127.
 */
export function routerIdOf(node: CalicoNode): string {
  const address = nodeAddress(node, 4);
  if (address !== undefined) return address;
  const hash = createHash('sha256').update(node.name).digest();
  const first = 1 + (hash[0]! % 223);
  return `${first === 127 ? 126 : first}.${hash[1]}.${hash[2]}.${hash[3]}`;
}
