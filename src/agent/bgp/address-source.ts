// Gives the podwire-ipam plugin its addresses: the plugin's requests become the allocator's, marked with this node.
import type { AddressRequest, AddressSource } from '../../../cni/ipam/podwire/podwire-ipam.ts';
import { IpamAllocator } from '../../../routing/ipam/allocator.ts';
import { allocations } from '../../../routing/ipam/block.ts';
import type { IpamStore } from '../../../routing/ipam/ipam-store.ts';
import { PodwireError } from '../../lib/errors.ts';

export interface NodeAddressesOptions {
  readonly store: IpamStore;
  readonly nodeName: string;
  /** Resolves when pools and this node's labels are known. */
  readonly ready: Promise<void>;
  readonly nodeLabels: () => Readonly<Record<string, string>>;
}

/** A pod waits no longer than this for the agent to know the pools. */
const READY_TIMEOUT_MS = 20_000;

export class NodeAddresses implements AddressSource {
  readonly #options: NodeAddressesOptions;
  #allocator: IpamAllocator | undefined;

  constructor(options: NodeAddressesOptions) {
    this.#options = options;
  }

  async assign({ handle, family, attributes }: AddressRequest): Promise<string> {
    const allocator = await this.#ready();
    const owner = { handle, attributes: { ...attributes, node: this.#options.nodeName } };
    return (await allocator.assign({ owner, family })).address;
  }

  async release(handle: string): Promise<void> {
    await (await this.#ready()).releaseHandle(handle);
  }

  async addresses(handle: string): Promise<readonly string[]> {
    const blocks = await this.#options.store.blocks.list();
    return blocks
      .flatMap(({ spec }) => allocations(spec))
      .filter(one => one.handle === handle)
      .map(({ address }) => address);
  }

  async handles(): Promise<readonly string[]> {
    const blocks = await this.#options.store.blocks.list();
    const own = blocks
      .flatMap(({ spec }) => allocations(spec))
      .filter(({ attributes }) => attributes.node === this.#options.nodeName);
    return [...new Set(own.flatMap(({ handle }) => (handle === undefined ? [] : [handle])))];
  }

  /** One allocator for the node, so that its requests take turns; labels as they are when the first pod comes. */
  async #ready(): Promise<IpamAllocator> {
    const timeout = new Promise<never>((_resolve, reject) => {
      setTimeout(
        () => reject(new PodwireError('NOT_READY', 'IPAM does not know the IP pools yet')),
        READY_TIMEOUT_MS,
      ).unref();
    });
    await Promise.race([this.#options.ready, timeout]);
    this.#allocator ??= new IpamAllocator({
      store: this.#options.store,
      nodeName: this.#options.nodeName,
      nodeLabels: this.#options.nodeLabels(),
    });
    return this.#allocator;
  }
}
