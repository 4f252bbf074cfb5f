// What the service proxy of one node does with the first packet of a connection, in the words of Services: which Service
// and address it meets, which policy applies, which endpoints are considered and refused and why, whether its source is
// rewritten, and the chains that do it (iptables mode). Pure; its verdict must equal the kernel's.
import { endpointChain, portChains } from '../../proxy/backend/iptables/plan/names.ts';
import { type Endpoint, joinHostPort, type Protocol, type ResolvedPort } from '../../proxy/model/types.ts';
import { cidrContains, parseCidr } from '../lib/cidr.ts';
import { parseIp } from '../lib/ip.ts';

export interface Flow {
  /** Canonical addresses of one family. */
  source: string;
  destination: string;
  port: number;
  protocol: Protocol;
}

/** What the proxy of the node knows. */
export interface ProxyView {
  ports: Iterable<ResolvedPort>;
  /** Every endpoint of the port, also those no policy may use. */
  candidates: (resolved: ResolvedPort) => readonly Endpoint[];
  nodeIps: readonly string[];
  /** Pod networks, for telling pods from others (detect-local). */
  clusterCidrs: readonly string[];
  masqueradeAll?: boolean;
}

export type Verdict = 'forwarded' | 'rejected' | 'dropped' | 'untouched';
export type MetBy = 'cluster IP' | 'external IP' | 'load balancer IP' | 'node port';

export interface Explanation {
  flow: Flow;
  verdict: Verdict;
  /** One sentence. */
  reason: string;
  /** `default/hello:http`. */
  service?: string;
  metBy?: MetBy;
  policy?: 'Cluster' | 'Local';
  endpoints: ExplainedEndpoint[];
  affinitySeconds?: number;
  /** In the order the packet meets them. */
  chains: string[];
}

export interface ExplainedEndpoint {
  endpoint: string;
  /** On this node. */
  local: boolean;
  /** Chance of being chosen, 0 when refused. */
  share: number;
  /** The source is replaced by the node's address. */
  masqueraded: boolean;
  why: string;
}

/** Where a flow may go: a decision before endpoints are listed. */
interface Route {
  policy: 'Cluster' | 'Local';
  endpoints: readonly Endpoint[];
  masquerade: boolean;
  chains: string[];
}

type Outcome = Route | { verdict: Exclude<Verdict, 'forwarded'>; reason: string; chains: string[] };

export function explainFlow(flow: Flow, view: ProxyView): Explanation {
  const met = findService(flow, view);
  if (!met)
    return {
      flow,
      verdict: 'untouched',
      reason: `no Service has ${flow.protocol} ${joinHostPort(flow.destination, flow.port)}; the packet is routed as it is`,
      endpoints: [],
      chains: [],
    };
  const { resolved, metBy } = met;
  const { port } = resolved;
  const outcome =
    metBy === 'cluster IP'
      ? internalOutcome(flow, resolved, view)
      : externalOutcome(flow, resolved, metBy, view);
  const local = metBy === 'cluster IP' ? port.internalPolicyLocal : port.externalPolicyLocal;
  const policy = 'policy' in outcome ? outcome.policy : local ? 'Local' : 'Cluster';
  const chosen = 'endpoints' in outcome ? outcome.endpoints : [];
  const masquerade = 'endpoints' in outcome && outcome.masquerade;
  const endpoints = view.candidates(resolved).map((endpoint): ExplainedEndpoint => {
    const usable = chosen.some(other => other.ip === endpoint.ip && other.port === endpoint.port);
    return {
      endpoint: joinHostPort(endpoint.ip, endpoint.port),
      local: endpoint.local,
      share: usable ? 1 / chosen.length : 0,
      masqueraded: usable && (masquerade || endpoint.ip === flow.source),
      why: usable ? whyUsed(endpoint, flow) : whyRefused(endpoint, chosen, policy),
    };
  });
  const common = { flow, service: port.name, metBy, policy, endpoints } as const;
  if (!('endpoints' in outcome))
    return { ...common, verdict: outcome.verdict, reason: outcome.reason, chains: outcome.chains };
  const protocol = port.protocol.toLowerCase();
  const [only] = chosen;
  return {
    ...common,
    verdict: 'forwarded',
    reason: `${chosen.length === 1 ? 'one endpoint' : `one of ${chosen.length} endpoints`} by policy ${policy}${masquerade ? "; the source becomes the node's address" : ''}`,
    ...(port.affinitySeconds > 0 ? { affinitySeconds: port.affinitySeconds } : {}),
    chains: [
      ...outcome.chains,
      chosen.length === 1 && only
        ? endpointChain(port.name, protocol, joinHostPort(only.ip, only.port))
        : 'KUBE-SEP-… (one for each endpoint)',
    ],
  };
}

