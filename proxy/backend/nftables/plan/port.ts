// What one service port is in the table: elements of shared maps in the common case; chains and sets of its own with
// source ranges, or with very many endpoints. Depends on the port, the configuration, and the
// places its endpoints had before. Pure.
import { cidrContains, parseCidr } from '../../../../src/lib/cidr.ts';
import { parseIp } from '../../../../src/lib/ip.ts';
import {
  type Endpoint,
  isExternallyAccessible,
  joinHostPort,
  type Refusal,
  type ResolvedPort,
} from '../../../model/types.ts';
import type { NftablesConfig } from './config.ts';
import {
  addressKey,
  endpointData,
  identityData,
  nodePortKey,
  PROTOCOL_NAMES,
  randomKey,
  stickyData,
  vipKey,
} from './key.ts';
import {
  addressType,
  balanceName,
  externalLocalRules,
  externalRules,
  stickyName,
  verdict,
} from './layout.ts';
import { CHAIN, endpointMap, type Lane, lanePrefix, OwnNames, SET, stickySets } from './names.ts';
import { assignSlots } from './slots.ts';
import type { ChainPlan, Family, Rule, SetPlan, Statement } from './state.ts';

/** Above so many endpoints a port gets a map of its own: the shared maps are as many as the largest port's endpoints. */
export const MAX_SHARED_ENDPOINTS = 64;

/** Shared chains a port leads to; whoever plans the table provides them. */
export type Need =
  | { is: 'balance'; lane: Lane; count: number }
  | { is: 'sticky'; lane: Lane; count: number; seconds: number }
  | { is: 'chain'; chain: ChainPlan };

export interface PortPlan {
  /** Keys that are this port's alone. */
  elements: { set: string; key: string; data: string }[];
  /** Keys that other ports may have too. */
  counted: { set: string; key: string }[];
  chains: ChainPlan[];
  sets: SetPlan[];
  needs: Need[];
  /** Endpoints by place, for the next plan of this port; undefined when they are in the order of the list. */
  slots: Slots | undefined;
}

export interface Slots {
  cluster: string[];
  local: string[];
}

const NO_SLOTS: Slots = { cluster: [], local: [] };

function nameOf({ ip, port }: Endpoint): string {
  return joinHostPort(ip, port);
}

/** The places of endpoints that are in the order of the list. */
export function slotsOf({ cluster, local }: ResolvedPort): Slots {
  return { cluster: cluster.map(nameOf), local: local.map(nameOf) };
}

class PortPlanner {
  readonly #resolved: ResolvedPort;
  readonly #config: NftablesConfig;
  readonly #family: Family;
  readonly #own: boolean;
  #names: OwnNames | undefined;
  /** Sticky elements that are there: several frontends ask for them. */
  readonly #stuck = new Set<string>();
  readonly #cluster: readonly Endpoint[];
  readonly #local: readonly Endpoint[];
  readonly plan: PortPlan;

