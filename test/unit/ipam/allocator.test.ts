// IPAM blocks: the claim protocol, borrowing, handles, cool-down, reservations, and many nodes at once with a store
// that breaks in the middle of requests.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IpamAllocator } from '../../../routing/ipam/allocator.ts';
import { allocations } from '../../../routing/ipam/block.ts';
import { claimBlock, releaseBlock } from '../../../routing/ipam/claim.ts';
import { GarbageDetector } from '../../../routing/ipam/garbage.ts';
import { hasCode } from '../../../src/lib/errors.ts';
import { randomSource } from '../../harness/bgp/route-blob.ts';
import { MemoryIpamStore } from '../../harness/ipam/memory-store.ts';

const pool = (cidr: string, more: object = {}) => ({
  metadata: { name: `pool-${cidr}` },
  spec: { cidr, ...more },
});

function allocator(store: MemoryIpamStore, node: string, now?: () => Date): IpamAllocator {
  return new IpamAllocator({ store, nodeName: node, nodeLabels: {}, ...(now === undefined ? {} : { now }) });
}

const request = (handle: string, address?: string) => ({
  owner: { handle, attributes: { pod: handle, namespace: 'default', node: 'n' } },
  family: 4 as const,
  ...(address === undefined ? {} : { address }),
});

async function used(store: MemoryIpamStore): Promise<string[]> {
  return (await store.blocks.list()).flatMap(({ spec }) => allocations(spec).map(one => one.address));
}

test('a node claims a block, confirmed, and takes its addresses first in, first out', async () => {
  const store = new MemoryIpamStore([pool('10.0.0.0/24', { blockSize: 29 })]);
  const ipam = allocator(store, 'node-1');
  const first = await ipam.assign(request('a'));
  const second = await ipam.assign(request('b'));
  assert.equal(first.block, second.block);
  assert.equal(first.borrowed, false);
  const [affinity] = await store.affinities.list();
  assert.deepEqual([affinity?.spec.state, affinity?.spec.node], ['confirmed', 'node-1']);
  await ipam.releaseHandle('a');
  const later = [];
  for (let i = 0; i < 6; i++) later.push((await ipam.assign(request(`c${i}`))).address);
  assert.ok(!later.includes(first.address), 'the released address goes to the end of the queue');
  assert.equal((await ipam.assign(request('d'))).address, first.address);
});

test('a repeated request gets the same address; released handles leave nothing', async () => {
  const store = new MemoryIpamStore([pool('10.0.0.0/24')]);
  const ipam = allocator(store, 'node-1');
  const first = await ipam.assign(request('a'));
  assert.deepEqual(await ipam.assign(request('a')), first);
  assert.deepEqual(await ipam.releaseHandle('a'), [first.address]);
  assert.deepEqual(await ipam.releaseHandle('a'), []);
  assert.deepEqual(await store.handles.list(), []);
  assert.deepEqual(await used(store), []);
});

test('two nodes that want one block: the block decides, the loser leaves no affinity', async () => {
  const store = new MemoryIpamStore([pool('10.0.0.0/24')]);
  const claims = await Promise.all(
    ['node-1', 'node-2', 'node-3'].map(node => claimBlock(store, node, '10.0.0.64/26', new Date())),
  );
  assert.equal(claims.filter(claim => claim !== undefined).length, 1);
  const affinities = await store.affinities.list();
  assert.deepEqual(
    affinities.map(({ spec }) => spec.state),
    ['confirmed'],
  );
});

test('without space of its own a node borrows; strict affinity forbids it', async () => {
  const store = new MemoryIpamStore([pool('10.0.0.0/29', { blockSize: 29 })]);
  await allocator(store, 'node-1').assign(request('a'));
  const borrowed = await allocator(store, 'node-2').assign(request('b'));
  assert.equal(borrowed.borrowed, true);
  store.settings = { ...store.settings, strictAffinity: true };
  await assert.rejects(allocator(store, 'node-3').assign(request('c')), (error: unknown) =>
    hasCode(error, 'IPAM_EXHAUSTED'),
  );
});

test('maxBlocksPerHost, reservations, selected pools, given addresses', async () => {
  const store = new MemoryIpamStore([
    pool('10.0.0.0/27', { blockSize: 29 }),
    pool('10.9.0.0/24', { assignmentMode: 'Manual' }),
  ]);
  store.settings = { ...store.settings, maxBlocksPerHost: 1, strictAffinity: true };
  store.reserved = ['10.0.0.0/30', '10.0.0.8/30', '10.0.0.16/30', '10.0.0.24/30'];
  const ipam = allocator(store, 'node-1');
  for (let i = 0; i < 4; i++) await ipam.assign(request(`a${i}`));
  await assert.rejects(ipam.assign(request('more')), (error: unknown) => hasCode(error, 'IPAM_EXHAUSTED'));
  const given = await ipam.assign({ ...request('given', '10.9.0.77'), pools: ['pool-10.9.0.0/24'] });
  assert.equal(given.address, '10.9.0.77');
  await assert.rejects(
    ipam.assign({ ...request('other', '10.9.0.77'), pools: ['pool-10.9.0.0/24'] }),
    (error: unknown) => hasCode(error, 'ADDRESS_IN_USE'),
  );
});

test('ipCooldownSeconds: a released address rests', async () => {
  let now = new Date('2026-01-01T00:00:00Z');
  const store = new MemoryIpamStore([pool('10.0.0.0/31', { blockSize: 31 })]);
  store.settings = { ...store.settings, ipCooldownSeconds: 60 };
  const ipam = allocator(store, 'node-1', () => now);
  await ipam.assign(request('a'));
  await ipam.assign(request('b'));
  await ipam.releaseHandle('a');
  await assert.rejects(ipam.assign(request('c')), (error: unknown) => hasCode(error, 'IPAM_EXHAUSTED'));
  now = new Date('2026-01-01T00:01:01Z');
  assert.ok(await ipam.assign(request('c')));
});