/** KUBE-SERVICES first, node ports last, as the rules are ordered. */
function findService(flow: Flow, view: ProxyView): { resolved: ResolvedPort; metBy: MetBy } | undefined {
  let byNodePort: ResolvedPort | undefined;
  for (const resolved of view.ports) {
    const { port } = resolved;
    if (port.protocol !== flow.protocol || (port.family === 6) !== flow.destination.includes(':')) continue;
    if (port.port === flow.port) {
      if (port.clusterIp === flow.destination) return { resolved, metBy: 'cluster IP' };
      if (port.externalIps.includes(flow.destination)) return { resolved, metBy: 'external IP' };
      if (port.loadBalancerIps.includes(flow.destination)) return { resolved, metBy: 'load balancer IP' };
    }
    if (port.nodePort === flow.port && view.nodeIps.includes(flow.destination)) byNodePort = resolved;
  }
  return byNodePort && { resolved: byNodePort, metBy: 'node port' };
}

function refused(resolved: ResolvedPort, refusal: 'REJECT' | 'DROP', chain: string): Outcome {
  return refusal === 'REJECT'
    ? {
        verdict: 'rejected',
        reason: `${resolved.port.name} has no endpoint that is ready, anywhere`,
        chains: [chain],
      }
    : {
        verdict: 'dropped',
        reason: `policy Local, and no endpoint of ${resolved.port.name} is on this node`,
        chains: [chain],
      };
}

function internalOutcome(flow: Flow, resolved: ResolvedPort, view: ProxyView): Outcome {
  const { port, internalRefusal } = resolved;
  if (internalRefusal) return refused(resolved, internalRefusal, 'filter KUBE-SERVICES');
  const names = portChains(port.name, port.protocol.toLowerCase());
  return {
    policy: port.internalPolicyLocal ? 'Local' : 'Cluster',
    endpoints: port.internalPolicyLocal ? resolved.local : resolved.cluster,
    masquerade: view.masqueradeAll === true || !isPod(flow.source, view),
    chains: ['KUBE-SERVICES', port.internalPolicyLocal ? names.local : names.cluster],
  };
}

