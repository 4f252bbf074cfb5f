// One IPAM block as Calico stores it (IPAMBlock spec), and what can be done with it: allocate, assign, release. Pure:
// every function answers a new spec, and the caller writes it with compare-and-swap. Addresses are handed out first in,
// first out, so that a released one rests as long as can be. sequenceNumber grows with every write; the number at
// allocation is kept per ordinal, and a release must bring it, so that a late release never frees a newer allocation.
import { addressOffset, cidrSize, formatCidr, nthAddress, requireCidr } from '../../src/lib/cidr.ts';
import { formatIp, parseIp } from '../../src/lib/ip.ts';
import type { AllocationAttribute, IPAMBlock } from '../bgp/calico/types.ts';

export type BlockSpec = NonNullable<IPAMBlock['spec']>;

/** An attribute entry of an address that rests: `releasedAt` (RFC 3339) and no owner. */
export interface BlockAttribute extends AllocationAttribute {
  readonly releasedAt?: string;
}

export interface Owner {
  readonly handle: string;
  /** `pod`, `namespace`, `node`, … */
  readonly attributes: Readonly<Record<string, string>>;
}

export interface Allocation {
  readonly address: string;
  readonly ordinal: number;
  readonly handle: string | undefined;
  readonly attributes: Readonly<Record<string, string>>;
  readonly sequence: number;
}

export function newBlock(cidrText: string, node: string, now: Date): BlockSpec {
  const cidr = requireCidr(cidrText, 'block');
  const size = Number(cidrSize(cidr));
  return {
    cidr: formatCidr(cidr),
    affinity: `host:${node}`,
    affinityClaimTime: now.toISOString(),
    allocations: new Array<null>(size).fill(null),
    unallocated: Array.from({ length: size }, (_, i) => i),
    attributes: [],
    sequenceNumber: 1,
    sequenceNumberForAllocation: {},
    deleted: false,
    strictAffinity: false,
  };
}

function addressAt(block: BlockSpec, ordinal: number): string {
  return formatIp(nthAddress(requireCidr(block.cidr), ordinal)!);
}

/** -1 for an address that is not in the block. */
export function ordinalOf(block: BlockSpec, address: string): number {
  const bytes = parseIp(address);
  const offset = bytes === undefined ? undefined : addressOffset(requireCidr(block.cidr), bytes);
  return offset === undefined ? -1 : Number(offset);
}

export function allocations(block: BlockSpec): Allocation[] {
  const list: Allocation[] = [];
  block.allocations.forEach((index, ordinal) => {
    if (index === null) return;
    const attribute = block.attributes[index] as BlockAttribute | undefined;
    if (attribute?.releasedAt !== undefined) return;
    list.push({
      address: addressAt(block, ordinal),
      ordinal,
      handle: attribute?.handle_id ?? undefined,
      attributes: attribute?.secondary ?? {},
      sequence: block.sequenceNumberForAllocation?.[String(ordinal)] ?? 0,
    });
  });
  return list;
}

export function isEmpty(block: BlockSpec): boolean {
  return allocations(block).length === 0;
}

/** The index of an attribute entry, shared by equal ones as Calico does. */
function attributeIndex(attributes: AllocationAttribute[], wanted: BlockAttribute): number {
  const key = JSON.stringify(wanted);
  const known = attributes.findIndex(one => JSON.stringify(one) === key);
  return known >= 0 ? known : attributes.push(wanted) - 1;
}

const ownerAttribute = (owner: Owner): BlockAttribute => ({
  handle_id: owner.handle,
  secondary: { ...owner.attributes },
});

interface AllocateOptions {
  readonly count: number;
  readonly owner: Owner;
  /** Addresses that must not be handed out (IPReservation). */
  readonly isReserved: (address: string) => boolean;
}

/** Takes up to `count` addresses from the head of the queue; undefined when none is free. */
export function allocate(
  block: BlockSpec,
  options: AllocateOptions,
): { block: BlockSpec; addresses: string[] } | undefined {
  const taken: number[] = [];
  const left: number[] = [];
  for (const ordinal of block.unallocated)
    if (taken.length < options.count && !options.isReserved(addressAt(block, ordinal))) taken.push(ordinal);
    else left.push(ordinal);
  if (taken.length === 0) return undefined;
  return {
    block: place(block, taken, left, options.owner),
    addresses: taken.map(ordinal => addressAt(block, ordinal)),
  };
}

