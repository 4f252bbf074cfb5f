// Gives back what nobody uses any more in this node's blocks: addresses whose pods are gone (a DEL that never came), and
// blocks that stay empty, all but one of each family. Blocks of nodes that no longer exist are collected as well, all of
// them, each round by another node, so that none does everybody's work and none is waited for. What is found must be found
// twice (routing/ipam/garbage.ts).
import { createHash } from 'node:crypto';
import { cidrName } from '../../../routing/bgp/calico/names.ts';
import { type BlockSpec, release } from '../../../routing/ipam/block.ts';
import { releaseBlock } from '../../../routing/ipam/claim.ts';
import { GarbageDetector, type GarbageFound } from '../../../routing/ipam/garbage.ts';
import { decrementHandle } from '../../../routing/ipam/handles.ts';
import type { IpamStore } from '../../../routing/ipam/ipam-store.ts';
import type { Pod, Stored } from '../../api/types.ts';
import { errorMessage } from '../../lib/errors.ts';
import type { Logger } from '../../observe/log.ts';

export interface GarbageCollectorOptions {
  readonly nodeName: string;
  readonly store: IpamStore;
  /** All pods of the cluster: a block of ours may have lent an address to another node's pod. */
  readonly pods: () => Promise<readonly Stored<Pod>[]>;
  readonly nodes: () => ReadonlySet<string>;
  readonly log: Logger;
  readonly intervalMs?: number;
  readonly graceMs?: number;
}

const INTERVAL_MS = 60_000;
/** Longer than any ADD takes from its address to its pod's status. */
const GRACE_MS = 5 * 60_000;

export class IpamGarbageCollector {
  readonly #options: GarbageCollectorOptions;
  readonly #detector: GarbageDetector;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: GarbageCollectorOptions) {
    this.#options = options;
    this.#detector = new GarbageDetector(options.graceMs ?? GRACE_MS);
  }

  start(): void {
    this.#timer ??= setInterval(() => {
      this.collect().catch((error: unknown) =>
        this.#options.log.warn({ error: errorMessage(error) }, 'IPAM garbage is left for the next round'),
      );
    }, this.#options.intervalMs ?? INTERVAL_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  async collect(nowMs = Date.now()): Promise<void> {
    const { store, nodeName, pods, nodes } = this.#options;
    const known = nodes();
    // A list without ourselves is not one to call others gone by.
    const isGone = (node: string): boolean => known.has(nodeName) && !known.has(node);
    const blocks = (await store.blocks.list()).filter(({ spec }) => {
      const owner = ownerOf(spec);
      return owner !== undefined && (owner === nodeName || isGone(owner));
    });
    const owners = new Map(blocks.map(({ spec }) => [spec.cidr, ownerOf(spec) ?? nodeName]));
    const round = Math.floor(nowMs / (this.#options.intervalMs ?? INTERVAL_MS));
    const isMine = (block: string): boolean => {
      const owner = owners.get(block) ?? nodeName;
      return owner === nodeName || chosen(owner, round, known) === nodeName;
    };
    // Pods after blocks: an address given out in between belongs to a pod that is seen.
    const found = this.#detector.observe({
      nowMs,
      blocks,
      pods: addressesOf(await pods()),
      nodes: known,
    });
    for (const { block, handle, release: freed } of found.releases) {
      if (!isMine(block)) continue;
      const name = cidrName(block);
      const stored = await store.blocks.get(name);
      const next = stored && release(stored.spec, [freed], new Date(nowMs));
      if (!stored || !next) continue;
      await store.blocks.update(name, next, stored.version);
      if (handle !== '') await decrementHandle(store, handle, block, 1);
      this.#options.log.info({ block, handle, ordinal: freed.ordinal }, 'a leaked address was given back');
    }
    const own = (block: string): boolean => owners.get(block) === nodeName;
    for (const block of spare(
      found.emptyBlocks.filter(({ block }) => own(block)),
      blocks.map(({ spec }) => spec.cidr).filter(own),
    )) {
      await releaseBlock(store, nodeName, block);
      this.#options.log.info({ block }, 'an empty block was given up');
    }
    for (const { block, node } of found.emptyBlocks) {
      if (own(block) || !isMine(block)) continue;
      await releaseBlock(store, node, block);
      this.#options.log.info({ block, node }, 'the empty block of a node that is gone was given up');
    }
  }
}

function ownerOf({ affinity }: BlockSpec): string | undefined {
  return affinity?.startsWith('host:') === true ? affinity.slice('host:'.length) : undefined;
}

/** The node that collects for one that is gone: every node finds the same one, and another one each round. */
function chosen(gone: string, round: number, nodes: ReadonlySet<string>): string | undefined {
  const start = createHash('sha256').update(gone).digest().readUInt32BE(0);
  return [...nodes].toSorted()[(start + round) % nodes.size];
}

function addressesOf(pods: readonly Stored<Pod>[]): Map<string, ReadonlySet<string>> {
  return new Map(
    pods
      .filter(({ status }) => status?.phase !== 'Succeeded' && status?.phase !== 'Failed')
      .map(({ metadata, status }) => [
        `${metadata.namespace}/${metadata.name}`,
        new Set((status?.podIPs ?? []).flatMap(({ ip }) => ip ?? [])),
      ]),
  );
}

/** Empty blocks that may go: a node keeps one of each family, so that its next pod need not claim one. */
function spare(empty: GarbageFound['emptyBlocks'], owned: readonly string[]): string[] {
  const left = { 4: 0, 6: 0 };
  const familyOf = (cidr: string): 4 | 6 => (cidr.includes(':') ? 6 : 4);
  for (const cidr of owned) left[familyOf(cidr)]++;
  return empty.flatMap(({ block }) => (--left[familyOf(block)] > 0 ? [block] : []));
}
