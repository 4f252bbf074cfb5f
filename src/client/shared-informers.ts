// One informer per resource, shared by all controllers of a process: one watch, one copy, many handlers.
import type { KubeObject } from '../api/types.ts';
import type { Logger } from '../observe/log.ts';
import type { KubeClient } from './client.ts';
import { Informer, type InformerOptions } from './informer.ts';
import { groupVersionOf, type TypedRef } from './resources.ts';

interface AnyInformer {
  start(signal?: AbortSignal): void;
  stop(): Promise<void>;
  synced(signal?: AbortSignal): Promise<void>;
}

export class SharedInformers {
  readonly #client: KubeClient;
  readonly #log: Logger | undefined;
  readonly #informers = new Map<string, AnyInformer>();
  #signal: AbortSignal | undefined;
  #started = false;

  constructor(client: KubeClient, log?: Logger) {
    this.#client = client;
    this.#log = log;
  }

  /** The informer of this resource (all namespaces); made on first use, started if the set is running. */
  of<T extends KubeObject>(
    ref: TypedRef<T>,
    options: Pick<InformerOptions, 'fieldSelector' | 'labelSelector'> = {},
  ): Informer<T> {
    const key = [groupVersionOf(ref), ref.plural, options.labelSelector, options.fieldSelector].join(' ');
    let informer = this.#informers.get(key) as Informer<T> | undefined;
    if (!informer) {
      informer = new Informer(this.#client, ref, { ...options, log: this.#log });
      this.#informers.set(key, informer);
      if (this.#started) informer.start(this.#signal);
    }
    return informer;
  }

  start(signal?: AbortSignal): void {
    this.#started = true;
    this.#signal = signal;
    for (const informer of this.#informers.values()) informer.start(signal);
  }

  /** All that exist now have their first list. */
  async synced(signal?: AbortSignal): Promise<void> {
    await Promise.all([...this.#informers.values()].map(informer => informer.synced(signal)));
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#informers.values()].map(informer => informer.stop()));
  }
}
