// Which peers the overlay takes: leases of all nodes, without those that contradict each other or us. Pure.
// The older node keeps what two nodes claim, so that a newcomer (or an attacker) cannot take a running node's traffic.
import { type Cidr, cidrsOverlap, compareCidr, formatCidr, maskIp } from '../../src/lib/cidr.ts';
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

/** Finds an overlapping subnet among those added, in a look-up a distinct prefix length. */
class SubnetIndex {
  readonly #byLength = new Map<number, Map<string, string>>();
  #list: { cidr: Cidr; owner: string }[] = [];

  add(cidr: Cidr, text: string, owner: string): void {
    const key = cidr.family * 1000 + cidr.prefixLength;
    const subnets = this.#byLength.get(key) ?? new Map<string, string>();
    this.#byLength.set(key, subnets);
    subnets.set(text, owner);
    this.#list.push({ cidr, owner });
  }

  /** `text` is the canonical form of `cidr`. */
  overlapping(cidr: Cidr, text: string): string | undefined {
    let longer = false;
    for (const [key, subnets] of this.#byLength) {
      if (Math.trunc(key / 1000) !== cidr.family) continue;
      const prefixLength = key % 1000;
      if (prefixLength > cidr.prefixLength) longer = true;
      else {
        const covering =
          prefixLength === cidr.prefixLength
            ? text
            : `${formatIp(maskIp(cidr.network, prefixLength))}/${prefixLength}`;
        const owner = subnets.get(covering);
        if (owner !== undefined) return owner;
      }
    }
    // Only when the cluster mixes prefix lengths: a shorter newcomer may cover what is there.
    return longer ? this.#list.find(other => cidrsOverlap(other.cidr, cidr))?.owner : undefined;
  }
}

function byAge(left: NodeLease, right: NodeLease): number {
  if (left.createdAt !== right.createdAt) return left.createdAt < right.createdAt ? -1 : 1;
  return left.node < right.node ? -1 : left.node > right.node ? 1 : 0;
}

/** One pod CIDR with the node it lies on, ready to be programmed. */
export interface Peer extends FamilyLease {
  node: string;
  /** The object it was made from: the same as long as the node says the same. */
  lease: FamilyLease;
}

/** The peers without the contradictory ones, by family and subnet. */
export function selectPeers(
  self: SelfClaims,
  leases: Iterable<NodeLease>,
): { peers: Peer[]; problems: Problem[] } {
  const problems: Problem[] = [];
  const peers: Peer[] = [];
  const subnets = new SubnetIndex();
  const macs = new Map<string, string>();
  for (const cidr of self.subnets) subnets.add(cidr, formatCidr(cidr), self.node);
  for (const { family, mac } of self.vtepMacs) macs.set(`${family} ${mac}`, self.node);
  const claim = (node: string, family: FamilyLease): string | undefined => {
    const owner = subnets.overlapping(family.cidr, family.subnet);
    if (owner !== undefined) return `podCIDR ${family.subnet} overlaps that of node ${owner}`;
    if (self.publicIps.includes(family.publicIp))
      return `public IP ${family.publicIp} is this node's (${self.node}) own`;
    const mac = family.vtep && `${family.family} ${family.vtep.mac}`;
    const holder = mac && macs.get(mac);
    if (holder) return `VtepMAC ${family.vtep?.mac} is that of node ${holder}`;
    subnets.add(family.cidr, family.subnet, node);
    if (mac) macs.set(mac, node);
    return undefined;
  };
  for (const lease of [...leases].sort(byAge)) {
    if (lease.node === self.node) continue;
    for (const family of lease.families) {
      const conflict = claim(lease.node, family);
      if (conflict === undefined) peers.push({ ...family, node: lease.node, lease: family });
      else
        problems.push({
          kind: 'Node',
          name: lease.node,
          reason: 'OverlayConflict',
          message: `${conflict}; the overlay leaves this node out`,
        });
    }
  }
  peers.sort((left, right) => compareCidr(left.cidr, right.cidr));
  return { peers, problems };
}
