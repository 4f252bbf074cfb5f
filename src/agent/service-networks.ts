// The networks that cluster IPs come from, as the cluster's ServiceCIDR objects say (KEP-1880; Kubernetes 1.33 has them
// as v1, 1.31 as v1beta1). Older servers have none, and older roles do not let kube-proxy read them: then nothing is
// known, which is no error.
import type { KubeObject } from '../api/types.ts';
import type { KubeClient } from '../client/client.ts';
import { Informer } from '../client/informer.ts';
import type { TypedRef } from '../client/resources.ts';
import { formatCidr, parseCidr } from '../lib/cidr.ts';
import { sleep } from '../lib/clock.ts';
import { ApiError, errorMessage } from '../lib/errors.ts';
import type { Logger } from '../observe/log.ts';

interface ServiceCidr extends KubeObject {
  spec?: { cidrs?: string[] };
}

const VERSIONS = ['v1', 'v1beta1'] as const;
/** A server may be upgraded, and a role extended. */
const ASK_AGAIN_MS = 300_000;
const RETRY_MS = 2000;

function ref(version: string): TypedRef<ServiceCidr> {
  return {
    group: 'networking.k8s.io',
    version,
    plural: 'servicecidrs',
    kind: 'ServiceCIDR',
    namespaced: false,
  };
}

export interface ServiceNetworksOptions {
  client: KubeClient;
  onChange: () => void;
  log: Logger;
}

export class ServiceNetworks {
  readonly #options: ServiceNetworksOptions;
  readonly #known = Promise.withResolvers<void>();
  #informer: Informer<ServiceCidr> | undefined;
  #running: Promise<void> | undefined;

  constructor(options: ServiceNetworksOptions) {
    this.#options = options;
  }

  /** Sorted, canonical. */
  get cidrs(): string[] {
    const texts = this.#informer?.list().flatMap(({ spec }) => spec?.cidrs ?? []) ?? [];
    const found = texts.flatMap(text => parseCidr(text) ?? []).map(formatCidr);
    return [...new Set(found)].sort();
  }

  /** Resolves when it is known whether there are any, or after `patienceMs`. */
  async asked(patienceMs: number, signal: AbortSignal): Promise<void> {
    await Promise.race([this.#known.promise, sleep(patienceMs, signal)]);
  }

  start(signal: AbortSignal): void {
    this.#running = this.#run(signal);
  }

  async stop(): Promise<void> {
    await this.#running;
    await this.#informer?.stop();
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { log, onChange, client } = this.#options;
    while (!signal.aborted) {
      try {
        const version = await this.#served(signal);
        if (version === undefined) {
          this.#known.resolve();
          await sleep(ASK_AGAIN_MS, signal);
          continue;
        }
        const informer = new Informer<ServiceCidr>(client, ref(version), { log });
        this.#informer = informer;
        informer.onChange(onChange);
        informer.start(signal);
        await informer.synced(signal);
        this.#known.resolve();
        return;
      } catch (error) {
        if (signal.aborted) return;
        log.debug(`read ServiceCIDRs: ${errorMessage(error)}`);
        await sleep(RETRY_MS, signal);
      }
    }
  }

  /** The first version that the server has and lets us read. */
  async #served(signal: AbortSignal): Promise<string | undefined> {
    for (const version of VERSIONS)
      try {
        await this.#options.client.list(ref(version), { limit: 1, retries: 0, signal });
        return version;
      } catch (error) {
        if (!(error instanceof ApiError) || (error.status !== 404 && error.status !== 403)) throw error;
      }
    return undefined;
  }
}
