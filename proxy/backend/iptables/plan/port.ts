// The rules of one service port (Kubernetes pkg/proxy/iptables/proxier.go syncProxyRules, the body of its loop): what it
// adds to the shared dispatch chains, and its own chains. Depends on nothing but the port and the configuration, so that
// the result can be kept until either changes. Pure.
import type { XtablesChain } from '../../../../src/kernel/state.ts';
import { cidrContains, parseCidr } from '../../../../src/lib/cidr.ts';
import { parseIp } from '../../../../src/lib/ip.ts';
import {
  type Endpoint,
  isExternallyAccessible,
  joinHostPort,
  type ResolvedPort,
} from '../../../model/types.ts';
import { type IptablesConfig, ifLocal } from './config.ts';
import { CHAIN, endpointChain, type PortChains, portChains } from './names.ts';
import { randomMatch, recentMatch, rule } from './rule.ts';

/** What one service port adds. Lists are empty, never absent. */
export interface PortRules {
  /** nat KUBE-SERVICES */
  natServices: string[];
  /** nat KUBE-NODEPORTS */
  natNodePorts: string[];
  /** filter KUBE-SERVICES */
  filterServices: string[];
  /** filter KUBE-EXTERNAL-SERVICES */
  filterExternal: string[];
  /** filter KUBE-NODEPORTS */
  filterNodePorts: string[];
  /** filter KUBE-PROXY-FIREWALL */
  filterFirewall: string[];
  /** nat: the port's own chains. */
  chains: XtablesChain[];
}

class PortPlanner {
  readonly #resolved: ResolvedPort;
  readonly #config: IptablesConfig;
  readonly #protocol: string;
  readonly #names: PortChains;
  /** Comments of endpoint rules are left out in large clusters, as upstream does: they are half of all bytes. */
  readonly #comments: boolean;
  readonly #sep = new Map<Endpoint, string>();
  readonly rules: PortRules = {
    natServices: [],
    natNodePorts: [],
    filterServices: [],
    filterExternal: [],
    filterNodePorts: [],
    filterFirewall: [],
    chains: [],
  };

  constructor(resolved: ResolvedPort, config: IptablesConfig, comments: boolean) {
    this.#resolved = resolved;
    this.#config = config;
    this.#comments = comments;
    this.#protocol = resolved.port.protocol.toLowerCase();
    this.#names = portChains(resolved.port.name, this.#protocol);
  }

  plan(): PortRules {
    this.#clusterIp();
    this.#externalAddresses();
    this.#nodePort();
    if (this.#usesExternalChain) this.#externalChain();
    if (this.#usesFirewall) this.#firewallChain();
    this.#policyChain(this.#names.cluster, this.#resolved.cluster, !this.#resolved.port.internalPolicyLocal);
    this.#policyChain(this.#names.local, this.#resolved.local, this.#resolved.port.internalPolicyLocal);
    for (const endpoint of this.#resolved.reachable) this.#endpointChain(endpoint);
    return this.rules;
  }

  /** Not where source ranges let nobody in and there is no other way. */
  get #usesExternalChain(): boolean {
    const { port, hasEndpoints } = this.#resolved;
    const onlyBalanced = port.nodePort === 0 && port.externalIps.length === 0;
    if (onlyBalanced && port.sourceRanges?.length === 0) return false;
    return hasEndpoints && isExternallyAccessible(port);
  }

  get #usesFirewall(): boolean {
    const { port, hasEndpoints } = this.#resolved;
    return hasEndpoints && port.loadBalancerIps.length > 0 && port.sourceRanges !== undefined;
  }

  /** A rule for one of the port's addresses. */
  #to(ip: string, comment: string, target: string): string {
    return rule({
      destination: ip,
      protocol: this.#protocol,
      destinationPort: this.#resolved.port.port,
      comment,
      target,
    });
  }

