// The overlay of one node as a pure function: leases of the others, this node's share and the backend in, kernel state
// out. Every backend goes through here; forwarding, masquerade and forward rules are the same for all of them.
import type { KernelState } from '../src/kernel/state.ts';
import { type Cidr, formatCidr } from '../src/lib/cidr.ts';
import type { Problem } from '../src/lib/problem.ts';
import { planHostGw } from './hostgw/plan.ts';
import { ipipMtu, planIpip } from './ipip/plan.ts';
import type { FamilyLease, LeaseRules, NodeLease } from './subnet/annotations.ts';
import { planMasquerade } from './subnet/masquerade.ts';
import { type NetConf, networkOf } from './subnet/net-conf.ts';
import { type Peer, selectPeers } from './subnet/peers.ts';
import { claimsOf, type Self } from './subnet/self.ts';
import type { Underlay } from './subnet/underlay.ts';
import { type PeerWays, planVxlan, vxlanMtu } from './vxlan/plan.ts';

export interface NodeRules {
  /** --ip-masq */
  masquerade: boolean;
  /** --iptables-forward-rules */
  forward: boolean;
  /** MASQUERADE --random-fully */
  randomFully: boolean;
}

export const DEFAULT_NODE_RULES: NodeRules = { masquerade: true, forward: true, randomFully: true };

/** What earlier plans under the same configuration and underlay made, by lease: one joining node costs one node. */
export type KnownWays = WeakMap<FamilyLease, PeerWays>;

export interface OverlayPlan {
  state: KernelState;
  peers: Peer[];
  problems: Problem[];
  /** What the pods' links may carry. */
  mtuBytes: number;
}

/** How to read a peer's annotations under this configuration. */
export function leaseRules(config: NetConf, prefix: string): LeaseRules {
  const networks: Cidr[] = ([4, 6] as const).flatMap(family => networkOf(config, family) ?? []);
  const { backend } = config;
  return {
    prefix,
    networks,
    backendType: backend.type,
    ...(backend.type === 'vxlan' ? { vni: backend.vni } : {}),
  };
}

function planNode(self: Self, rules: NodeRules): KernelState {
  return {
    sysctls: self.families.map(({ family }) =>
      family === 4
        ? { path: 'net/ipv4/ip_forward', value: '1' }
        : { path: 'net/ipv6/conf/all/forwarding', value: '1' },
    ),
    xtables: self.families.flatMap(({ family, network, subnet }) =>
      planMasquerade({ family, network: formatCidr(network), subnet: formatCidr(subnet), ...rules }),
    ),
  };
}

function planWays(
  self: Self,
  peers: readonly Peer[],
  config: NetConf,
  underlay: Underlay,
  known: KnownWays | undefined,
): { state: KernelState; problems: Problem[]; mtuBytes: number } {
  const { backend } = config;
  switch (backend.type) {
    case 'vxlan':
      return {
        state: planVxlan(self, peers, backend, underlay, known),
        problems: [],
        mtuBytes: vxlanMtu(backend, underlay, self.families),
      };
    case 'ipip':
      return {
        state: planIpip(self, peers, backend, underlay),
        problems: [],
        mtuBytes: ipipMtu(underlay),
      };
    case 'host-gw':
      return { ...planHostGw(peers, underlay), mtuBytes: underlay.mtuBytes };
    case 'alloc':
      return { state: {}, problems: [], mtuBytes: underlay.mtuBytes };
  }
}

/** Everything this node needs in its kernel to reach the pods of these nodes. */
export function planOverlay(
  self: Self,
  leases: Iterable<NodeLease>,
  config: NetConf,
  underlay: Underlay,
  rules: NodeRules = DEFAULT_NODE_RULES,
  known?: KnownWays,
): OverlayPlan {
  const selected = selectPeers(claimsOf(self), leases);
  const peers = selected.peers.filter(peer => self.families.some(family => family.family === peer.family));
  const ways = planWays(self, peers, config, underlay, known);
  const node = planNode(self, rules);
  return {
    state: {
      ...ways.state,
      sysctls: [...(node.sysctls ?? []), ...(ways.state.sysctls ?? [])],
      xtables: node.xtables,
    },
    peers,
    problems: [...selected.problems, ...ways.problems],
    mtuBytes: ways.mtuBytes,
  };
}
