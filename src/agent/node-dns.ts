// DNS on every node, at addresses of the node's own that are the same everywhere: a pod's resolver is always local,
// and no query crosses a Service's rules (the idea of Kubernetes' NodeLocal DNSCache, KEP-1024, and its address).
import { ServiceRecords } from '../dns/records.ts';
import { DnsServer } from '../dns/server.ts';
import type { KernelState } from '../kernel/state.ts';
import { errorMessage } from '../lib/errors.ts';
import type { Logger } from '../observe/log.ts';

const ADDRESS = { 4: '169.254.20.10', 6: 'fd00:169:254:20::10' } as const;
const RETRY_MS = 1000;

export interface NodeDnsOptions {
  families: (4 | 6)[];
  domain: string;
  setDesired: (state: KernelState) => void;
  /** Resolves when what is desired is in the kernel. */
  settled: () => Promise<void>;
  log: Logger;
}

export class NodeDns {
  readonly addresses: string[];
  /** What is answered; whoever watches the API keeps it up to date. */
  readonly records: ServiceRecords;
  readonly #options: NodeDnsOptions;
  readonly #server: DnsServer;
  #retry: NodeJS.Timeout | undefined;

  constructor(options: NodeDnsOptions) {
    this.#options = options;
    this.addresses = [...new Set(options.families)].map(family => ADDRESS[family]);
    this.records = new ServiceRecords(options.domain);
    this.#server = new DnsServer({
      addresses: this.addresses,
      resolve: (name, type) => this.records.resolve(name, type),
      log: options.log,
    });
  }

  /** Never rejects: a node without DNS still carries traffic, so binding is retried in the background. */
  async start(): Promise<void> {
    this.#options.setDesired(planDnsAddresses(this.addresses));
    await this.#bind();
  }

  async stop(): Promise<void> {
    clearTimeout(this.#retry);
    await this.#server.stop();
  }

  async #bind(): Promise<void> {
    try {
      await this.#options.settled();
      await this.#server.start();
      this.#options.log.info({ addresses: this.addresses }, 'DNS answers');
    } catch (thrown) {
      this.#options.log.warn({ error: errorMessage(thrown) }, 'DNS does not answer yet');
      await this.#server.stop();
      this.#retry = setTimeout(() => void this.#bind(), RETRY_MS);
    }
  }
}

/** The addresses on `lo`. Pure. */
export function planDnsAddresses(addresses: readonly string[]): KernelState {
  return {
    links: [{ name: 'lo', kind: 'existing', up: true }],
    // The kernel decides the scope of an IPv6 address by itself (ipv6(7)).
    addresses: addresses.map(address =>
      address.includes(':')
        ? { link: 'lo', address: `${address}/128` }
        : { link: 'lo', address: `${address}/32`, scope: 'host' as const },
    ),
  };
}