  #refusalComment(refusal: 'REJECT' | 'DROP'): string {
    return `${this.#resolved.port.name} has no ${refusal === 'DROP' ? 'local ' : ''}endpoints`;
  }

  #refusalTarget(refusal: 'REJECT' | 'DROP'): string {
    if (refusal === 'DROP') return '-j DROP';
    return `-j REJECT --reject-with ${this.#resolved.port.family === 4 ? 'icmp' : 'icmp6'}-port-unreachable`;
  }

  #clusterIp(): void {
    const { port, internalRefusal } = this.#resolved;
    if (internalRefusal)
      this.rules.filterServices.push(
        this.#to(port.clusterIp, this.#refusalComment(internalRefusal), this.#refusalTarget(internalRefusal)),
      );
    else
      this.rules.natServices.push(
        this.#to(port.clusterIp, `${port.name} cluster IP`, `-j ${this.#internalChain}`),
      );
  }

  get #internalChain(): string {
    return this.#resolved.port.internalPolicyLocal ? this.#names.local : this.#names.cluster;
  }

  #externalAddresses(): void {
    const { port, hasEndpoints, externalRefusal } = this.#resolved;
    const firewalled = this.#usesFirewall;
    if (hasEndpoints) {
      for (const ip of port.externalIps)
        this.rules.natServices.push(this.#to(ip, `${port.name} external IP`, `-j ${this.#names.external}`));
      for (const ip of port.loadBalancerIps) {
        const target = firewalled ? this.#names.firewall : this.#names.external;
        this.rules.natServices.push(this.#to(ip, `${port.name} loadbalancer IP`, `-j ${target}`));
        if (firewalled)
          this.rules.filterFirewall.push(
            this.#to(ip, `${port.name} traffic not accepted by ${this.#names.firewall}`, '-j DROP'),
          );
      }
    }
    if (!externalRefusal) return;
    for (const ip of [...port.externalIps, ...port.loadBalancerIps])
      this.rules.filterExternal.push(
        this.#to(ip, this.#refusalComment(externalRefusal), this.#refusalTarget(externalRefusal)),
      );
  }

  #nodePort(): void {
    const { port, hasEndpoints, externalRefusal } = this.#resolved;
    if (port.nodePort !== 0) {
      const parts = { protocol: this.#protocol, destinationPort: port.nodePort };
      // Node ports are not subject to source ranges, upstream's "for better or for worse".
      if (hasEndpoints)
        this.rules.natNodePorts.push(
          rule({ ...parts, comment: port.name, target: `-j ${this.#names.external}` }),
        );
      if (externalRefusal)
        this.rules.filterExternal.push(
          rule({
            ...parts,
            comment: this.#refusalComment(externalRefusal),
            matches: '-m addrtype --dst-type LOCAL',
            target: this.#refusalTarget(externalRefusal),
          }),
        );
    }
    if (port.healthCheckNodePort !== 0)
      this.rules.filterNodePorts.push(
        rule({
          protocol: 'tcp',
          destinationPort: port.healthCheckNodePort,
          comment: `${port.name} health check node port`,
          target: '-j ACCEPT',
        }),
      );
  }

  #externalChain(): void {
    const { port, externalRefusal } = this.#resolved;
    const { cluster, local, external } = this.#names;
    const comment = (what: string): string => `${what} traffic for ${port.name} external destinations`;
    const rules: string[] = [];
    if (!port.externalPolicyLocal) {
      // The endpoint may be on another node, which must answer through this one.
      rules.push(
        rule({
          comment: `masquerade traffic for ${port.name} external destinations`,
          target: `-j ${CHAIN.markMasq}`,
        }),
      );
    } else {
      // Pods and the node itself are not "external": they short-circuit to all endpoints.
      const fromPods = ifLocal(this.#config.localDetector, port.family, false);
      if (fromPods) rules.push(rule({ ...fromPods, comment: comment('pod'), target: `-j ${cluster}` }));
      const fromNode = '-m addrtype --src-type LOCAL';
      rules.push(
        rule({ comment: comment('masquerade LOCAL'), matches: fromNode, target: `-j ${CHAIN.markMasq}` }),
        rule({ comment: comment('route LOCAL'), matches: fromNode, target: `-j ${cluster}` }),
      );
    }
    if (!externalRefusal) rules.push(`-j ${port.externalPolicyLocal ? local : cluster}`);
    this.rules.chains.push({ name: external, rules });
  }

  /** Sources that may use the load balancer's addresses; the rest is dropped by KUBE-PROXY-FIREWALL. */
  #firewallChain(): void {
    const { port } = this.#resolved;
    const { external, firewall } = this.#names;
    const comment = `${port.name} loadbalancer IP`;
    const ranges = port.sourceRanges ?? [];
    const sources: string[] = [...ranges];
    // The load balancer's address is often a local one as well; then the node's own requests carry it as their source.
    const holdsNode = ranges.some(text => {
      const cidr = parseCidr(text);
      return cidr && this.#config.nodeIps.some(ip => cidrContains(cidr, parseIp(ip) ?? new Uint8Array()));
    });
    if (holdsNode) sources.push(...port.loadBalancerIps);
    const rules = sources.map(source => rule({ source, comment, target: `-j ${external}` }));
    rules.push(rule({ comment: `other traffic to ${port.name} will be dropped by ${CHAIN.firewall}` }));
    this.rules.chains.push({ name: firewall, rules });
  }

  #sepName(endpoint: Endpoint): string {
    const known = this.#sep.get(endpoint);
    if (known !== undefined) return known;
    const name = endpointChain(
      this.#resolved.port.name,
      this.#protocol,
      joinHostPort(endpoint.ip, endpoint.port),
    );
    this.#sep.set(endpoint, name);
    return name;
  }

  #policyChain(name: string, endpoints: readonly Endpoint[], internal: boolean): void {
    if (endpoints.length === 0) return;
    const { port } = this.#resolved;
    const rules: string[] = [];
    if (internal) this.#masqueradeOffCluster(rules);
    const comment = (endpoint: Endpoint): { comment?: string } =>
      this.#comments ? { comment: `${port.name} -> ${joinHostPort(endpoint.ip, endpoint.port)}` } : {};
    if (port.affinitySeconds > 0)
      for (const endpoint of endpoints) {
        const sep = this.#sepName(endpoint);
        const matches = recentMatch(sep, port.family, { seconds: port.affinitySeconds });
        rules.push(rule({ ...comment(endpoint), matches, target: `-j ${sep}` }));
      }
    for (const [index, endpoint] of endpoints.entries()) {
      const left = endpoints.length - index;
      rules.push(
        rule({
          ...comment(endpoint),
          ...(left > 1 ? { matches: randomMatch(left) } : {}),
          target: `-j ${this.#sepName(endpoint)}`,
        }),
      );
    }
    this.rules.chains.push({ name, rules });
  }

  /** Traffic to the cluster IP from outside the cluster: the endpoint must answer through this node. */
  #masqueradeOffCluster(rules: string[]): void {
    const { port } = this.#resolved;
    const notLocal = this.#config.masqueradeAll ? {} : ifLocal(this.#config.localDetector, port.family, true);
    if (!notLocal) return;
    rules.push(
      rule({
        ...notLocal,
        destination: port.clusterIp,
        protocol: this.#protocol,
        destinationPort: port.port,
        comment: `${port.name} cluster IP`,
        target: `-j ${CHAIN.markMasq}`,
      }),
    );
  }

  #endpointChain(endpoint: Endpoint): void {
    const { port } = this.#resolved;
    const name = this.#sepName(endpoint);
    const comment = this.#comments ? { comment: port.name } : {};
    this.rules.chains.push({
      name,
      rules: [
        // A pod that reaches itself through the Service must see another source than itself.
        rule({ ...comment, source: endpoint.ip, target: `-j ${CHAIN.markMasq}` }),
        rule({
          ...comment,
          protocol: this.#protocol,
          ...(port.affinitySeconds > 0 ? { matches: recentMatch(name, port.family) } : {}),
          target: `-j DNAT --to-destination ${joinHostPort(endpoint.ip, endpoint.port)}`,
        }),
      ],
    });
  }
}

export function planPort(resolved: ResolvedPort, config: IptablesConfig, comments: boolean): PortRules {
  return new PortPlanner(resolved, config, comments).plan();
}
