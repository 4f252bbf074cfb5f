// What the service proxy of one node does with the first packet of a connection, for people: the verdict of
// proxy/model/verdict.ts (held against the kernel by a differential test), every endpoint with the reason why it is used
// or not, and the chains the packet meets in iptables mode. Pure.
import { endpointChain, portChains } from '../../proxy/backend/iptables/plan/names.ts';
import {
  type Endpoint,
  joinHostPort,
  type Protocol,
  type ResolvedPort,
  type ServicePort,
} from '../../proxy/model/types.ts';
import { judgePacket, type ProxyVerdict, seesNodeAddress } from '../../proxy/model/verdict.ts';
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
  candidates: (port: ServicePort) => readonly Endpoint[];
  nodeIps: readonly string[];
  /** Pod networks, for telling pods from others (detect-local). */
  clusterCidrs: readonly string[];
  masqueradeAll?: boolean;
  /** Elements or listeners that serve a port; absent in iptables mode, whose chains are named by what they are for. */
  placesOf?: (resolved: ResolvedPort) => readonly string[];
}

export interface Explanation {
  flow: Flow;
  verdict: 'forwarded' | 'rejected' | 'dropped' | 'untouched';
  /** Step by step. */
  reasons: string[];
  /** `default/hello:http`. */
  service?: string;
  endpoints: ExplainedEndpoint[];
  affinitySeconds?: number;
  /** In iptables mode in the order the packet meets them; in other modes all that serve the port. */
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

const WORD = { endpoint: 'forwarded', reject: 'rejected', drop: 'dropped', pass: 'untouched' } as const;

export function explainFlow(flow: Flow, view: ProxyView): Explanation {
  const ports = [...view.ports];
  const pods = view.clusterCidrs.flatMap(text => parseCidr(text) ?? []);
  const packet = { ...flow, destinationPort: flow.port };
  const verdict = judgePacket(packet, ports, {
    nodeAddresses: new Set(view.nodeIps),
    isLocalPod: source => {
      const address = parseIp(source);
      return address !== undefined && pods.some(cidr => cidrContains(cidr, address));
    },
    masqueradeAll: view.masqueradeAll ?? false,
    localhostNodePorts: true,
  });
  const family = flow.destination.includes(':') ? 6 : 4;
  const resolved = ports.find(
    ({ port }) => port.name === verdict.port && port.family === family && port.protocol === flow.protocol,
  );
  const explanation: Explanation = {
    flow,
    verdict: WORD[verdict.action],
    reasons: verdict.reasons,
    endpoints: [],
    chains: [],
  };
  if (!resolved) return explanation;
  const chosen = verdict.endpoints;
  return {
    ...explanation,
    service: resolved.port.name,
    ...(verdict.affinitySeconds > 0 ? { affinitySeconds: verdict.affinitySeconds } : {}),
    endpoints: view.candidates(resolved.port).map(endpoint => {
      const used = chosen.some(other => other.ip === endpoint.ip && other.port === endpoint.port);
      return {
        endpoint: joinHostPort(endpoint.ip, endpoint.port),
        local: endpoint.local,
        share: used ? 1 / chosen.length : 0,
        masqueraded: used && seesNodeAddress(verdict, packet, endpoint),
        why: used ? whyUsed(endpoint, flow) : whyRefused(endpoint, verdict, resolved),
      };
    }),
    chains: view.placesOf ? [...view.placesOf(resolved)] : chainsOf(verdict, resolved),
  };
}

function whyUsed(endpoint: Endpoint, flow: Flow): string {
  const state = endpoint.ready ? 'ready' : 'terminating but still serving, and none is ready';
  return endpoint.ip === flow.source ? `${state}; it is the caller itself (hairpin)` : state;
}

function whyRefused(endpoint: Endpoint, verdict: ProxyVerdict, { port, local }: ResolvedPort): string {
  if (!endpoint.ready && !(endpoint.serving && endpoint.terminating))
    return endpoint.terminating ? 'terminating and no longer serving' : 'not ready';
  const { endpoints, frontend, action } = verdict;
  const policyLocal = frontend === 'cluster IP' ? port.internalPolicyLocal : port.externalPolicyLocal;
  if (!endpoint.local && policyLocal && (action === 'drop' || endpoints === local))
    return 'on another node, and the policy is Local';
  if (endpoints.length === 0) return 'the packet does not get this far';
  if (!endpoint.ready) return 'terminating, and others are ready';
  return 'topology hints prefer others';
}

/** The way through kube-proxy's chains in iptables mode. */
function chainsOf(verdict: ProxyVerdict, { port, local }: ResolvedPort): string[] {
  const { action, frontend, endpoints } = verdict;
  const protocol = port.protocol.toLowerCase();
  const names = portChains(port.name, protocol);
  const internal = frontend === 'cluster IP';
  const firewall = frontend === 'load balancer IP' && port.sourceRanges ? [names.firewall] : [];
  if (action === 'pass') return [];
  if (action === 'drop' && firewall.length > 0 && endpoints.length === 0 && !port.externalPolicyLocal)
    return ['KUBE-SERVICES', ...firewall, 'filter KUBE-PROXY-FIREWALL'];
  if (action !== 'endpoint') return [internal ? 'filter KUBE-SERVICES' : 'filter KUBE-EXTERNAL-SERVICES'];
  const [only] = endpoints;
  return [
    'KUBE-SERVICES',
    ...(frontend === 'node port' ? ['KUBE-NODEPORTS'] : []),
    ...firewall,
    ...(internal ? [] : [names.external]),
    endpoints === local ? names.local : names.cluster,
    endpoints.length === 1 && only
      ? endpointChain(port.name, protocol, joinHostPort(only.ip, only.port))
      : 'KUBE-SEP-… (one for each endpoint)',
  ];
}

/** For people. */
export function formatExplanation(explanation: Explanation): string {
  const { flow, verdict, reasons, endpoints, chains } = explanation;
  const lines = [
    `${flow.source} → ${flow.protocol} ${joinHostPort(flow.destination, flow.port)}: ${verdict}`,
  ];
  for (const reason of reasons) lines.push(`  Because    ${reason}`);
  for (const { endpoint, share, local, masqueraded, why } of endpoints) {
    const chance = share > 0 ? `${(share * 100).toFixed(0)} %`.padStart(5) : 'never';
    const here = local ? ' (this node)' : '';
    lines.push(
      `  Endpoint   ${chance}  ${endpoint}${here}: ${why}${masqueraded ? '; source rewritten' : ''}`,
    );
  }
  // Chains follow each other; elements have braces and stand each for itself.
  if (chains.some(chain => chain.includes(' {') || chain.startsWith('relay ')))
    for (const chain of chains) lines.push(`  Rules      ${chain}`);
  else if (chains.length > 0) lines.push(`  Rules      ${chains.join(' → ')}`);
  return lines.join('\n');
}
