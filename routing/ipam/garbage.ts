// Leaked addresses and empty blocks, found by two observations (Calico's design/ipam/ipam-gc.md): what looked leaked
// before and still does after the grace period is released; a block that was empty twice is given up. Pure: objects go
// in, releases come out, each with the sequence number that guards against a newer owner.
import type { IPAMBlock } from '../bgp/calico/types.ts';
import { allocations, isEmpty, type Release } from './block.ts';

export interface Observation {
  readonly nowMs: number;
  readonly blocks: readonly IPAMBlock[];
  /** `namespace/name` of pods that exist, with the addresses they have. */
  readonly pods: ReadonlyMap<string, ReadonlySet<string>>;
  readonly nodes: ReadonlySet<string>;
}

export interface GarbageFound {
  readonly releases: readonly {
    readonly block: string;
    readonly handle: string;
    readonly release: Release;
  }[];
  /** Blocks to be given up by (or for) their node. */
  readonly emptyBlocks: readonly { readonly block: string; readonly node: string }[];
}

export class GarbageDetector {
  readonly #graceMs: number;
  /** When each suspect was first seen so, by block, ordinal and sequence. */
  #suspects = new Map<string, number>();
  #empty = new Set<string>();

  constructor(graceMs: number) {
    this.#graceMs = graceMs;
  }

  observe(observation: Observation): GarbageFound {
    const suspects = new Map<string, number>();
    const empty = new Set<string>();
    /** All of a handle or nothing: a pod with one live address keeps them all. */
    const byHandle = new Map<
      string,
      { leaked: boolean; list: { block: string; release: Release; key: string }[] }
    >();
    const emptyBlocks: { block: string; node: string }[] = [];
    for (const { spec } of observation.blocks) {
      if (spec === undefined || spec.deleted === true) continue;
      for (const one of allocations(spec)) {
        const handle = one.handle ?? '';
        const entry = byHandle.get(handle) ?? { leaked: true, list: [] };
        entry.leaked &&= isLeaked(one.address, one.attributes, observation);
        const key = `${spec.cidr} ${one.ordinal} ${one.sequence}`;
        entry.list.push({ block: spec.cidr, release: { ordinal: one.ordinal, sequence: one.sequence }, key });
        byHandle.set(handle, entry);
      }
      if (isEmpty(spec) && spec.affinity?.startsWith('host:') === true) {
        const key = `${spec.cidr} ${spec.sequenceNumber ?? 0}`;
        if (this.#empty.has(key)) emptyBlocks.push({ block: spec.cidr, node: spec.affinity.slice(5) });
        empty.add(key);
      }
    }
    const releases: GarbageFound['releases'][number][] = [];
    for (const [handle, { leaked, list }] of byHandle) {
      if (!leaked) continue;
      for (const { block, release, key } of list) {
        const since = this.#suspects.get(key);
        suspects.set(key, since ?? observation.nowMs);
        if (since !== undefined && observation.nowMs - since >= this.#graceMs)
          releases.push({ block, handle, release });
      }
    }
    this.#suspects = suspects;
    this.#empty = empty;
    return { releases, emptyBlocks };
  }
}

/** A tunnel address lives as long as its node; a pod's as long as the pod, while the pod has it or has none yet. */
function isLeaked(
  address: string,
  attributes: Readonly<Record<string, string>>,
  { pods, nodes }: Observation,
): boolean {
  const { pod, namespace, node, type } = attributes;
  if (type?.endsWith('TunnelAddress') === true) return node !== undefined && !nodes.has(node);
  if (pod === undefined || namespace === undefined) return false;
  const addresses = pods.get(`${namespace}/${pod}`);
  if (addresses === undefined) return true;
  return addresses.size > 0 && !addresses.has(address);
}
