// ConfigMaps and Secrets from the API, remembered for a moment: pods that start together ask once.
import type { ConfigMap, KubeObject, Secret } from '../api/types.ts';
import type { KubeClient } from '../client/client.ts';
import { RESOURCE, type TypedRef } from '../client/resources.ts';
import { ApiError } from '../lib/errors.ts';
import type { ConfigSource } from './env.ts';

const TTL_MS = 1_000;

export class ApiConfigSource implements ConfigSource {
  readonly #client: KubeClient;
  readonly #recent = new Map<string, Promise<unknown>>();

  constructor(client: KubeClient) {
    this.#client = client;
  }

  configMap(namespace: string, name: string): Promise<ConfigMap | undefined> {
    return this.#get(RESOURCE.configMaps, namespace, name);
  }

  secret(namespace: string, name: string): Promise<Secret | undefined> {
    return this.#get(RESOURCE.secrets, namespace, name);
  }

  #get<T extends KubeObject>(ref: TypedRef<T>, namespace: string, name: string): Promise<T | undefined> {
    const key = `${ref.plural}/${namespace}/${name}`;
    const recent = this.#recent.get(key);
    if (recent) return recent as Promise<T | undefined>;
    const answer = this.#read(ref, namespace, name);
    this.#recent.set(key, answer);
    const forget = () => this.#recent.delete(key);
    setTimeout(forget, TTL_MS).unref();
    answer.catch(forget);
    return answer;
  }

  async #read<T extends KubeObject>(
    ref: TypedRef<T>,
    namespace: string,
    name: string,
  ): Promise<T | undefined> {
    try {
      return await this.#client.get(ref, name, namespace);
    } catch (thrown) {
      if (thrown instanceof ApiError && thrown.status === 404) return undefined;
      throw thrown;
    }
  }
}
