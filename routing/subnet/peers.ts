// Which peers the overlay takes: what all nodes claim, without what contradicts others or us. Pure.
// The older node keeps what two nodes claim, so that a newcomer (or an attacker) cannot take a running node's traffic.
//
// A claim is one pod CIDR of one node. Two claims are rivals when their subnets overlap or their VTEPs have one MAC.
// When a claim comes or goes, only those are judged again that are its rivals, or rivals of those, and so on: nobody, as
// a rule. So one joining node costs the same in a cluster of five nodes and of five thousand.
import { type Cidr, cidrContainsCidr, cidrsOverlap, maskIp } from '../../src/lib/cidr.ts';
import { formatIp, type IpFamily } from '../../src/lib/ip.ts';
import type { Problem } from '../../src/lib/problem.ts';
import type { FamilyLease, NodeLease } from './annotations.ts';

/** What this node itself holds, which no peer may claim. */
export interface SelfClaims {
  node: string;
  subnets: readonly Cidr[];
  publicIps: readonly string[];
  vtepMacs: readonly { family: IpFamily; mac: string }[];
}

/** One pod CIDR with the node it lies on, ready to be programmed. */
export type Peer = FamilyLease;

interface Claim {
  createdAt: string;
  peer: Peer;
  accepted: boolean;
  problem?: Problem;
}

/** What one change of one node changed; of the others only where they had been rivals. */
export interface SelectionChange {
  gone: Peer[];
  come: Peer[];
}

function byAge(left: Claim, right: Claim): number {
  if (left.createdAt !== right.createdAt) return left.createdAt < right.createdAt ? -1 : 1;
  if (left.peer.node !== right.peer.node) return left.peer.node < right.peer.node ? -1 : 1;
  return left.peer.family - right.peer.family;
}

/** Claims under a text that they have in common. */
class ClaimMap extends Map<string, Claim[]> {
  add(key: string, claim: Claim): void {
    const there = this.get(key);
    if (there === undefined) this.set(key, [claim]);
    else there.push(claim);
  }

  remove(key: string, claim: Claim): void {
    const rest = this.get(key)?.filter(other => other !== claim) ?? [];
    if (rest.length > 0) this.set(key, rest);
    else this.delete(key);
  }
}

function macKey({ family, vtep }: Peer): string | undefined {
  return vtep && `${family} ${vtep.mac}`;
}

export class PeerSelection {
  readonly #self: SelfClaims;
  readonly #byNode = new Map<string, Claim[]>();
  readonly #byMac = new ClaimMap();
  /** By family and prefix length, then by canonical subnet. */
  readonly #bySubnet = new Map<number, ClaimMap>();
  readonly #refused = new Set<Claim>();
  /** To be judged (again). */
  readonly #open = new Set<Claim>();
  #gone: Peer[] = [];

  constructor(self: SelfClaims) {
    this.#self = self;
  }

