// The overlay of one node: leases of the others, this node's share and the backend in, kernel state out. Every backend
// goes through here; forwarding, masquerade and forward rules are the same for all of them. Pure: it opens no socket and
// reads no clock. It remembers what it planned, so that one changed node costs what concerns that node; all at once
// (planOverlay) or one by one, the answer is the same.
import type { KernelState, SysctlState } from '../src/kernel/state.ts';
import { type Cidr, formatCidr } from '../src/lib/cidr.ts';
import { PodwireError } from '../src/lib/errors.ts';
import type { Problem } from '../src/lib/problem.ts';
import { planHostGwPeer } from './hostgw/plan.ts';
import { ipipMtu, planIpipDevice, planIpipPeer } from './ipip/plan.ts';
import { type NftTable, planNftTable } from './nft/masquerade.ts';
import type { LeaseRules, NodeLease } from './subnet/annotations.ts';
import { planMasquerade } from './subnet/masquerade.ts';
import { type NetConf, networkOf } from './subnet/net-conf.ts';
import { type Peer, PeerSelection } from './subnet/peers.ts';
import { claimsOf, type Self } from './subnet/self.ts';
import type { Underlay } from './subnet/underlay.ts';
import { planVxlanDevices, planVxlanPeer, vxlanMtu } from './vxlan/plan.ts';
import { type WayPlanner, WayTable } from './way-table.ts';

export interface NodeRules {
  /** --ip-masq */
  masquerade: boolean;
  /** --iptables-forward-rules */
  forward: boolean;
  /** MASQUERADE --random-fully */
  randomFully: boolean;
}

export const DEFAULT_NODE_RULES: NodeRules = { masquerade: true, forward: true, randomFully: true };

export interface OverlayPlan {
  state: KernelState;
  /** The rules, where net-conf wants them as nftables; they are not in `state` then. */
  nftables: NftTable[];
  /** As of the last plan of the same planner. */
  readonly peers: Peer[];
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

function planSysctls(self: Self): SysctlState[] {
  return self.families.map(({ family }) =>
    family === 4
      ? { path: 'net/ipv4/ip_forward', value: '1' }
      : { path: 'net/ipv6/conf/all/forwarding', value: '1' },
  );
}

/** What is the same whoever the peers are. */
function planBase(
  self: Self,
  config: NetConf,
  underlay: Underlay,
  rules: NodeRules,
): { state: KernelState; nftables: NftTable[]; mtuBytes: number } {
  const { backend, enableNftables } = config;
  const inputs = self.families.map(({ family, network, subnet }) => ({
    family,
    network: formatCidr(network),
    subnet: formatCidr(subnet),
    ...rules,
  }));
  const device =
    backend.type === 'vxlan'
      ? planVxlanDevices(self, backend, underlay)
      : backend.type === 'ipip'
        ? planIpipDevice(self, underlay)
        : {};
  const mtuBytes =
    backend.type === 'vxlan'
      ? vxlanMtu(backend, underlay, self.families)
      : backend.type === 'ipip'
        ? ipipMtu(underlay)
        : underlay.mtuBytes;
  const sysctls = [...planSysctls(self), ...(device.sysctls ?? [])];
  return {
    state: { ...device, sysctls, xtables: enableNftables ? [] : inputs.flatMap(planMasquerade) },
    nftables: enableNftables ? inputs.map(planNftTable) : [],
    mtuBytes,
  };
}

function wayPlanner({ families }: Self, { backend }: NetConf, underlay: Underlay): WayPlanner {
  return (peer, viaNexthop) => {
    if (!families.some(({ family }) => family === peer.family)) return undefined;
    switch (backend.type) {
      case 'vxlan':
        return planVxlanPeer(peer, backend, underlay, viaNexthop);
      case 'ipip':
        return planIpipPeer(peer, backend, underlay);
      case 'host-gw':
        return planHostGwPeer(peer, underlay);
      case 'alloc':
        return undefined;
    }
  };
}

export class OverlayPlanner {
  readonly #config: NetConf;
  readonly #rules: NodeRules;
  readonly #leases = new Map<string, NodeLease>();
  #self: Self | undefined;
  #underlay: Underlay | undefined;
  #base: ReturnType<typeof planBase> | undefined;
  #selection: PeerSelection | undefined;
  #ways: WayTable | undefined;

  constructor(config: NetConf, rules: NodeRules = DEFAULT_NODE_RULES) {
    this.#config = config;
    this.#rules = rules;
  }

  /** This node's own share; where it is another than before, everything is planned anew. */
  setSelf(self: Self, underlay: Underlay): void {
    if (sameJson(self, this.#self) && sameJson(underlay, this.#underlay)) return;
    this.#self = self;
    this.#underlay = underlay;
    this.#base = planBase(self, this.#config, underlay, this.#rules);
    this.#selection = new PeerSelection(claimsOf(self));
    this.#ways = new WayTable(wayPlanner(self, this.#config, underlay));
    for (const lease of this.#leases.values()) this.#selection.set(lease.node, lease);
  }

  /** What a node says of itself; undefined when it takes no part. */
  setLease(node: string, lease: NodeLease | undefined): void {
    if (this.#leases.get(node) === lease) return;
    if (lease === undefined) this.#leases.delete(node);
    else this.#leases.set(node, lease);
    this.#selection?.set(node, lease);
  }

  /** Everything this node needs in its kernel to reach the pods of the others. setSelf comes first. */
  plan(): OverlayPlan {
    const [selection, ways, base] = [this.#selection, this.#ways, this.#base];
    if (!selection || !ways || !base)
      throw new PodwireError('NO_POD_CIDR', 'the overlay does not know its own share yet');
    const { gone, come } = selection.settle();
    ways.change(gone, come);
    return {
      state: { ...base.state, ...ways.state() },
      nftables: base.nftables,
      // Asked for by people, and not at every change.
      get peers() {
        return ways.peers;
      },
      problems: [...selection.problems, ...ways.problems],
      mtuBytes: base.mtuBytes,
    };
  }
}

function sameJson(left: object, right: object | undefined): boolean {
  return JSON.stringify(left) === JSON.stringify(right);
}

/** The same at one go. */
export function planOverlay(
  self: Self,
  leases: Iterable<NodeLease>,
  config: NetConf,
  underlay: Underlay,
  rules: NodeRules = DEFAULT_NODE_RULES,
): OverlayPlan {
  const planner = new OverlayPlanner(config, rules);
  planner.setSelf(self, underlay);
  for (const lease of leases) planner.setLease(lease.node, lease);
  return planner.plan();
}
