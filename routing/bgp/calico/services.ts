// Which service addresses this node announces (confd/pkg/backends/calico/routes.go): whole ranges from every node that
// is not excluded; single addresses where a range holds only one, or where externalTrafficPolicy is Local, and then
// only while a ready endpoint runs here. An excluded node announces no service, and neither does a cordoned one as long as
// another node can take over: peers move on before pods stop, and nobody is cut off by a cordon alone.
import type { EndpointSlice, Service } from '../../../src/api/types.ts';
import { type Cidr, cidrContains, formatCidr, makeCidr, parseCidr } from '../../../src/lib/cidr.ts';
import { parseIp } from '../../../src/lib/ip.ts';
import { type CalicoNode, EXCLUDE_LABEL } from './node-info.ts';
import type { BGPConfiguration } from './types.ts';

type Spec = NonNullable<BGPConfiguration['spec']>;

const ranges = (list: readonly { cidr: string }[] | undefined): Cidr[] =>
  (list ?? []).flatMap(({ cidr }) => parseCidr(cidr) ?? []);

const isSingle = (cidr: Cidr): boolean => cidr.prefixLength === cidr.network.length * 8;

export interface ServiceInput {
  readonly node: CalicoNode;
  /** All of them. */
  readonly nodes: readonly CalicoNode[];
  readonly spec: Spec;
  readonly services: readonly Service[];
  readonly endpointSlices: readonly EndpointSlice[];
}

/** Sorted, without repeats. */
export function serviceRoutes(input: ServiceInput): Cidr[] {
  const { node, spec } = input;
  if (isExcluded(node)) return [];
  const heirs = node.unschedulable
    ? input.nodes.filter(one => one.name !== node.name && !one.unschedulable && !isExcluded(one))
    : [];
  const leaving = heirs.length > 0;
  const routes = new Map<string, Cidr>();
  const add = (cidr: Cidr): void => {
    routes.set(formatCidr(cidr), cidr);
  };
  const cluster = ranges(spec.serviceClusterIPs);
  const external = ranges(spec.serviceExternalIPs);
  const balancer = ranges(spec.serviceLoadBalancerIPs);
  const aggregated = spec.serviceLoadBalancerAggregation !== 'Disabled';
  if (!leaving)
    for (const range of [...cluster, ...external, ...(aggregated ? balancer : [])])
      if (!isSingle(range)) add(range);
  for (const service of input.services) {
    const endpoints = endpointsOf(service, input.endpointSlices);
    const local = service.spec?.externalTrafficPolicy === 'Local';
    const consider = (address: string, within: readonly Cidr[], always: boolean): void => {
      const bytes = parseIp(address);
      const range = bytes === undefined ? undefined : within.find(cidr => cidrContains(cidr, bytes));
      if (bytes === undefined || range === undefined) return;
      const family = bytes.length === 4 ? 'IPv4' : 'IPv6';
      const ready = endpoints[family];
      const wanted = local
        ? ready.has(node.name) && !heirs.some(heir => ready.has(heir.name))
        : !leaving && (isSingle(range) || (always && ready.size > 0));
      if (wanted) add(makeCidr(bytes, bytes.length * 8));
    };
    const { spec: s } = service;
    const clusterIps = s?.clusterIPs ?? (s?.clusterIP === undefined ? [] : [s.clusterIP]);
    for (const address of clusterIps) consider(address, cluster, false);
    for (const address of s?.externalIPs ?? []) consider(address, external, false);
    for (const { ip } of service.status?.loadBalancer?.ingress ?? [])
      if (ip !== undefined) consider(ip, balancer, !aggregated);
  }
  return [...routes.keys()].sort().map(key => routes.get(key)!);
}

const isExcluded = ({ labels }: CalicoNode): boolean =>
  labels[EXCLUDE_LABEL] !== undefined && labels[EXCLUDE_LABEL] !== 'false';

/** Nodes with a ready endpoint, by address family; the empty name stands for an endpoint that is on none. */
function endpointsOf(
  service: Service,
  slices: readonly EndpointSlice[],
): Record<'IPv4' | 'IPv6', Set<string>> {
  const nodes = { IPv4: new Set<string>(), IPv6: new Set<string>() };
  for (const slice of slices) {
    if (slice.metadata?.namespace !== service.metadata?.namespace) continue;
    if (slice.metadata?.labels?.['kubernetes.io/service-name'] !== service.metadata?.name) continue;
    if (slice.addressType !== 'IPv4' && slice.addressType !== 'IPv6') continue;
    for (const endpoint of slice.endpoints ?? [])
      if (endpoint.conditions?.ready !== false) nodes[slice.addressType].add(endpoint.nodeName ?? '');
  }
  return nodes;
}
