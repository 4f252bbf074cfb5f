// What the relay has to listen for: a service port becomes one to three frontends, each with the endpoints that may
// answer and the addresses that lead to it. Traffic policies make them differ: the cluster IP may use other endpoints
// than what comes from outside, and a load balancer's address may be for some sources only. Pure.
import type { Endpoint, Family, Protocol, Refusal, ResolvedPort } from '../../../model/types.ts';

/** An address and port that packets are sent to. */
export interface Portal {
  /** Undefined: any address of this node (a node port). */
  ip?: string;
  port: number;
  /** Only from these networks. */
  sources?: readonly string[];
}

export interface Frontend {
  /** The service port's id and which of its frontends this is. */
  readonly key: string;
  readonly name: string;
  readonly family: Family;
  readonly protocol: Exclude<Protocol, 'SCTP'>;
  readonly affinitySeconds: number;
  readonly endpoints: readonly Endpoint[];
  /** What is answered when there are no endpoints. */
  readonly refusal?: Refusal;
  readonly portals: readonly Portal[];
}

function frontend(
  { port }: ResolvedPort,
  which: string,
  endpoints: readonly Endpoint[],
  refusal: Refusal | undefined,
  portals: readonly Portal[],
): Frontend[] {
  if (port.protocol === 'SCTP' || portals.length === 0) return [];
  const { name, family, protocol, affinitySeconds } = port;
  const shared = { key: `${port.id} ${which}`, name, family, protocol, affinitySeconds, portals };
  if (endpoints.length > 0) return [{ ...shared, endpoints }];
  return [{ ...shared, endpoints: [], refusal: refusal ?? 'REJECT' }];
}

/** SCTP has no relay: a userspace proxy would lose its associations' paths (upstream had none either). */
export function frontendsOf(resolved: ResolvedPort): Frontend[] {
  const { port, cluster, local, internalRefusal, externalRefusal } = resolved;
  const cluster_ip: Portal[] = [{ ip: port.clusterIp, port: port.port }];
  const external: Portal[] = [
    ...(port.nodePort === 0 ? [] : [{ port: port.nodePort }]),
    ...port.externalIps.map(ip => ({ ip, port: port.port })),
    ...port.loadBalancerIps.map(ip => ({
      ip,
      port: port.port,
      ...(port.sourceRanges ? { sources: port.sourceRanges } : {}),
    })),
  ];
  if (port.internalPolicyLocal === port.externalPolicyLocal)
    return frontend(resolved, 'all', port.internalPolicyLocal ? local : cluster, internalRefusal, [
      ...cluster_ip,
      ...external,
    ]);
  return [
    ...frontend(
      resolved,
      'internal',
      port.internalPolicyLocal ? local : cluster,
      internalRefusal,
      cluster_ip,
    ),
    ...frontend(resolved, 'external', port.externalPolicyLocal ? local : cluster, externalRefusal, external),
  ];
}
