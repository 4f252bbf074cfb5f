// The rules of userspace mode: packets to a Service's addresses are turned to the port where the relay listens for it.
// Chains as kube-proxy 1.20 had them (pkg/proxy/userspace/proxier.go):
//
//   nat PREROUTING ─▶ KUBE-PORTALS-CONTAINER   first; then, last, for local addresses KUBE-NODEPORT-CONTAINER
//   nat OUTPUT     ─▶ KUBE-PORTALS-HOST        first; then, last, for local addresses KUBE-NODEPORT-HOST
//   filter INPUT   ─▶ KUBE-NODEPORT-NON-LOCAL  lets in what was turned, whatever the node's own rules say
//   filter INPUT, FORWARD, OUTPUT ─▶ KUBE-PORTALS-FIREWALL  drops what was for a load balancer's address and was not turned,
//                                              since its source is none of loadBalancerSourceRanges
//
// A frontend without endpoints keeps its port, and that same chain refuses what arrives there, as kernel modes would.
// Where the relay listens on one address, packets go there by DNAT: answers of UDP must come from the address that was
// asked, and only one address has that. Otherwise REDIRECT. Pure.
import type { KernelState, XtablesTableState } from '../../../../src/kernel/state.ts';
import type { Family } from '../../../model/types.ts';
import { rule } from '../../iptables/plan/rule.ts';
import type { Frontend, Portal } from './frontends.ts';

export const PORTAL_CHAIN = {
  container: 'KUBE-PORTALS-CONTAINER',
  host: 'KUBE-PORTALS-HOST',
  nodePortContainer: 'KUBE-NODEPORT-CONTAINER',
  nodePortHost: 'KUBE-NODEPORT-HOST',
  nonLocal: 'KUBE-NODEPORT-NON-LOCAL',
  firewall: 'KUBE-PORTALS-FIREWALL',
} as const;

export interface Served {
  frontend: Frontend;
  /** Where the relay listens for it. */
  proxyPort: number;
}

export interface UserspacePlanOptions {
  families: readonly Family[];
  /** Where the relay listens; `0.0.0.0` and `::` mean every address. */
  listen: { v4: string; v6: string };
  /** Addresses that node ports answer on; absent means every address of the node. */
  nodePortAddresses?: { v4: readonly string[]; v6: readonly string[] };
}

interface Rules {
  portals: string[];
  nodePorts: string[];
  input: string[];
  firewall: string[];
}

function isAny(address: string): boolean {
  return address === '0.0.0.0' || address === '::';
}

/** `-j REDIRECT --to-ports 41234`, or DNAT to the one address. */
function turnTo(address: string, port: number): string {
  if (isAny(address)) return `-j REDIRECT --to-ports ${port}`;
  return `-j DNAT --to-destination ${address.includes(':') ? `[${address}]` : address}:${port}`;
}

function portalRules(
  served: Served,
  portal: Portal,
  destinations: readonly (string | undefined)[],
  target: string,
): string[] {
  const { name, protocol } = served.frontend;
  return destinations.flatMap(destination =>
    (portal.sources ?? [undefined]).map(source =>
      rule({
        ...(source === undefined ? {} : { source }),
        ...(destination === undefined ? {} : { destination }),
        protocol: protocol.toLowerCase(),
        comment: name,
        destinationPort: portal.port,
        target,
      }),
    ),
  );
}

/** What may come was given another destination by now. */
function dropRule({ name, protocol }: Frontend, { ip, port }: Portal): string {
  return rule({
    ...(ip === undefined ? {} : { destination: ip }),
    protocol: protocol.toLowerCase(),
    comment: `${name} not in loadBalancerSourceRanges`,
    destinationPort: port,
    target: '-j DROP',
  });
}

