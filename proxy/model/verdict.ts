// What the proxy does with one packet, and why, from the model alone: the answer of `podwire explain`, the same for every
// mode. It follows the order of checks that the modes' rules have; a differential test holds it against the kernel. Pure.
import { cidrContains, parseCidr } from '../../src/lib/cidr.ts';
import { isLoopback, parseIp } from '../../src/lib/ip.ts';
import type { Endpoint, Protocol, ResolvedPort } from './types.ts';

export interface ProxyPacket {
  protocol: Protocol;
  source: string;
  destination: string;
  destinationPort: number;
}

/** What a verdict depends on beside the Services. */
export interface VerdictContext {
  /** Every address this node answers to. */
  nodeAddresses: ReadonlySet<string>;
  /** True for sources that are pods of this cluster; absent when nothing tells (detectLocalMode none). */
  isLocalPod?: (source: string) => boolean;
  masqueradeAll: boolean;
  localhostNodePorts: boolean;
  /** Addresses that node ports answer on; every address of the node when absent. */
  nodePortAddresses?: ReadonlySet<string>;
}

export type Frontend = 'cluster IP' | 'external IP' | 'load balancer IP' | 'node port';

export interface ProxyVerdict {
  /** `pass`: the proxy does not touch it. */
  action: 'endpoint' | 'reject' | 'drop' | 'pass';
  /** The Service's port, `default/web:http`. */
  port?: string;
  frontend?: Frontend;
  /** One of these gets it, at random or by affinity. */
  endpoints: readonly Endpoint[];
  /** The endpoint sees the node's address in place of the source's, whichever endpoint it is. */
  masquerade: boolean;
  affinitySeconds: number;
  /** Why, step by step. */
  reasons: string[];
}

const PASS: Omit<ProxyVerdict, 'reasons'> = {
  action: 'pass',
  endpoints: [],
  masquerade: false,
  affinitySeconds: 0,
};

/** The port that this packet is for, and by which of its addresses. */
function findFrontend(
  packet: ProxyPacket,
  ports: Iterable<ResolvedPort>,
  context: VerdictContext,
): { resolved: ResolvedPort; frontend: Frontend } | undefined {
  const { destination, destinationPort, protocol } = packet;
  const family = destination.includes(':') ? 6 : 4;
  let nodePort: ResolvedPort | undefined;
  for (const resolved of ports) {
    const { port } = resolved;
    if (port.protocol !== protocol || port.family !== family) continue;
    if (port.nodePort !== 0 && port.nodePort === destinationPort) nodePort = resolved;
    if (port.port !== destinationPort) continue;
    if (port.clusterIp === destination) return { resolved, frontend: 'cluster IP' };
    if (port.externalIps.includes(destination)) return { resolved, frontend: 'external IP' };
    if (port.loadBalancerIps.includes(destination)) return { resolved, frontend: 'load balancer IP' };
  }
  if (!nodePort || !answersNodePorts(destination, context)) return undefined;
  return { resolved: nodePort, frontend: 'node port' };
}

function answersNodePorts(destination: string, context: VerdictContext): boolean {
  const bytes = parseIp(destination);
  if (bytes && isLoopback(bytes) && !(bytes.length === 4 && context.localhostNodePorts)) return false;
  return (context.nodePortAddresses ?? context.nodeAddresses).has(destination);
}

/** loadBalancerSourceRanges; a node inside a range may also come with the load balancer's own address. */
function mayEnter(packet: ProxyPacket, resolved: ResolvedPort, context: VerdictContext): boolean {
  const { sourceRanges, loadBalancerIps } = resolved.port;
  if (!sourceRanges) return true;
  const inRange = (ip: string): boolean =>
    sourceRanges.some(text => {
      const cidr = parseCidr(text);
      const bytes = parseIp(ip);
      return cidr && bytes && cidrContains(cidr, bytes);
    });
  if (inRange(packet.source)) return true;
  return loadBalancerIps.includes(packet.source) && [...context.nodeAddresses].some(inRange);
}

class Judge {
  readonly #packet: ProxyPacket;
  readonly #resolved: ResolvedPort;
  readonly #frontend: Frontend;
  readonly #context: VerdictContext;
  readonly #reasons: string[];

