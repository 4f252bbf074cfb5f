// IPAM's state in the API server: every write is compare-and-swap by resourceVersion. A refusal keeps Kubernetes' reason
// as its code, which is what the allocator branches on; any other error means that nobody knows.
import type { Pool } from '../../../routing/bgp/calico/pools.ts';
import {
  DEFAULT_IPAM_CONFIG,
  type IpamStore,
  type KindStore,
  type Versioned,
} from '../../../routing/ipam/ipam-store.ts';
import type { KubeObject, Stored } from '../../api/types.ts';
import type { KubeClient } from '../../client/client.ts';
import type { TypedRef } from '../../client/resources.ts';
import { isNotFound } from '../../client/status.ts';
import { CALICO } from './resources.ts';

/** What IPAM reads often and changes never: from the informers. */
export interface IpamSettings {
  pools(): readonly Pool[];
  config(): Awaited<ReturnType<IpamStore['config']>> | undefined;
  reservedCidrs(): readonly string[];
}

export function apiIpamStore(client: KubeClient, settings: IpamSettings): IpamStore {
  return {
    blocks: new ApiKindStore(client, CALICO.blocks),
    affinities: new ApiKindStore(client, CALICO.affinities),
    handles: new ApiKindStore(client, CALICO.handles),
    config: async () => settings.config() ?? DEFAULT_IPAM_CONFIG,
    pools: async () => settings.pools(),
    reservedCidrs: async () => settings.reservedCidrs(),
  };
}

class ApiKindStore<T extends KubeObject & { spec?: object }> implements KindStore<NonNullable<T['spec']>> {
  readonly #client: KubeClient;
  readonly #ref: TypedRef<T>;

  constructor(client: KubeClient, ref: TypedRef<T>) {
    this.#client = client;
    this.#ref = ref;
  }

  async get(name: string): Promise<Versioned<NonNullable<T['spec']>> | undefined> {
    try {
      return versioned(await this.#client.get(this.#ref, name));
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  async list(): Promise<Versioned<NonNullable<T['spec']>>[]> {
    return (await this.#client.list(this.#ref)).items.map(versioned);
  }

  async create(name: string, spec: NonNullable<T['spec']>): Promise<Versioned<NonNullable<T['spec']>>> {
    return versioned(await this.#client.create(this.#ref, { metadata: { name }, spec } as T));
  }

  async update(
    name: string,
    spec: NonNullable<T['spec']>,
    version: string,
  ): Promise<Versioned<NonNullable<T['spec']>>> {
    const object = { metadata: { name, resourceVersion: version }, spec } as unknown as T;
    return versioned(await this.#client.update(this.#ref, object));
  }

  async delete(name: string, version: string): Promise<void> {
    await this.#client.delete(this.#ref, name, { preconditions: { resourceVersion: version } });
  }
}

function versioned<T extends KubeObject & { spec?: object }>(
  object: Stored<T>,
): Versioned<NonNullable<T['spec']>> {
  const { name, resourceVersion } = object.metadata;
  return { name, version: resourceVersion, spec: object.spec as NonNullable<T['spec']> };
}