test('a block is given up: deleted when empty, without an owner when not', async () => {
  const store = new MemoryIpamStore([pool('10.0.0.0/24')]);
  const ipam = allocator(store, 'node-1');
  const { block } = await ipam.assign(request('a'));
  await releaseBlock(store, 'node-1', block);
  const [left] = await store.blocks.list();
  assert.equal(left?.spec.affinity, null);
  await ipam.releaseHandle('a');
  const again = await claimBlock(store, 'node-2', '10.0.0.192/26', new Date());
  await releaseBlock(store, 'node-2', again!.spec.cidr);
  assert.equal(await store.blocks.get('10-0-0-192-26'), undefined);
  assert.deepEqual(await store.affinities.list(), []);
});

test('200 allocations on 10 nodes over a store that breaks: no duplicate, no leak', async () => {
  const store = new MemoryIpamStore([pool('10.0.0.0/23', { blockSize: 28 })]);
  const random = randomSource(5);
  store.fault = () => {
    const dice = random();
    return dice < 0.05 ? 'before' : dice < 0.1 ? 'after' : 'none';
  };
  const nodes = Array.from({ length: 10 }, (_, i) => allocator(store, `node-${i}`));
  const stubborn = async <T>(work: () => Promise<T>): Promise<T> => {
    for (;;)
      try {
        return await work();
      } catch (error) {
        if (!hasCode(error, 'ECONNRESET')) throw error;
      }
  };
  const got = await Promise.all(
    Array.from({ length: 200 }, (_, i) => stubborn(() => nodes[i % 10]!.assign(request(`pod-${i}`)))),
  );
  assert.equal(new Set(got.map(one => one.address)).size, 200);
  assert.deepEqual((await used(store)).sort(), got.map(one => one.address).sort());
  await Promise.all(
    Array.from({ length: 200 }, (_, i) => stubborn(() => nodes[i % 10]!.releaseHandle(`pod-${i}`))),
  );
  assert.deepEqual(await used(store), []);
  assert.deepEqual(await store.handles.list(), []);
});

test('garbage: two observations and the grace period; a newer owner is safe; tunnel addresses live with their node', async () => {
  const store = new MemoryIpamStore([pool('10.0.0.0/24')]);
  const ipam = allocator(store, 'n');
  const dead = await ipam.assign(request('dead'));
  const live = await ipam.assign(request('live'));
  await ipam.assign({
    ...request('tunnel'),
    owner: { handle: 'ipip-tunnel-addr-n', attributes: { node: 'n', type: 'ipipTunnelAddress' } },
  });
  const detector = new GarbageDetector(1000);
  const blocks = async () => (await store.blocks.list()).map(({ spec }) => ({ spec }));
  const pods = new Map([['default/live', new Set([live.address])]]);
  const look = async (nowMs: number) =>
    detector.observe({ nowMs, blocks: await blocks(), pods, nodes: new Set(['n']) });
  assert.deepEqual((await look(0)).releases, []);
  assert.deepEqual((await look(500)).releases, []);
  const found = await look(1500);
  assert.deepEqual(
    found.releases.map(one => one.handle),
    ['dead'],
  );
  assert.ok((await used(store)).includes(dead.address));
});

test('garbage: an address that was given to somebody else meanwhile is not released, nor one of a handle that lives', async () => {
  const store = new MemoryIpamStore([pool('10.0.0.0/31', { blockSize: 31 })]);
  const ipam = allocator(store, 'n');
  const detector = new GarbageDetector(1000);
  const blocks = async () => (await store.blocks.list()).map(({ spec }) => ({ spec }));
  const nodes = new Set(['n']);
  const look = async (nowMs: number, pods = new Map<string, Set<string>>()) =>
    detector.observe({ nowMs, blocks: await blocks(), pods, nodes });
  const first = await ipam.assign(request('first'));
  await look(0);
  await ipam.releaseHandle('first');
  await ipam.assign(request('other'));
  const again = await ipam.assign(request('second'));
  assert.equal(again.address, first.address, 'the same ordinal, by another sequence number');
  const second = new Map([['default/second', new Set([again.address])]]);
  assert.deepEqual((await look(2000, second)).releases, []);
  // All or none of a handle: a pod with one live address keeps what it has.
  const found = await look(4000, second);
  assert.deepEqual(
    found.releases.map(one => one.handle),
    ['other'],
  );
});

test('garbage: a block that was empty at two looks in a row is named, one that was used in between is not', async () => {
  const store = new MemoryIpamStore([pool('10.0.0.0/24')]);
  const ipam = allocator(store, 'n');
  const detector = new GarbageDetector(0);
  const look = async () => {
    const blocks = (await store.blocks.list()).map(({ spec }) => ({ spec }));
    const pods = new Map([['default/a', new Set<string>()]]);
    return detector.observe({ nowMs: 0, blocks, pods, nodes: new Set(['n']) }).emptyBlocks;
  };
  const { block } = await ipam.assign(request('a'));
  assert.deepEqual(await look(), []);
  await ipam.releaseHandle('a');
  assert.deepEqual(await look(), [], 'empty for the first time');
  await ipam.assign(request('a'));
  await ipam.releaseHandle('a');
  assert.deepEqual(await look(), [], 'used in between');
  assert.deepEqual(await look(), [{ block, node: 'n' }]);
});
