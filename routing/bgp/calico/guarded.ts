// Addresses that a peer outside the cluster has no business with: those of nodes, and those the API server is reached
// at. A route to one of them would carry the cluster's own control away.
import { type Cidr, makeCidr } from '../../../src/lib/cidr.ts';
import { parseIp } from '../../../src/lib/ip.ts';
import type { CalicoInput } from './input.ts';
import { calicoNode, nodeAddress } from './node-info.ts';

/** Every API server has an endpoint of the Service default/kubernetes, which the server itself writes. */
function apiServers({ endpointSlices, services }: CalicoInput): string[] {
  const ofService = endpointSlices.filter(
    ({ metadata }) =>
      metadata?.namespace === 'default' && metadata.labels?.['kubernetes.io/service-name'] === 'kubernetes',
  );
  const service = services.find(
    ({ metadata }) => metadata?.namespace === 'default' && metadata.name === 'kubernetes',
  );
  return [
    ...ofService.flatMap(slice => (slice.endpoints ?? []).flatMap(({ addresses }) => addresses)),
    ...(service?.spec?.clusterIPs ?? []),
  ];
}

/** Host prefixes. */
export function guardedAddresses(input: CalicoInput): Cidr[] {
  const nodes = input.nodes
    .map(calicoNode)
    .flatMap(node => ([4, 6] as const).flatMap(family => nodeAddress(node, family) ?? []));
  return [...new Set([...nodes, ...apiServers(input)])].flatMap(address => {
    const bytes = parseIp(address);
    return bytes === undefined ? [] : [makeCidr(bytes, bytes.length * 8)];
  });
}