/** Takes one given address; undefined when it is not free. */
export function assign(block: BlockSpec, address: string, owner: Owner): BlockSpec | undefined {
  const ordinal = ordinalOf(block, address);
  if (ordinal < 0 || !block.unallocated.includes(ordinal)) return undefined;
  return place(
    block,
    [ordinal],
    block.unallocated.filter(one => one !== ordinal),
    owner,
  );
}

function place(
  block: BlockSpec,
  ordinals: readonly number[],
  unallocated: number[],
  owner: Owner,
): BlockSpec {
  const next = [...block.allocations];
  const attributes = [...block.attributes];
  const index = attributeIndex(attributes, ownerAttribute(owner));
  const sequences = { ...block.sequenceNumberForAllocation };
  const sequence = block.sequenceNumber ?? 0;
  for (const ordinal of ordinals) {
    next[ordinal] = index;
    sequences[String(ordinal)] = sequence;
  }
  return {
    ...block,
    allocations: next,
    unallocated,
    attributes,
    sequenceNumber: sequence + 1,
    sequenceNumberForAllocation: sequences,
  };
}

export interface Release {
  readonly ordinal: number;
  /** The allocation's sequence number; another one means that the address has a new owner by now. */
  readonly sequence: number;
}

/** Frees addresses: to the end of the queue, or to rest for `cooldownSeconds` first. Undefined when none matched. */
export function release(
  block: BlockSpec,
  releases: readonly Release[],
  now: Date,
  cooldownSeconds = 0,
): BlockSpec | undefined {
  const freed = releases.filter(
    ({ ordinal, sequence }) =>
      block.allocations[ordinal] !== null &&
      block.allocations[ordinal] !== undefined &&
      (block.sequenceNumberForAllocation?.[String(ordinal)] ?? 0) === sequence,
  );
  if (freed.length === 0) return undefined;
  const next = [...block.allocations];
  const attributes = [...block.attributes];
  const sequences = { ...block.sequenceNumberForAllocation };
  const unallocated = [...block.unallocated];
  for (const { ordinal } of freed) {
    delete sequences[String(ordinal)];
    if (cooldownSeconds > 0)
      next[ordinal] = attributeIndex(attributes, {
        handle_id: null,
        secondary: null,
        releasedAt: now.toISOString(),
      });
    else {
      next[ordinal] = null;
      unallocated.push(ordinal);
    }
  }
  return compact({
    ...block,
    allocations: next,
    attributes,
    unallocated,
    sequenceNumber: (block.sequenceNumber ?? 0) + 1,
    sequenceNumberForAllocation: sequences,
  });
}

/** Addresses whose rest is over go back to the queue; the same block when there is none. */
export function endCooldown(block: BlockSpec, now: Date, cooldownSeconds: number): BlockSpec {
  const rested: number[] = [];
  block.allocations.forEach((index, ordinal) => {
    const releasedAt =
      index === null ? undefined : (block.attributes[index] as BlockAttribute | undefined)?.releasedAt;
    if (releasedAt !== undefined && now.getTime() - Date.parse(releasedAt) >= cooldownSeconds * 1000)
      rested.push(ordinal);
  });
  if (rested.length === 0) return block;
  const next = [...block.allocations];
  for (const ordinal of rested) next[ordinal] = null;
  return compact({
    ...block,
    allocations: next,
    unallocated: [...block.unallocated, ...rested],
    sequenceNumber: (block.sequenceNumber ?? 0) + 1,
  });
}

/** Drops attribute entries nobody refers to. */
function compact(block: BlockSpec): BlockSpec {
  const used = new Map<number, number>();
  const attributes: AllocationAttribute[] = [];
  const renumbered = block.allocations.map(index => {
    if (index === null) return null;
    let now = used.get(index);
    if (now === undefined) {
      now = attributes.push(block.attributes[index] ?? {}) - 1;
      used.set(index, now);
    }
    return now;
  });
  return { ...block, allocations: renumbered, attributes };
}

/** The block with no owner: its last addresses live on, and nobody allocates from it as its own. */
export function withoutAffinity(block: BlockSpec): BlockSpec {
  return {
    ...block,
    affinity: null,
    affinityClaimTime: null,
    sequenceNumber: (block.sequenceNumber ?? 0) + 1,
  };
}