  constructor(resolved: ResolvedPort, config: NftablesConfig, before: Slots) {
    this.#resolved = resolved;
    this.#config = config;
    this.#family = resolved.port.family;
    const { cluster, local, port } = resolved;
    this.#own = port.affinitySeconds === 0 && Math.max(cluster.length, local.length) > MAX_SHARED_ENDPOINTS;
    const placed = (list: readonly Endpoint[], previous: readonly string[]): readonly Endpoint[] => {
      if (previous.length === 0) return list;
      const byName = new Map(list.map(endpoint => [nameOf(endpoint), endpoint]));
      return assignSlots(previous, [...byName.keys()]).map(name => byName.get(name)!);
    };
    this.#cluster = placed(cluster, before.cluster);
    this.#local = placed(local, before.local);
    const inOrder = (left: readonly Endpoint[], right: readonly Endpoint[]): boolean =>
      left.every((endpoint, i) => endpoint === right[i]);
    const asListed = inOrder(this.#cluster, cluster) && inOrder(this.#local, local);
    this.plan = {
      elements: [],
      counted: [],
      chains: [],
      sets: [],
      needs: [],
      slots: asListed ? undefined : slotsOf({ ...resolved, cluster: this.#cluster, local: this.#local }),
    };
  }

  get #ownNames(): OwnNames {
    const { port } = this.#resolved;
    this.#names ??= new OwnNames(port.name, PROTOCOL_NAMES[port.protocol]);
    return this.#names;
  }

  run(): PortPlan {
    const { port, hasEndpoints, internalRefusal, externalRefusal } = this.#resolved;
    const vip = vipKey(port.clusterIp, port.protocol, port.port);
    this.plan.counted.push({ set: SET.clusterIps, key: addressKey(port.clusterIp) });
    if (this.#own && hasEndpoints) this.#ownChains();
    if (internalRefusal) this.#refuse(SET.noEndpointServices, vip, internalRefusal);
    else {
      const local = port.internalPolicyLocal;
      const chain = this.#balance(
        { nodePort: false, local },
        vip,
        local ? this.#local : this.#cluster,
        false,
      );
      if (chain) this.#element(SET.serviceIps, vip, `goto ${chain}`);
    }
    for (const ip of [...port.externalIps, ...port.loadBalancerIps]) {
      const key = vipKey(ip, port.protocol, port.port);
      if (externalRefusal) this.#refuse(SET.noEndpointServices, key, externalRefusal);
      if (hasEndpoints) this.#element(SET.serviceIps, key, `goto ${this.#external(false, key)}`);
    }
    if (port.nodePort !== 0) {
      const key = nodePortKey(port.protocol, port.nodePort);
      if (externalRefusal) this.#refuse(SET.noEndpointNodePorts, key, externalRefusal);
      if (hasEndpoints) this.#element(SET.nodePorts, key, `goto ${this.#external(true, key)}`);
    }
    if (hasEndpoints && port.sourceRanges && port.loadBalancerIps.length > 0) this.#firewall();
    for (const { ip } of this.#resolved.reachable) {
      const address = addressKey(ip);
      this.plan.counted.push({ set: SET.hairpin, key: address + address });
    }
    return this.plan;
  }

  #element(set: string, key: string, data: string): void {
    this.plan.elements.push({ set, key, data });
  }

  #refuse(set: string, key: string, refusal: Refusal): void {
    this.#element(set, key, refusal === 'DROP' ? 'drop' : `goto ${CHAIN.reject}`);
  }

  /** Where one of these endpoints is chosen for packets of this key; undefined when there are none. */
  #balance(lane: Lane, key: string, endpoints: readonly Endpoint[], external: boolean): string | undefined {
    if (endpoints.length === 0) return undefined;
    if (this.#resolved.port.affinitySeconds > 0) return this.#stick(lane, key, endpoints);
    // A cluster IP has one policy, so its Local endpoints go where the Cluster ones would.
    const into = external ? lane : { nodePort: false, local: false };
    if (this.#own) return lane.local ? this.#ownNames.local : this.#ownNames.cluster;
    for (const [slot, { ip, port }] of endpoints.entries())
      this.#element(endpointMap(into, slot), key, endpointData(ip, port));
    this.plan.needs.push({ is: 'balance', lane: into, count: endpoints.length });
    return balanceName(into, endpoints.length);
  }

  /** The endpoints are the service port's, found by its cluster IP, whichever of its addresses a client uses. */
  #stick(lane: Lane, key: string, endpoints: readonly Endpoint[]): string {
    const { clusterIp, protocol, port, affinitySeconds: seconds } = this.#resolved.port;
    const identity = vipKey(clusterIp, protocol, port);
    const sets = stickySets(lane);
    if (!this.#stuck.has(sets.services + key)) {
      this.#stuck.add(sets.services + key);
      this.#element(sets.services, key, identityData(identity));
    }
    if (!this.#stuck.has(sets.picks)) {
      this.#stuck.add(sets.picks);
      for (const [slot, { ip, port: number }] of endpoints.entries()) {
        const endpoint = endpointData(ip, number);
        this.#element(sets.picks, identity + randomKey(slot), stickyData(endpoint));
        this.#element(sets.endpoints, endpoint + identity, '');
      }
    }
    this.plan.needs.push({ is: 'sticky', lane, count: endpoints.length, seconds });
    return stickyName(lane, endpoints.length, seconds);
  }

