// Which endpoints each traffic policy may use on this node: Kubernetes pkg/proxy/topology.go (KEP-1669 terminating
// endpoints, KEP-2433 and KEP-4444 hints), and what happens to traffic when there are none. Pure.
import {
  type Endpoint,
  isExternallyAccessible,
  joinHostPort,
  type ResolvedPort,
  type ServicePort,
} from './types.ts';

/** Where this proxy runs. */
export interface NodeTopology {
  name: string;
  /** Label topology.kubernetes.io/zone. */
  zone?: string;
}

/** Hints count only when every ready endpoint has them and one is meant for us: half-written hints must not starve. */
function preferred(endpoints: readonly Endpoint[], node: NodeTopology): (endpoint: Endpoint) => boolean {
  const ready = endpoints.filter(endpoint => endpoint.ready);
  const usable = (hints: (endpoint: Endpoint) => readonly string[], wanted: string | undefined): boolean =>
    wanted !== undefined &&
    wanted !== '' &&
    ready.every(endpoint => hints(endpoint).length > 0) &&
    ready.some(endpoint => hints(endpoint).includes(wanted));
  if (usable(endpoint => endpoint.nodeHints, node.name))
    return endpoint => endpoint.nodeHints.includes(node.name);
  const { zone } = node;
  if (usable(endpoint => endpoint.zoneHints, zone))
    return endpoint => endpoint.zoneHints.includes(zone ?? '');
  return () => true;
}

function readyElseTerminating(
  endpoints: readonly Endpoint[],
  filter: (endpoint: Endpoint) => boolean,
): readonly Endpoint[] {
  const ready = endpoints.filter(endpoint => endpoint.ready && filter(endpoint));
  if (ready.length === endpoints.length) return endpoints;
  return ready.length > 0 ? ready : endpoints.filter(endpoint => endpoint.serving && endpoint.terminating);
}

/** Each once, in the order that all lists of endpoints have. */
function union(cluster: readonly Endpoint[], local: readonly Endpoint[]): readonly Endpoint[] {
  if (local.length === 0) return cluster;
  if (cluster.length === 0) return local;
  const both = new Map<string, Endpoint>();
  for (const endpoint of [...cluster, ...local]) both.set(joinHostPort(endpoint.ip, endpoint.port), endpoint);
  return [...both].sort(([left], [right]) => (left < right ? -1 : 1)).map(([, endpoint]) => endpoint);
}

/** Chooses the endpoints of a service port for this node, and the answer where there are none. */
export function resolvePort(
  port: ServicePort,
  endpoints: readonly Endpoint[],
  node: NodeTopology,
): ResolvedPort {
  const external = isExternallyAccessible(port);
  // Traffic of pods and of the node itself to an external address takes the Cluster endpoints, whatever the policy.
  const usesCluster = !port.internalPolicyLocal || external;
  const usesLocal = port.internalPolicyLocal || (port.externalPolicyLocal && external);
  const cluster = usesCluster ? readyElseTerminating(endpoints, preferred(endpoints, node)) : [];
  const local = usesLocal
    ? readyElseTerminating(
        endpoints.filter(endpoint => endpoint.local),
        () => true,
      )
    : [];
  const usable = (endpoint: Endpoint): boolean =>
    endpoint.ready || (endpoint.serving && endpoint.terminating);
  const hasEndpoints = cluster.length > 0 || (usesLocal && endpoints.some(usable));
  const resolved: ResolvedPort = {
    port,
    cluster,
    local,
    reachable: union(cluster, local),
    ...(port.protocol === 'UDP'
      ? {
          serving: endpoints
            .filter(endpoint => endpoint.serving)
            .map(({ ip, port: number }) => joinHostPort(ip, number)),
        }
      : {}),
    hasEndpoints,
  };
  const refusal = (policyLocal: boolean): ResolvedPort['internalRefusal'] => {
    if (!hasEndpoints) return 'REJECT';
    return policyLocal && local.length === 0 ? 'DROP' : undefined;
  };
  return {
    ...resolved,
    internalRefusal: refusal(port.internalPolicyLocal),
    externalRefusal: refusal(port.externalPolicyLocal),
  };
}