  constructor(packet: ProxyPacket, resolved: ResolvedPort, frontend: Frontend, context: VerdictContext) {
    this.#packet = packet;
    this.#resolved = resolved;
    this.#frontend = frontend;
    this.#context = context;
    this.#reasons = [
      `${packet.destination}:${packet.destinationPort}/${packet.protocol} is a ${frontend} of ${resolved.port.name}`,
    ];
  }

  judge(): ProxyVerdict {
    return this.#frontend === 'cluster IP' ? this.#internal() : this.#external();
  }

  get #fromNode(): boolean {
    return this.#context.nodeAddresses.has(this.#packet.source);
  }

  #verdict(action: ProxyVerdict['action'], reason: string): ProxyVerdict {
    this.#reasons.push(reason);
    const { name: port } = this.#resolved.port;
    return { ...PASS, action, port, frontend: this.#frontend, reasons: this.#reasons };
  }

  #refuse(refusal: 'REJECT' | 'DROP'): ProxyVerdict {
    return refusal === 'REJECT'
      ? this.#verdict(
          'reject',
          'it has no endpoint that is ready, nor one that still serves while it terminates',
        )
      : this.#verdict('drop', 'its traffic policy is Local and this node has none of its endpoints');
  }

  #to(endpoints: readonly Endpoint[], masquerade: boolean, reason: string): ProxyVerdict {
    const { affinitySeconds } = this.#resolved.port;
    if (affinitySeconds > 0) this.#reasons.push(`a client keeps its endpoint for ${affinitySeconds} s`);
    return { ...this.#verdict('endpoint', reason), endpoints, masquerade, affinitySeconds };
  }

  #internal(): ProxyVerdict {
    const { port, internalRefusal, local, cluster } = this.#resolved;
    if (internalRefusal) return this.#refuse(internalRefusal);
    const { isLocalPod, masqueradeAll } = this.#context;
    const outside = isLocalPod !== undefined && !isLocalPod(this.#packet.source);
    if (masqueradeAll) this.#reasons.push('everything is masqueraded (masqueradeAll)');
    else if (outside)
      this.#reasons.push(`${this.#packet.source} is no pod, so the answer must come back this way`);
    return this.#to(
      port.internalPolicyLocal ? local : cluster,
      masqueradeAll || outside,
      port.internalPolicyLocal ? 'internalTrafficPolicy is Local' : 'every endpoint may get it',
    );
  }

  #external(): ProxyVerdict {
    const { port, hasEndpoints, externalRefusal, cluster, local } = this.#resolved;
    if (!hasEndpoints) return this.#unlessLeaving(() => this.#refuse('REJECT'));
    if (this.#frontend === 'load balancer IP' && !mayEnter(this.#packet, this.#resolved, this.#context))
      return this.#verdict('drop', `${this.#packet.source} is in none of loadBalancerSourceRanges`);
    if (!port.externalPolicyLocal)
      return this.#to(cluster, true, 'externalTrafficPolicy is Cluster: any endpoint, masqueraded');
    if (this.#context.isLocalPod?.(this.#packet.source))
      return this.#to(cluster, false, 'a pod of the cluster is not external: any endpoint');
    if (this.#fromNode) return this.#to(cluster, true, 'the node itself is not external: any endpoint');
    if (externalRefusal) return this.#refuse(externalRefusal);
    return this.#to(local, false, "externalTrafficPolicy is Local: this node's endpoints, source kept");
  }

  /** The node's own packets to an address of another machine are not refused here: they just leave. */
  #unlessLeaving(refuse: () => ProxyVerdict): ProxyVerdict {
    const leaves = this.#fromNode && !this.#context.nodeAddresses.has(this.#packet.destination);
    if (!leaves) return refuse();
    return this.#verdict('pass', 'it has no endpoints, and what the node itself sends there just leaves');
  }
}

/** What becomes of this packet when it reaches this node's rules. */
export function judgePacket(
  packet: ProxyPacket,
  ports: Iterable<ResolvedPort>,
  context: VerdictContext,
): ProxyVerdict {
  const found = findFrontend(packet, ports, context);
  if (found) return new Judge(packet, found.resolved, found.frontend, context).judge();
  const { destination, destinationPort, protocol } = packet;
  return { ...PASS, reasons: [`no Service answers on ${destination}:${destinationPort}/${protocol}`] };
}

/** True when this endpoint sees the node's address: always when masqueraded, and when a pod reaches itself. */
export function seesNodeAddress(verdict: ProxyVerdict, packet: ProxyPacket, endpoint: Endpoint): boolean {
  return verdict.masquerade || endpoint.ip === packet.source;
}