  /** The chain for packets from outside to this key. */
  #external(nodePort: boolean, key: string): string {
    const { port } = this.#resolved;
    if (this.#own) return this.#ownNames.external;
    const cluster = this.#balance({ nodePort, local: false }, key, this.#cluster, true);
    const np = lanePrefix({ nodePort, local: false });
    const { affinitySeconds } = port;
    const sticky = affinitySeconds > 0 ? `-sticky-${affinitySeconds}s` : '';
    const share = (name: string, rules: Rule[]): string => {
      this.plan.needs.push({ is: 'chain', chain: { name, rules } });
      return name;
    };
    if (!port.externalPolicyLocal)
      return share(
        `${np}external-${this.#cluster.length}${sticky}`,
        cluster === undefined ? [] : externalRules(cluster),
      );
    const local = this.#balance({ nodePort, local: true }, key, this.#local, true);
    return share(
      `${np}external-local-${this.#cluster.length}-${this.#local.length}${sticky}`,
      externalLocalRules(this.#config, this.#family, cluster, local),
    );
  }

  #ownChains(): void {
    const { port } = this.#resolved;
    const names = this.#ownNames;
    const { chains } = this.plan;
    const cluster = this.#cluster.length > 0 ? names.cluster : undefined;
    const local = this.#local.length > 0 ? names.local : undefined;
    for (const [name, endpoints, isLocal] of [
      [cluster, this.#cluster, false],
      [local, this.#local, true],
    ] as const)
      if (name !== undefined) chains.push({ name, rules: this.#ownMap(endpoints, isLocal) });
    if (!isExternallyAccessible(port)) return;
    const rules = port.externalPolicyLocal
      ? externalLocalRules(this.#config, this.#family, cluster, local)
      : cluster === undefined
        ? []
        : externalRules(cluster);
    chains.push({ name: names.external, rules });
  }

  get #protocol(): Statement {
    return { is: 'protocol', protocol: PROTOCOL_NAMES[this.#resolved.port.protocol] };
  }

  /** Very many endpoints: one map of them by the random number. */
  #ownMap(endpoints: readonly Endpoint[], local: boolean): Rule[] {
    const map = this.#ownNames.endpoints(local);
    this.plan.sets.push({ name: map, key: 'random', data: [addressType(this.#family), 'inet_service'] });
    for (const [slot, { ip, port }] of endpoints.entries())
      this.#element(map, randomKey(slot), endpointData(ip, port));
    return [[this.#protocol, { is: 'dnat-random', below: endpoints.length, map }]];
  }

  /** Who may use the load balancer's addresses; the rest is dropped before it is translated. */
  #firewall(): void {
    const { port } = this.#resolved;
    const ranges = port.sourceRanges ?? [];
    const sources = [...ranges];
    // The load balancer's address is often a local one as well; then the node's own requests carry it as their source.
    const holdsNode = ranges.some(text => {
      const cidr = parseCidr(text);
      return cidr && this.#config.nodeIps.some(ip => cidrContains(cidr, parseIp(ip) ?? new Uint8Array()));
    });
    if (holdsNode) sources.push(...port.loadBalancerIps);
    const name = this.#ownNames.firewall;
    const rules = sources.map(
      (cidr): Rule => [{ is: 'address', field: 'saddr', not: false, cidr }, verdict('return')],
    );
    this.plan.chains.push({ name, rules: [...rules, [verdict('drop')]] });
    for (const ip of port.loadBalancerIps)
      this.#element(SET.firewallIps, vipKey(ip, port.protocol, port.port), `goto ${name}`);
  }
}

export function planPort(resolved: ResolvedPort, config: NftablesConfig, before: Slots = NO_SLOTS): PortPlan {
  return new PortPlanner(resolved, config, before).run();
}
