// One watch each of Services and EndpointSlices for a whole node, handed on to the service proxy and to DNS.
import type { ServiceProxy } from '../../proxy/proxy.ts';
import type { EndpointSlice, Service } from '../api/types.ts';
import { KubeClient } from '../client/client.ts';
import { Informer } from '../client/informer.ts';
import { loadKubeconfig } from '../client/kubeconfig.ts';
import { RESOURCE } from '../client/resources.ts';
import type { ServiceRecords } from '../dns/records.ts';
import type { Logger } from '../observe/log.ts';

export class ServicesFeed {
  readonly #client: KubeClient;
  readonly #services: Informer<Service>;
  readonly #slices: Informer<EndpointSlice>;

  constructor(kubeconfig: string, log: Logger) {
    this.#client = new KubeClient(loadKubeconfig(kubeconfig), { userAgent: 'podwire-proxy', log });
    this.#services = new Informer<Service>(this.#client, RESOURCE.services, { log });
    this.#slices = new Informer<EndpointSlice>(this.#client, RESOURCE.endpointSlices, { log });
  }

  feedRecords(records: ServiceRecords): void {
    this.#services.onChange(({ type, object }) =>
      type === 'deleted' ? records.deleteService(object) : records.setService(object),
    );
    this.#slices.onChange(({ type, object }) =>
      type === 'deleted' ? records.deleteSlice(object) : records.setSlice(object),
    );
  }

  /** The proxy writes nothing before it was told, with the whole lists, that it has seen everything. */
  feedProxy(proxy: ServiceProxy, signal: AbortSignal): void {
    this.#services.onChange(({ type, object }) => {
      const { namespace = '', name } = object.metadata;
      if (type === 'deleted') proxy.deleteService(namespace, name);
      else proxy.upsertService(object);
    });
    this.#slices.onChange(({ type, object }) => {
      const { namespace = '', name } = object.metadata;
      if (type === 'deleted') proxy.deleteEndpointSlice(namespace, name);
      else proxy.upsertEndpointSlice(object);
    });
    const whenStopped = () => {};
    this.#services.synced(signal).then(() => proxy.setServices(this.#services.list()), whenStopped);
    this.#slices.synced(signal).then(() => proxy.setEndpointSlices(this.#slices.list()), whenStopped);
  }

  services(): readonly Service[] {
    return this.#services.list();
  }

  endpointSlices(): readonly EndpointSlice[] {
    return this.#slices.list();
  }

  onChange(handler: () => void): void {
    this.#services.onChange(handler);
    this.#slices.onChange(handler);
  }

  async synced(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#services.synced(signal), this.#slices.synced(signal)]);
  }

  start(signal: AbortSignal): void {
    this.#services.start(signal);
    this.#slices.start(signal);
  }

  async stop(): Promise<void> {
    await Promise.all([this.#services.stop(), this.#slices.stop()]);
    await this.#client.close();
  }
}
