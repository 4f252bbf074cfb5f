// From IPAM state to routes: the blocks this node owns (announced, and a blackhole in the kernel so that a packet to an
// unused address does not loop), and single addresses it borrowed from other nodes' blocks (announced as /32: the
// longest match beats the owner's block). Only confirmed affinities count. Two owners of one block are named.
import { type Cidr, formatCidr, nthAddress, parseCidr } from '../../../src/lib/cidr.ts';
import { formatIp } from '../../../src/lib/ip.ts';
import type { Problem } from '../../../src/lib/problem.ts';
import type { BlockAffinity, IPAMBlock } from './types.ts';

export interface NodeBlocks {
  readonly own: readonly Cidr[];
  /** Host routes of addresses borrowed by this node. */
  readonly borrowed: readonly Cidr[];
  readonly problems: readonly Problem[];
}

const isLive = (affinity: BlockAffinity): boolean =>
  affinity.spec?.state === 'confirmed' && affinity.spec.deleted !== 'true';

const isHost = (affinity: BlockAffinity): boolean => (affinity.spec?.type ?? 'host') === 'host';

export function blocksOfNode(
  nodeName: string,
  affinities: readonly BlockAffinity[],
  blocks: readonly IPAMBlock[],
): NodeBlocks {
  const problems: Problem[] = [];
  const blockOwner = new Map<string, string>();
  for (const block of blocks) {
    const { affinity, cidr } = block.spec ?? {};
    if (cidr !== undefined && block.spec?.deleted !== true && affinity?.startsWith('host:') === true)
      blockOwner.set(cidr, affinity.slice(5));
  }
  const claims = new Map<string, string[]>();
  for (const affinity of affinities)
    if (isLive(affinity) && isHost(affinity)) {
      const { cidr, node } = affinity.spec!;
      claims.set(cidr, [...(claims.get(cidr) ?? []), node]);
    }
  const own: Cidr[] = [];
  for (const [text, nodes] of claims) {
    const owner = ownerOf(text, nodes, blockOwner, problems);
    if (owner !== nodeName) continue;
    const cidr = parseCidr(text);
    if (cidr === undefined)
      problems.push({
        kind: 'BlockAffinity',
        name: text,
        reason: 'InvalidCIDR',
        message: `${text} is no CIDR; the block is not announced`,
      });
    else own.push(cidr);
  }
  own.sort((a, b) => (formatCidr(a) < formatCidr(b) ? -1 : 1));
  return { own, borrowed: borrowedAddresses(nodeName, blocks), problems };
}

/** The block itself says whose it is; affinities that disagree are named, and only the owner announces it. */
function ownerOf(
  cidr: string,
  nodes: readonly string[],
  blockOwner: ReadonlyMap<string, string>,
  problems: Problem[],
): string | undefined {
  const owner = blockOwner.get(cidr);
  if (nodes.length > 1) {
    const winner = owner !== undefined && nodes.includes(owner) ? owner : [...nodes].sort()[0];
    problems.push({
      kind: 'IPAMBlock',
      name: cidr,
      reason: 'TwoOwners',
      message: `${[...nodes].sort().join(' and ')} both claim ${cidr}; ${winner} announces it`,
    });
    return winner;
  }
  const [claimed] = nodes;
  if (owner !== undefined && owner !== claimed) {
    problems.push({
      kind: 'IPAMBlock',
      name: cidr,
      reason: 'TwoOwners',
      message: `${claimed} has an affinity for ${cidr}, but the block belongs to ${owner}; ${claimed} does not announce it`,
    });
    return undefined;
  }
  return claimed;
}

/** Addresses of this node's pods in blocks of others. */
function borrowedAddresses(nodeName: string, blocks: readonly IPAMBlock[]): Cidr[] {
  const borrowed: Cidr[] = [];
  for (const { spec } of blocks) {
    if (spec === undefined || spec.deleted === true || spec.affinity === `host:${nodeName}`) continue;
    const cidr = parseCidr(spec.cidr);
    if (cidr === undefined) continue;
    spec.allocations.forEach((index, ordinal) => {
      if (index === null || spec.attributes[index]?.secondary?.node !== nodeName) return;
      const address = nthAddress(cidr, ordinal);
      const host =
        address === undefined ? undefined : parseCidr(`${formatIp(address)}/${address.length * 8}`);
      if (host !== undefined) borrowed.push(host);
    });
  }
  return borrowed;
}
