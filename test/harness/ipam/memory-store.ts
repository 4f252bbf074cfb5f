// IPAM's store in memory, shared by any number of nodes, with the API server's manners: versions, conflicts, and, when
// told so, requests that fail before or after they took effect.
import { readPools } from '../../../routing/bgp/calico/pools.ts';
import type { IPPool } from '../../../routing/bgp/calico/types.ts';
import {
  DEFAULT_IPAM_CONFIG,
  type IpamStore,
  type KindStore,
  type Versioned,
} from '../../../routing/ipam/ipam-store.ts';
import { PodwireError } from '../../../src/lib/errors.ts';

type Fault = () => 'none' | 'before' | 'after';

class MemoryKind<T> implements KindStore<T> {
  readonly #objects = new Map<string, Versioned<T>>();
  readonly #fault: Fault;
  #version = 0;

  constructor(fault: Fault) {
    this.#fault = fault;
  }

  async #write<R>(work: () => R): Promise<R> {
    await new Promise(resolve => setImmediate(resolve));
    const fault = this.#fault();
    if (fault === 'before') throw new PodwireError('ECONNRESET', 'the connection broke');
    const result = work();
    if (fault === 'after') throw new PodwireError('ECONNRESET', 'the connection broke after the write');
    return result;
  }

  async get(name: string): Promise<Versioned<T> | undefined> {
    await new Promise(resolve => setImmediate(resolve));
    return structuredClone(this.#objects.get(name));
  }

  async list(): Promise<Versioned<T>[]> {
    await new Promise(resolve => setImmediate(resolve));
    return structuredClone([...this.#objects.values()]);
  }

  create(name: string, spec: T): Promise<Versioned<T>> {
    return this.#write(() => {
      if (this.#objects.has(name)) throw new PodwireError('AlreadyExists', `${name} exists`);
      return this.#store(name, spec);
    });
  }

  update(name: string, spec: T, version: string): Promise<Versioned<T>> {
    return this.#write(() => {
      this.#check(name, version);
      return this.#store(name, spec);
    });
  }

  delete(name: string, version: string): Promise<void> {
    return this.#write(() => {
      this.#check(name, version);
      this.#objects.delete(name);
    });
  }

  #check(name: string, version: string): void {
    const now = this.#objects.get(name);
    if (now === undefined) throw new PodwireError('NotFound', `${name} does not exist`);
    if (now.version !== version) throw new PodwireError('Conflict', `${name} changed`);
  }

  #store(name: string, spec: T): Versioned<T> {
    const stored = { name, version: String(++this.#version), spec: structuredClone(spec) };
    this.#objects.set(name, stored);
    return structuredClone(stored);
  }
}

export class MemoryIpamStore implements IpamStore {
  fault: Fault = () => 'none';
  settings = { ...DEFAULT_IPAM_CONFIG };
  reserved: string[] = [];
  poolObjects: IPPool[];
  readonly blocks: IpamStore['blocks'];
  readonly affinities: IpamStore['affinities'];
  readonly handles: IpamStore['handles'];

  constructor(pools: IPPool[]) {
    this.poolObjects = pools;
    const fault: Fault = () => this.fault();
    this.blocks = new MemoryKind(fault);
    this.affinities = new MemoryKind(fault);
    this.handles = new MemoryKind(fault);
  }

  config(): ReturnType<IpamStore['config']> {
    return Promise.resolve(this.settings);
  }

  pools(): ReturnType<IpamStore['pools']> {
    return Promise.resolve(readPools(this.poolObjects).pools);
  }

  reservedCidrs(): Promise<string[]> {
    return Promise.resolve(this.reserved);
  }
}
