// How a node comes to own a block and gives it up (Calico's protocol, lib/ipam/ipam_block_reader_writer.go):
//   claim:   affinity `pending` → create the block, which decides the race → affinity `confirmed`
//   release: affinity `pendingDeletion` → block deleted when empty, else left without an owner → affinity deleted
// Every step may be the last one before a crash: each is repeated harmlessly, and pending counts as nothing.
import { createHash } from 'node:crypto';
import { cidrSize, formatCidr, nthSubnet } from '../../src/lib/cidr.ts';
import { hasCode, PodwireError } from '../../src/lib/errors.ts';
import { affinityName, cidrName } from '../bgp/calico/names.ts';
import type { Pool } from '../bgp/calico/pools.ts';
import { type BlockSpec, isEmpty, newBlock, withoutAffinity } from './block.ts';
import type { IpamStore, Versioned } from './ipam-store.ts';

export const RETRIES = 100;

/** All blocks of a pool, in an order that is the node's own, so that nodes rarely want the same one. */
export function* blockOrder(pool: Pool, node: string): Generator<string> {
  const bits = pool.blockSize - pool.cidr.prefixLength;
  const count =
    bits > 30
      ? 2 ** 30
      : Number(cidrSize(pool.cidr) >> BigInt(pool.cidr.network.length * 8 - pool.blockSize));
  const hash = createHash('sha256').update(node).digest();
  const start = hash.readUInt32BE(0) % count;
  // An odd step visits every one of a power of two.
  const step = count === 1 ? 1 : (hash.readUInt32BE(4) % count) | 1;
  for (let i = 0; i < count; i++) {
    const subnet = nthSubnet(pool.cidr, pool.blockSize, (start + i * step) % count);
    if (subnet !== undefined) yield formatCidr(subnet);
  }
}

/** Claims one given block; undefined when another node has it. */
export async function claimBlock(
  store: IpamStore,
  node: string,
  cidr: string,
  now: Date,
): Promise<Versioned<BlockSpec> | undefined> {
  const name = affinityName(node, cidr);
  await ensureAffinity(store, node, cidr, name);
  let block: Versioned<BlockSpec> | undefined;
  try {
    block = await store.blocks.create(cidrName(cidr), newBlock(cidr, node, now));
  } catch (error) {
    if (!hasCode(error, 'AlreadyExists')) throw error;
    block = await store.blocks.get(cidrName(cidr));
  }
  if (block === undefined || block.spec.deleted === true || block.spec.affinity !== `host:${node}`) {
    await dropAffinity(store, name);
    return undefined;
  }
  await confirm(store, name);
  return block;
}

async function ensureAffinity(store: IpamStore, node: string, cidr: string, name: string): Promise<void> {
  const spec = { state: 'pending' as const, node, type: 'host', cidr, deleted: 'false' };
  try {
    await store.affinities.create(name, spec);
  } catch (error) {
    if (!hasCode(error, 'AlreadyExists')) throw error;
    const existing = await store.affinities.get(name);
    // One that is being deleted is taken back: the block decides.
    if (existing !== undefined && existing.spec.state === 'pendingDeletion')
      await store.affinities.update(name, { ...spec }, existing.version);
  }
}

async function confirm(store: IpamStore, name: string): Promise<void> {
  for (let attempt = 0; attempt < RETRIES; attempt++) {
    const affinity = await store.affinities.get(name);
    if (affinity === undefined || affinity.spec.state === 'confirmed') return;
    try {
      await store.affinities.update(name, { ...affinity.spec, state: 'confirmed' }, affinity.version);
      return;
    } catch (error) {
      if (!hasCode(error, 'Conflict')) throw error;
    }
  }
  throw new PodwireError('IPAM_BUSY', `affinity ${name} could not be confirmed in ${RETRIES} attempts`);
}

async function dropAffinity(store: IpamStore, name: string): Promise<void> {
  const affinity = await store.affinities.get(name);
  if (affinity === undefined) return;
  try {
    // Two steps, because the API has no compare-and-delete: `deleted` is the moment it counts from.
    const marked = await store.affinities.update(
      name,
      { ...affinity.spec, deleted: 'true' },
      affinity.version,
    );
    await store.affinities.delete(name, marked.version);
  } catch (error) {
    if (!hasCode(error, 'Conflict') && !hasCode(error, 'NotFound')) throw error;
  }
}

/** Gives a block up. True when the block is gone or has no owner any more. */
export async function releaseBlock(store: IpamStore, node: string, cidr: string): Promise<boolean> {
  const name = affinityName(node, cidr);
  const affinity = await store.affinities.get(name);
  if (affinity !== undefined && affinity.spec.state !== 'pendingDeletion')
    await store.affinities.update(name, { ...affinity.spec, state: 'pendingDeletion' }, affinity.version);
  const block = await store.blocks.get(cidrName(cidr));
  if (block !== undefined && block.spec.affinity === `host:${node}`) {
    if (isEmpty(block.spec)) {
      const marked = await store.blocks.update(block.name, { ...block.spec, deleted: true }, block.version);
      await store.blocks.delete(block.name, marked.version);
    } else await store.blocks.update(block.name, withoutAffinity(block.spec), block.version);
  }
  await dropAffinity(store, name);
  return true;
}

/** The node's blocks: confirmed ones as they are; pending ones, and such without a block, are carried through. */
export async function ownBlocks(store: IpamStore, node: string, now: Date): Promise<Versioned<BlockSpec>[]> {
  const blocks: Versioned<BlockSpec>[] = [];
  for (const { spec } of await store.affinities.list()) {
    if (spec.node !== node || (spec.type ?? 'host') !== 'host' || spec.deleted === 'true') continue;
    if (spec.state === 'pendingDeletion') continue;
    let block = spec.state === 'confirmed' ? await store.blocks.get(cidrName(spec.cidr)) : undefined;
    block ??= await claimBlock(store, node, spec.cidr, now);
    if (block?.spec.affinity === `host:${node}`) blocks.push(block);
  }
  return blocks;
}
