// Where IPAM keeps its state, as the allocator sees it: four kinds with compare-and-swap. The agent gives one over the
// API server; tests one in memory. A refused write throws an error whose `code` is a Kubernetes reason: AlreadyExists,
// Conflict, NotFound. Any other error means that nobody knows whether the write happened.
import type { Pool } from '../bgp/calico/pools.ts';
import type { BlockAffinity, IPAMBlock, IPAMConfig, IPAMHandle } from '../bgp/calico/types.ts';

export interface Versioned<T> {
  readonly name: string;
  readonly version: string;
  readonly spec: T;
}

export interface KindStore<T> {
  get(name: string): Promise<Versioned<T> | undefined>;
  list(): Promise<Versioned<T>[]>;
  create(name: string, spec: T): Promise<Versioned<T>>;
  update(name: string, spec: T, version: string): Promise<Versioned<T>>;
  /** Fails with Conflict when the object changed. */
  delete(name: string, version: string): Promise<void>;
}

type SpecOf<T extends { spec?: unknown }> = NonNullable<T['spec']>;

export interface IpamStore {
  readonly blocks: KindStore<SpecOf<IPAMBlock>>;
  readonly affinities: KindStore<SpecOf<BlockAffinity>>;
  readonly handles: KindStore<SpecOf<IPAMHandle>>;
  config(): Promise<SpecOf<IPAMConfig>>;
  pools(): Promise<readonly Pool[]>;
  /** CIDRs of all IPReservations. */
  reservedCidrs(): Promise<readonly string[]>;
}

export const DEFAULT_IPAM_CONFIG: SpecOf<IPAMConfig> = {
  strictAffinity: false,
  autoAllocateBlocks: true,
  maxBlocksPerHost: 0,
  ipCooldownSeconds: 0,
};
