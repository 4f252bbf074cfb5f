// Local copies of everything a node's BGP is planned from: Calico's resources, and the pods of this node.
import type { CalicoInput } from '../../../routing/bgp/calico/input.ts';
import { type Pool, readPools } from '../../../routing/bgp/calico/pools.ts';
import type {
  BGPConfiguration,
  BGPFilter,
  BGPPeer,
  BlockAffinity,
  IPAMBlock,
  IPAMConfig,
  IPPool,
  IPReservation,
} from '../../../routing/bgp/calico/types.ts';
import type { LocalWorkload } from '../../../routing/bgp/calico/workload-peers.ts';
import type { KubeObject, Pod, Stored } from '../../api/types.ts';
import type { KubeClient } from '../../client/client.ts';
import { Informer, type InformerOptions } from '../../client/informer.ts';
import { RESOURCE, type TypedRef } from '../../client/resources.ts';
import type { Logger } from '../../observe/log.ts';
import type { IpamSettings } from './ipam-store.ts';
import { CALICO } from './resources.ts';

type Listed = 'pools' | 'configurations' | 'peers' | 'filters' | 'affinities' | 'blocks' | 'localWorkloads';

export class CalicoObjects implements IpamSettings {
  readonly #client: KubeClient;
  readonly #log: Logger;
  readonly #informers: Informer<KubeObject>[] = [];
  readonly #pools: Informer<IPPool>;
  readonly #configurations: Informer<BGPConfiguration>;
  readonly #peers: Informer<BGPPeer>;
  readonly #filters: Informer<BGPFilter>;
  readonly #affinities: Informer<BlockAffinity>;
  readonly #blocks: Informer<IPAMBlock>;
  readonly #ipamConfigs: Informer<IPAMConfig>;
  readonly #reservations: Informer<IPReservation>;
  readonly #pods: Informer<Pod>;

  constructor(client: KubeClient, nodeName: string, log: Logger) {
    this.#client = client;
    this.#log = log;
    this.#pools = this.#informer(CALICO.pools);
    this.#configurations = this.#informer(CALICO.configurations);
    this.#peers = this.#informer(CALICO.peers);
    this.#filters = this.#informer(CALICO.filters);
    this.#affinities = this.#informer(CALICO.affinities);
    this.#blocks = this.#informer(CALICO.blocks);
    this.#ipamConfigs = this.#informer(CALICO.ipamConfigs);
    this.#reservations = this.#informer(CALICO.reservations);
    this.#pods = this.#informer(RESOURCE.pods, { fieldSelector: `spec.nodeName=${nodeName}` });
  }

  get hasSynced(): boolean {
    return this.#informers.every(informer => informer.hasSynced());
  }

  start(signal: AbortSignal): void {
    for (const informer of this.#informers) informer.start(signal);
  }

  async synced(signal: AbortSignal): Promise<void> {
    await Promise.all(this.#informers.map(informer => informer.synced(signal)));
  }

  async stop(): Promise<void> {
    await Promise.all(this.#informers.map(informer => informer.stop()));
  }

  onChange(handler: () => void): void {
    for (const informer of this.#informers) informer.onChange(handler);
  }

  /** Its part of the plan's input. */
  input(): Pick<CalicoInput, Listed> {
    return {
      pools: this.#pools.list(),
      configurations: this.#configurations.list(),
      peers: this.#peers.list(),
      filters: this.#filters.list(),
      affinities: this.#affinities.list(),
      blocks: this.#blocks.list(),
      localWorkloads: this.#pods.list().flatMap(localWorkload),
    };
  }

  peers(): readonly BGPPeer[] {
    return this.#peers.list();
  }

  pools(): readonly Pool[] {
    return readPools(this.#pools.list()).pools;
  }

  config(): ReturnType<IpamSettings['config']> {
    return this.#ipamConfigs.get('default')?.spec;
  }

  reservedCidrs(): readonly string[] {
    return this.#reservations.list().flatMap(({ spec }) => spec?.reservedCIDRs ?? []);
  }

  #informer<T extends KubeObject>(ref: TypedRef<T>, options: InformerOptions = {}): Informer<T> {
    const informer = new Informer<T>(this.#client, ref, { ...options, log: this.#log });
    this.#informers.push(informer as unknown as Informer<KubeObject>);
    return informer;
  }
}

/** A pod that runs, with its own addresses. */
function localWorkload({ metadata, spec, status }: Stored<Pod>): LocalWorkload[] {
  if (spec?.hostNetwork === true || status?.phase !== 'Running') return [];
  const { namespace = '', name, labels = {} } = metadata;
  return [{ namespace, name, labels, addresses: (status.podIPs ?? []).flatMap(({ ip }) => ip ?? []) }];
}