function externalOutcome(flow: Flow, resolved: ResolvedPort, metBy: MetBy, view: ProxyView): Outcome {
  const { port, externalRefusal, hasEndpoints, cluster, local } = resolved;
  const names = portChains(port.name, port.protocol.toLowerCase());
  // KUBE-EXTERNAL-SERVICES hangs in INPUT and FORWARD only: what the node itself sends elsewhere passes by.
  if (!hasEndpoints && view.nodeIps.includes(flow.source) && !view.nodeIps.includes(flow.destination))
    return {
      verdict: 'untouched',
      reason: `${port.name} has no endpoint that is ready, and the node's own packets are not refused; it leaves as it is`,
      chains: [],
    };
  if (!hasEndpoints) return refused(resolved, 'REJECT', 'filter KUBE-EXTERNAL-SERVICES');
  const chains = metBy === 'node port' ? ['KUBE-SERVICES', 'KUBE-NODEPORTS'] : ['KUBE-SERVICES'];
  if (metBy === 'load balancer IP' && port.sourceRanges) {
    chains.push(names.firewall);
    if (!isAllowedSource(flow, port.sourceRanges, port.loadBalancerIps, view))
      return {
        verdict: 'dropped',
        reason: `source ${flow.source} is in none of the Service's loadBalancerSourceRanges ${port.sourceRanges.join(', ')}`,
        chains: [...chains, 'filter KUBE-PROXY-FIREWALL'],
      };
  }
  chains.push(names.external);
  if (!port.externalPolicyLocal)
    return { policy: 'Cluster', endpoints: cluster, masquerade: true, chains: [...chains, names.cluster] };
  // Pods and the node itself are not "external": they may use every endpoint.
  if (isPod(flow.source, view))
    return { policy: 'Cluster', endpoints: cluster, masquerade: false, chains: [...chains, names.cluster] };
  if (view.nodeIps.includes(flow.source))
    return { policy: 'Cluster', endpoints: cluster, masquerade: true, chains: [...chains, names.cluster] };
  if (externalRefusal) return refused(resolved, externalRefusal, 'filter KUBE-EXTERNAL-SERVICES');
  return { policy: 'Local', endpoints: local, masquerade: false, chains: [...chains, names.local] };
}

function isIn(cidrs: readonly string[], ip: string): boolean {
  const address = parseIp(ip);
  return (
    address !== undefined &&
    cidrs.some(text => {
      const cidr = parseCidr(text);
      return cidr !== undefined && cidrContains(cidr, address);
    })
  );
}

function isPod(ip: string, view: ProxyView): boolean {
  return isIn(view.clusterCidrs, ip);
}

/** The node itself often has the load balancer's address, and then it is the source of its own requests. */
function isAllowedSource(
  flow: Flow,
  ranges: readonly string[],
  ownIps: readonly string[],
  view: ProxyView,
): boolean {
  if (isIn(ranges, flow.source)) return true;
  return ownIps.includes(flow.source) && view.nodeIps.some(ip => isIn(ranges, ip));
}

function whyUsed(endpoint: Endpoint, flow: Flow): string {
  const state = endpoint.ready ? 'ready' : 'terminating but still serving, and none is ready';
  return endpoint.ip === flow.source ? `${state}; it is the caller itself (hairpin)` : state;
}

function whyRefused(endpoint: Endpoint, chosen: readonly Endpoint[], policy: 'Cluster' | 'Local'): string {
  if (!endpoint.ready && !(endpoint.serving && endpoint.terminating))
    return endpoint.terminating ? 'terminating and no longer serving' : 'not ready';
  if (policy === 'Local' && !endpoint.local) return 'on another node, and the policy is Local';
  if (!endpoint.ready && chosen.some(other => other.ready)) return 'terminating, and others are ready';
  if (chosen.length === 0) return 'the packet does not get this far';
  return 'topology hints prefer others';
}

/** For people. */
export function formatExplanation(explanation: Explanation): string {
  const { flow, service, metBy, policy, verdict, reason, endpoints, chains, affinitySeconds } = explanation;
  const lines = [
    `${flow.source} → ${flow.protocol} ${joinHostPort(flow.destination, flow.port)}: ${verdict}: ${reason}`,
  ];
  if (service) lines.push(`  Service    ${service}, met by its ${metBy}, policy ${policy}`);
  if (affinitySeconds)
    lines.push(`  Affinity   the same client gets the same endpoint for ${affinitySeconds} s`);
  for (const { endpoint, share, local, masqueraded, why } of endpoints) {
    const chance = share > 0 ? `${(share * 100).toFixed(0)} %`.padStart(5) : 'never';
    lines.push(
      `  Endpoint   ${chance}  ${endpoint}${local ? ' (this node)' : ''}: ${why}${masqueraded ? '; source rewritten' : ''}`,
    );
  }
  if (chains.length > 0) lines.push(`  Rules      ${chains.join(' → ')}`);
  return lines.join('\n');
}
