// kube-proxy's iptables mode as a planner: service ports in, xtables chains and sysctls out, with upstream's names, order
// of checks and comments. The rules of a port are kept until that port changes, so a change costs what its Service costs
// plus one walk over lists of ready strings. Pure.
import type {
  KernelState,
  SysctlState,
  XtablesChain,
  XtablesTableState,
} from '../../../../src/kernel/state.ts';
import type { Family, ResolvedPort } from '../../../model/types.ts';
import type { IptablesConfig } from './config.ts';
import { CHAIN } from './names.ts';
import { type PortRules, planPort } from './port.ts';
import { rule } from './rule.ts';

/** Above so many endpoints the endpoint rules lose their comments (upstream's largeClusterEndpointsThreshold). */
export const LARGE_CLUSTER_ENDPOINTS = 1000;

type Jump = XtablesTableState['jumps'][number];

const NEW = '-m conntrack --ctstate NEW';

function jump(chain: string, target: string, comment?: string, matches?: string): Jump {
  // Upstream gives the state match before the comment, and iptables-save keeps the order given.
  const before = matches ? `${matches} ` : '';
  return { chain, rule: `${before}${rule({ comment, target: `-j ${target}` })}`, position: 'first' };
}

/** The jumps from the built-in chains, in the order in which packets must meet them. */
function filterJumps(localnet: boolean): Jump[] {
  const firewall = 'kubernetes load balancer firewall';
  const portals = 'kubernetes service portals';
  const external = 'kubernetes externally-visible service portals';
  return [
    jump('INPUT', CHAIN.firewall, firewall, NEW),
    jump('INPUT', CHAIN.nodePorts, 'kubernetes health check service ports'),
    jump('INPUT', CHAIN.externalServices, external, NEW),
    jump('FORWARD', CHAIN.firewall, firewall, NEW),
    jump('FORWARD', CHAIN.forward, 'kubernetes forwarding rules'),
    jump('FORWARD', CHAIN.services, portals, NEW),
    jump('FORWARD', CHAIN.externalServices, external, NEW),
    jump('OUTPUT', CHAIN.firewall, firewall, NEW),
    jump('OUTPUT', CHAIN.services, portals, NEW),
    ...(localnet ? [jump('INPUT', CHAIN.kubeletFirewall), jump('OUTPUT', CHAIN.kubeletFirewall)] : []),
  ];
}

const NAT_JUMPS: Jump[] = [
  jump('PREROUTING', CHAIN.services, 'kubernetes service portals'),
  jump('OUTPUT', CHAIN.services, 'kubernetes service portals'),
  jump('POSTROUTING', CHAIN.postrouting, 'kubernetes postrouting rules'),
];

function hex(mark: number): string {
  return `0x${mark.toString(16)}`;
}

function forwardChain(config: IptablesConfig): XtablesChain {
  const mark = `${hex(config.masqueradeMark)}/${hex(config.masqueradeMark)}`;
  return {
    name: CHAIN.forward,
    rules: [
      // A packet the connection tracker cannot place would reach the client un-translated, and be answered with a reset.
      ...(config.dropInvalid ? ['-m conntrack --ctstate INVALID -j DROP'] : []),
      rule({
        comment: 'kubernetes forwarding rules',
        matches: `-m mark --mark ${mark}`,
        target: '-j ACCEPT',
      }),
      rule({
        comment: 'kubernetes forwarding conntrack rule',
        matches: '-m conntrack --ctstate RELATED,ESTABLISHED',
        target: '-j ACCEPT',
      }),
    ],
  };
}

function postroutingChains(config: IptablesConfig): XtablesChain[] {
  const mark = hex(config.masqueradeMark);
  return [
    {
      name: CHAIN.postrouting,
      rules: [
        `-m mark ! --mark ${mark}/${mark} -j RETURN`,
        // The mark goes, so that an encapsulated packet on its second way through is not masqueraded again.
        `-j MARK --set-xmark ${mark}/0x0`,
        rule({
          comment: 'kubernetes service traffic requiring SNAT',
          target: `-j MASQUERADE${config.randomFully ? ' --random-fully' : ''}`,
        }),
      ],
    },
    { name: CHAIN.markMasq, rules: [`-j MARK --set-xmark ${mark}/${mark}`] },
  ];
}

