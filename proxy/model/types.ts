// The service proxy's own view of the world: plain data, one entry for each port, protocol and address family of a
// Service, with its endpoints already chosen. Backends (iptables, nftables, userspace) and `explain` read only this.

export type Protocol = 'TCP' | 'UDP' | 'SCTP';
export type Family = 4 | 6;

/** One port of one Service in one address family, as its spec says. Addresses are canonical text. */
export interface ServicePort {
  /** Unique among all families: `4 default/web:http TCP`. */
  readonly id: string;
  /** The Service: `default/web`. */
  readonly service: string;
  /** As kube-proxy prints and hashes it: `default/web:http`, or `default/web` for an unnamed port. */
  readonly name: string;
  readonly family: Family;
  readonly protocol: Protocol;
  readonly port: number;
  readonly clusterIp: string;
  /** 0 when there is none. */
  readonly nodePort: number;
  readonly externalIps: readonly string[];
  /** status.loadBalancer.ingress with ipMode VIP. */
  readonly loadBalancerIps: readonly string[];
  /** Canonical CIDRs; absent means that every source may use the load balancer's addresses. */
  readonly sourceRanges?: readonly string[];
  readonly internalPolicyLocal: boolean;
  readonly externalPolicyLocal: boolean;
  /** Session affinity by client address, for so many seconds; 0 when off. */
  readonly affinitySeconds: number;
  /** TCP port of the health check, 0 when there is none. */
  readonly healthCheckNodePort: number;
}

/** One endpoint of a service port. */
export interface Endpoint {
  readonly ip: string;
  readonly port: number;
  /** On this node. */
  readonly local: boolean;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  /** Zones and nodes that should prefer this endpoint (EndpointSlice hints). */
  readonly zoneHints: readonly string[];
  readonly nodeHints: readonly string[];
}

/** Why traffic is refused although the Service exists. */
export type Refusal = 'REJECT' | 'DROP';

/** A service port with the endpoints each policy may use on this node. */
export interface ResolvedPort {
  readonly port: ServicePort;
  /** For the Cluster policy, and for short-circuited local traffic. */
  readonly cluster: readonly Endpoint[];
  /** For the Local policy. */
  readonly local: readonly Endpoint[];
  /** The union, each once. */
  readonly reachable: readonly Endpoint[];
  /** UDP only: every endpoint that still answers, wherever it is; a tracked flow to another one is stale. */
  readonly serving?: readonly string[];
  /** Usable endpoints exist somewhere, though perhaps not for this node's policy. */
  readonly hasEndpoints: boolean;
  /** What becomes of traffic to the cluster IP, when it goes to no endpoint. */
  readonly internalRefusal?: Refusal;
  /** The same for node port, external and load balancer addresses. */
  readonly externalRefusal?: Refusal;
}

/** True when the port can be reached from outside the cluster at all: source ranges may leave nobody at its load balancer. */
export function isExternallyAccessible(port: ServicePort): boolean {
  const balanced = port.loadBalancerIps.length > 0 && port.sourceRanges?.length !== 0;
  return port.nodePort !== 0 || port.externalIps.length > 0 || balanced;
}

/** `10.0.0.1:80`, `[fd00::1]:80`: Go's net.JoinHostPort, which the chain hashes are made of. */
export function joinHostPort(ip: string, port: number): string {
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}
