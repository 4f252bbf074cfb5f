// Where this node is, for the others: `projectcalico.org/IPv4Address` and `IPv6Address`, with the length of the subnet,
// which decides what CrossSubnet and BFD take for a neighbour. Pure.
import { NODE_ANNOTATION } from '../../../routing/bgp/calico/node-info.ts';
import type { Node } from '../../api/types.ts';
import { parseCidr, parseCidrOrIp } from '../../lib/cidr.ts';
import { canonicalIp, formatIp, ipFamily } from '../../lib/ip.ts';

const ANNOTATION: Readonly<Record<4 | 6, string>> = {
  4: NODE_ANNOTATION.ipv4Address,
  6: NODE_ANNOTATION.ipv6Address,
};

/**
 * What is missing or is not this node's any more. Who wrote an address of this node, and with which length, is left
 * alone: people set the length to say what a subnet is, and calico-node was here before us.
 */
export function addressAnnotations(
  node: Node,
  nodeIps: readonly string[],
  /** Of the link that leads to the others: `192.168.64.3/24`. */
  linkAddresses: readonly string[],
): Record<string, string> {
  const known = node.metadata?.annotations ?? {};
  const wanted: Record<string, string> = {};
  const onLink = linkAddresses.flatMap(text => parseCidr(text) ?? []);
  for (const family of [4, 6] as const) {
    const ip = nodeIps.find(address => ipFamily(address) === family);
    if (ip === undefined) continue;
    const own = onLink.find(({ address }) => formatIp(address) === canonicalIp(ip));
    const text = known[ANNOTATION[family]];
    const written = text === undefined ? undefined : parseCidrOrIp(text);
    const isOurs = written !== undefined && onLink.some(one => sameAddress(one.address, written.address));
    if (own !== undefined && !isOurs)
      wanted[ANNOTATION[family]] = `${formatIp(own.address)}/${own.prefixLength}`;
  }
  return wanted;
}

const sameAddress = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