/** The last rules of KUBE-SERVICES: everything else that is for this node may be for a node port. */
function nodePortDispatch(config: IptablesConfig, family: Family): string[] {
  const comment = 'kubernetes service nodeports; NOTE: this must be the last rule in this chain';
  const target = `-j ${CHAIN.nodePorts}`;
  const localhost = family === 4 && config.localhostNodePorts;
  if (!config.nodePortAddresses) {
    const loopback = family === 4 ? '127.0.0.0/8' : '::1/128';
    return [
      rule({
        ...(localhost ? {} : { destination: `! ${loopback}` }),
        comment,
        matches: '-m addrtype --dst-type LOCAL',
        target,
      }),
    ];
  }
  const addresses = family === 4 ? config.nodePortAddresses.v4 : config.nodePortAddresses.v6;
  return addresses
    .filter(ip => localhost || !(ip === '::1' || ip.startsWith('127.')))
    .map(destination => rule({ destination, comment, target }));
}

interface Memo {
  source: ResolvedPort;
  comments: boolean;
  rules: PortRules;
}

export class IptablesPlanner {
  readonly #config: IptablesConfig;
  readonly #families: readonly Family[];
  readonly #memo = new Map<string, Memo>();
  /** Ids sorted, so that a plan does not depend on the order of events; kept until a port comes or goes. */
  #order: Map<Family, string[]> | undefined;
  #endpoints = 0;
  /** The shared chains of the last plan, by family, table and name. */
  readonly #shared = new Map<string, XtablesChain>();

  constructor(config: IptablesConfig, families: readonly Family[]) {
    this.#config = config;
    this.#families = families;
  }

  /** A service port that is new or changed; undefined when it is gone. */
  set(id: string, resolved: ResolvedPort | undefined): void {
    const before = this.#memo.get(id);
    this.#endpoints += (resolved?.reachable.length ?? 0) - (before?.source.reachable.length ?? 0);
    if (!before !== !resolved) this.#order = undefined;
    if (!resolved) this.#memo.delete(id);
    else {
      const comments = this.#comments;
      this.#memo.set(id, { source: resolved, comments, rules: planPort(resolved, this.#config, comments) });
    }
  }

  get endpoints(): number {
    return this.#endpoints;
  }