function inputRule({ frontend, proxyPort }: Served): string {
  const { name, protocol, family, refusal } = frontend;
  const unreachable = family === 4 ? 'icmp-port-unreachable' : 'icmp6-port-unreachable';
  const target = {
    none: '-j ACCEPT',
    DROP: '-j DROP',
    // Not tcp-reset: behind a bridge with br_netfilter the kernel sends it past NAT, from the wrong address.
    REJECT: `-j REJECT --reject-with ${unreachable}`,
  };
  return rule({
    protocol: protocol.toLowerCase(),
    comment: name,
    matches: '-m conntrack --ctstate NEW',
    destinationPort: proxyPort,
    target: target[refusal ?? 'none'],
  });
}

function rulesOf(options: UserspacePlanOptions, family: Family, all: readonly Served[]): Rules {
  const rules: Rules = { portals: [], nodePorts: [], input: [], firewall: [] };
  const listen = family === 4 ? options.listen.v4 : options.listen.v6;
  const limited = family === 4 ? options.nodePortAddresses?.v4 : options.nodePortAddresses?.v6;
  for (const served of all) {
    if (served.frontend.family !== family) continue;
    const target = turnTo(listen, served.proxyPort);
    for (const portal of served.frontend.portals) {
      if (portal.sources) rules.firewall.push(dropRule(served.frontend, portal));
      if (portal.ip !== undefined) rules.portals.push(...portalRules(served, portal, [portal.ip], target));
      else rules.nodePorts.push(...portalRules(served, portal, limited ?? [undefined], target));
    }
    rules.input.push(inputRule(served));
  }
  return rules;
}

function tablesOf(
  options: UserspacePlanOptions,
  family: Family,
  all: readonly Served[],
): XtablesTableState[] {
  const { portals, nodePorts, input, firewall } = rulesOf(options, family, all);
  const jumpToFirewall = (chain: string): XtablesTableState['jumps'][number] => ({
    chain,
    rule: rule({ comment: 'load balancer source ranges', target: `-j ${PORTAL_CHAIN.firewall}` }),
    position: 'first',
  });
  const handle = 'handle ClusterIPs; NOTE: this must be before the NodePort rules';
  const last = 'handle service NodePorts; NOTE: this must be the last rule in the chain';
  const jumps = (chain: string, portal: string, nodePort: string): XtablesTableState['jumps'] => [
    { chain, rule: rule({ comment: handle, target: `-j ${portal}` }), position: 'first' },
    {
      chain,
      rule: rule({ comment: last, matches: '-m addrtype --dst-type LOCAL', target: `-j ${nodePort}` }),
      position: 'last',
    },
  ];
  return [
    {
      family,
      table: 'nat',
      chains: [
        { name: PORTAL_CHAIN.container, rules: portals },
        { name: PORTAL_CHAIN.host, rules: portals },
        { name: PORTAL_CHAIN.nodePortContainer, rules: nodePorts },
        { name: PORTAL_CHAIN.nodePortHost, rules: nodePorts },
      ],
      jumps: [
        ...jumps('PREROUTING', PORTAL_CHAIN.container, PORTAL_CHAIN.nodePortContainer),
        ...jumps('OUTPUT', PORTAL_CHAIN.host, PORTAL_CHAIN.nodePortHost),
      ],
    },
    {
      family,
      table: 'filter',
      chains: [
        { name: PORTAL_CHAIN.nonLocal, rules: input },
        ...(firewall.length > 0 ? [{ name: PORTAL_CHAIN.firewall, rules: firewall }] : []),
      ],
      jumps: [
        {
          chain: 'INPUT',
          rule: rule({
            comment: 'Ensure that non-local NodePort traffic can flow',
            target: `-j ${PORTAL_CHAIN.nonLocal}`,
          }),
          position: 'first',
        },
        ...(firewall.length > 0 ? ['INPUT', 'FORWARD', 'OUTPUT'].map(jumpToFirewall) : []),
      ],
    },
  ];
}

/** The rules for everything that is served, in the order of the frontends' keys. */
export function planUserspace(served: Iterable<Served>, options: UserspacePlanOptions): KernelState {
  const sorted = [...served].sort((left, right) => (left.frontend.key < right.frontend.key ? -1 : 1));
  return { xtables: options.families.flatMap(family => tablesOf(options, family, sorted)) };
}