  /** Who is left out, and why. */
  get problems(): Problem[] {
    return [...this.#refused].sort(byAge).flatMap(({ problem }) => problem ?? []);
  }

  /** What this node says now; undefined when it is gone or says nothing of use. */
  set(node: string, lease: NodeLease | undefined): void {
    for (const claim of this.#byNode.get(node) ?? []) this.#drop(claim);
    this.#byNode.delete(node);
    if (lease === undefined || node === this.#self.node) return;
    const claims = lease.families.map(peer => ({ createdAt: lease.createdAt, peer, accepted: false }));
    this.#byNode.set(node, claims);
    for (const claim of claims) {
      const conflict = this.#conflictWithSelf(claim.peer);
      if (conflict !== undefined) {
        this.#refuse(claim, conflict);
        continue;
      }
      this.#list(claim);
      this.#open.add(claim);
    }
  }

  /** What the changes since the last call come to. */
  settle(): SelectionChange {
    const change: SelectionChange = { gone: this.#gone, come: [] };
    this.#gone = [];
    while (this.#open.size > 0) this.#judge(this.#group(), change);
    return change;
  }

  #drop(claim: Claim): void {
    this.#unlist(claim);
    this.#open.delete(claim);
    if (claim.accepted) this.#gone.push(claim.peer);
    for (const rival of this.#overlapping(claim.peer)) this.#open.add(rival);
    for (const rival of this.#sameMac(claim.peer)) this.#open.add(rival);
  }

  #conflictWithSelf({ family, cidr, subnet, publicIp, vtep }: Peer): string | undefined {
    const { node, subnets, publicIps, vtepMacs } = this.#self;
    if (subnets.some(own => cidrsOverlap(own, cidr)))
      return `podCIDR ${subnet} overlaps that of node ${node}`;
    if (publicIps.includes(publicIp)) return `public IP ${publicIp} is this node's (${node}) own`;
    if (vtep && vtepMacs.some(own => own.family === family && own.mac === vtep.mac))
      return `VtepMAC ${vtep.mac} is that of node ${node}`;
    return undefined;
  }

  #list(claim: Claim): void {
    const { family, cidr, subnet } = claim.peer;
    const length = family * 1000 + cidr.prefixLength;
    const subnets = this.#bySubnet.get(length) ?? new ClaimMap();
    this.#bySubnet.set(length, subnets);
    subnets.add(subnet, claim);
    const mac = macKey(claim.peer);
    if (mac) this.#byMac.add(mac, claim);
  }

  #unlist(claim: Claim): void {
    this.#refused.delete(claim);
    const { family, cidr, subnet } = claim.peer;
    const length = family * 1000 + cidr.prefixLength;
    const subnets = this.#bySubnet.get(length);
    subnets?.remove(subnet, claim);
    if (subnets?.size === 0) this.#bySubnet.delete(length);
    const mac = macKey(claim.peer);
    if (mac) this.#byMac.remove(mac, claim);
  }

  #sameMac(peer: Peer): readonly Claim[] {
    const mac = macKey(peer);
    return (mac && this.#byMac.get(mac)) || [];
  }

  /** A look-up for each prefix length there is; a walk only where the cluster has longer ones than this. */
  *#overlapping({ family, cidr, subnet }: Peer): Iterable<Claim> {
    for (const [key, subnets] of this.#bySubnet) {
      if (Math.trunc(key / 1000) !== family) continue;
      const length = key % 1000;
      if (length === cidr.prefixLength) yield* subnets.get(subnet) ?? [];
      else if (length < cidr.prefixLength)
        yield* subnets.get(`${formatIp(maskIp(cidr.network, length))}/${length}`) ?? [];
      else
        for (const claims of subnets.values())
          if (cidrContainsCidr(cidr, claims[0]!.peer.cidr)) yield* claims;
    }
  }

  /** An open claim with its rivals, theirs, and so on, oldest first; no longer open. */
  #group(): Claim[] {
    const [first] = this.#open;
    const group = new Set([first!]);
    const macs = new Set<readonly Claim[]>();
    for (const claim of group) {
      this.#open.delete(claim);
      for (const rival of this.#overlapping(claim.peer)) group.add(rival);
      const sharing = this.#sameMac(claim.peer);
      if (macs.has(sharing)) continue;
      macs.add(sharing);
      for (const rival of sharing) group.add(rival);
    }
    return [...group].sort(byAge);
  }

  /** Oldest first, each is taken that contradicts none taken before it. */
  #judge(group: readonly Claim[], change: SelectionChange): void {
    const was = group.map(({ accepted }) => accepted);
    const holders = new Map<string | undefined, Claim>();
    for (const claim of group) claim.accepted = false;
    for (const [at, claim] of group.entries()) {
      const { peer } = claim;
      const mac = macKey(peer);
      const conflict = this.#conflictWith(peer, mac === undefined ? undefined : holders.get(mac)?.peer);
      if (conflict !== undefined) {
        if (was[at]) change.gone.push(peer);
        this.#refuse(claim, conflict);
        continue;
      }
      claim.accepted = true;
      holders.set(mac, claim);
      this.#refused.delete(claim);
      if (!was[at]) change.come.push(peer);
    }
  }

  #conflictWith(peer: Peer, macHolder: Peer | undefined): string | undefined {
    const [oldest] = [...this.#overlapping(peer)].filter(({ accepted }) => accepted).sort(byAge);
    if (oldest) return `podCIDR ${peer.subnet} overlaps that of node ${oldest.peer.node}`;
    return macHolder && `VtepMAC ${peer.vtep?.mac} is that of node ${macHolder.node}`;
  }

  #refuse(claim: Claim, conflict: string): void {
    claim.accepted = false;
    claim.problem = {
      kind: 'Node',
      name: claim.peer.node,
      reason: 'OverlayConflict',
      message: `${conflict}; the overlay leaves this node out`,
    };
    this.#refused.add(claim);
  }
}