  get #comments(): boolean {
    return this.#endpoints <= LARGE_CLUSTER_ENDPOINTS;
  }

  /** The whole desired state; unchanged chains are the same objects as last time. */
  plan(): KernelState {
    return {
      xtables: this.#families.flatMap(family => this.#planFamily(family)),
      sysctls: this.#sysctls(),
    };
  }

  #sysctls(): SysctlState[] {
    const v4 = this.#families.includes(4);
    const v6 = this.#families.includes(6);
    return [
      ...(v4 && this.#config.localhostNodePorts
        ? [{ path: 'net/ipv4/conf/all/route_localnet', value: '1' }]
        : []),
      // Traffic between two pods of one bridge must pass the rules too, or answers are not translated back.
      ...(v4 ? [{ path: 'net/bridge/bridge-nf-call-iptables', value: '1', optional: true }] : []),
      ...(v6 ? [{ path: 'net/bridge/bridge-nf-call-ip6tables', value: '1', optional: true }] : []),
    ];
  }

  #sortedIds(family: Family): string[] {
    if (!this.#order) {
      this.#order = new Map(this.#families.map(key => [key, []]));
      for (const [id, { source }] of this.#memo) this.#order.get(source.port.family)?.push(id);
      for (const ids of this.#order.values()) ids.sort();
    }
    return this.#order.get(family) ?? [];
  }

  #planFamily(family: Family): XtablesTableState[] {
    const config = this.#config;
    const localnet = family === 4 && config.localhostNodePorts;
    const natServices: string[] = [];
    const natNodePorts: string[] = [];
    const filterServices: string[] = [];
    const filterExternal: string[] = [];
    const filterNodePorts = new Set<string>();
    const filterFirewall: string[] = [];
    const portChains: XtablesChain[] = [];
    for (const id of this.#sortedIds(family)) {
      const rules = this.#rulesOf(id);
      if (!rules) continue;
      for (const line of rules.natServices) natServices.push(line);
      for (const line of rules.natNodePorts) natNodePorts.push(line);
      for (const line of rules.filterServices) filterServices.push(line);
      for (const line of rules.filterExternal) filterExternal.push(line);
      for (const line of rules.filterNodePorts) filterNodePorts.add(line);
      for (const line of rules.filterFirewall) filterFirewall.push(line);
      for (const chain of rules.chains) portChains.push(chain);
    }
    natServices.push(...nodePortDispatch(config, family));
    const shared = (table: string, chains: XtablesChain[]): XtablesChain[] =>
      chains.map(chain => this.#keep(family, table, chain));
    const canary: XtablesChain = { name: CHAIN.canary, rules: [] };
    return [
      {
        family,
        table: 'filter',
        chains: shared('filter', [
          { name: CHAIN.services, rules: filterServices },
          { name: CHAIN.externalServices, rules: filterExternal },
          { name: CHAIN.nodePorts, rules: [...filterNodePorts] },
          { name: CHAIN.firewall, rules: filterFirewall },
          forwardChain(config),
          ...(localnet ? [LOCALNET_GUARD] : []),
          canary,
        ]),
        jumps: filterJumps(localnet),
      },
      {
        family,
        table: 'nat',
        chains: [
          ...shared('nat', [
            { name: CHAIN.services, rules: natServices },
            { name: CHAIN.nodePorts, rules: natNodePorts },
            ...postroutingChains(config),
            canary,
          ]),
          ...portChains,
        ],
        jumps: NAT_JUMPS,
        ownedPrefixes: PORT_CHAIN_PREFIXES,
      },
      { family, table: 'mangle', chains: shared('mangle', [canary]), jumps: [] },
    ];
  }

  /** The same object as last time when the rules are the same: a reconciler compares by reference first. */
  #keep(family: Family, table: string, chain: XtablesChain): XtablesChain {
    const key = `${family} ${table} ${chain.name}`;
    const before = this.#shared.get(key);
    const { rules } = chain;
    if (before?.rules.length === rules.length && rules.every((line, index) => line === before.rules[index]))
      return before;
    this.#shared.set(key, chain);
    return chain;
  }

  /** Ports planned on the other side of the large-cluster threshold are planned again. */
  #rulesOf(id: string): PortRules | undefined {
    const memo = this.#memo.get(id);
    if (memo && memo.comments !== this.#comments) {
      memo.comments = this.#comments;
      memo.rules = planPort(memo.source, this.#config, memo.comments);
    }
    return memo?.rules;
  }
}

/** Chains of service ports, also those that an earlier life of the proxy left. */
const PORT_CHAIN_PREFIXES = ['KUBE-SVC-', 'KUBE-SVL-', 'KUBE-SEP-', 'KUBE-EXT-', 'KUBE-FW-'];

/** route_localnet opens 127.0.0.0/8 to the neighbours (CVE-2020-8558); this closes it again. kubelet writes the same. */
const LOCALNET_GUARD: XtablesChain = {
  name: CHAIN.kubeletFirewall,
  rules: [
    '! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP',
  ],
};

/** All of it in one call, for tests and `podwire diff`. */
export function planIptables(
  ports: Iterable<ResolvedPort>,
  config: IptablesConfig,
  families: readonly Family[] = [4, 6],
): KernelState {
  const planner = new IptablesPlanner(config, families);
  for (const resolved of ports) planner.set(resolved.port.id, resolved);
  return planner.plan();
}
