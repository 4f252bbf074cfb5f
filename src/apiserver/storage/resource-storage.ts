// Objects over the store: keys from the registry, the store's refusals as the API's, and the read-change-compare-and-swap
// loop that every write of an existing object goes through.
import type { ResourceDefinition } from '../../api/resources.ts';
import { alreadyExists, conflict, expired, internalError, notFound } from '../../api/status.ts';
import type { KubeObject } from '../../api/types.ts';
import { ApiError, hasCode } from '../../lib/errors.ts';
import type { ListOptions, Store, StoreEntry, StoreEvent, StoreList } from '../../store/store.ts';
import type { ApiObject } from './api-object.ts';
import { decodeEntry, encodeObject } from './object-codec.ts';

/** What to do with the object found: write another in its place, remove it, or leave it. */
export type Change = { write: ApiObject } | { remove: true } | { keep: true };

export interface Changed {
  entry: StoreEntry;
  /** Set when the object was removed: its last version is `entry`. */
  removedAt?: number;
}

/** Writers from elsewhere may come between read and write; so often in a row they do not. */
const MAX_ATTEMPTS = 20;

export class ResourceStorage {
  readonly store: Store;

  constructor(store: Store) {
    this.store = store;
  }

  async find(
    definition: ResourceDefinition,
    namespace: string,
    name: string,
  ): Promise<StoreEntry | undefined> {
    return this.store.get(definition.storageKey(namespace, name));
  }

  async get(definition: ResourceDefinition, namespace: string, name: string): Promise<StoreEntry> {
    const entry = await this.find(definition, namespace, name);
    if (!entry) throw notFound(definition, name);
    return entry;
  }

  async list(definition: ResourceDefinition, namespace: string, options?: ListOptions): Promise<StoreList> {
    try {
      return await this.store.list(keyPrefix(definition, namespace), options);
    } catch (error) {
      throw asApiError(error, definition, '');
    }
  }

  async create(definition: ResourceDefinition, object: ApiObject): Promise<StoreEntry> {
    const { namespace = '', name } = object.metadata;
    const stored = storedObject(definition, object);
    try {
      return await this.store.create(definition.storageKey(namespace, name), encodeObject(stored), stored);
    } catch (error) {
      throw asApiError(error, definition, name);
    }
  }

  /** `change` may be called again with a newer object, and must not alter the one it is given. */
  async update(
    definition: ResourceDefinition,
    namespace: string,
    name: string,
    change: (current: ApiObject, entry: StoreEntry) => Change | Promise<Change>,
  ): Promise<Changed> {
    const key = definition.storageKey(namespace, name);
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const entry = await this.store.getForUpdate(key);
      if (!entry) throw notFound(definition, name);
      const decision = await change(servedObject(definition, entry), entry);
      try {
        if ('keep' in decision) {
          await this.store.durable(entry.revision);
          return { entry };
        }
        if ('remove' in decision) {
          const { revision } = await this.store.delete(key, entry.revision);
          return { entry, removedAt: revision };
        }
        const write = storedObject(definition, decision.write);
        return { entry: await this.store.update(key, encodeObject(write), entry.revision, write) };
      } catch (error) {
        if (!hasCode(error, 'CONFLICT') || error instanceof ApiError)
          throw asApiError(error, definition, name);
      }
    }
    throw conflict(definition, name);
  }

  watch(
    definition: ResourceDefinition,
    namespace: string,
    fromRevision: number,
    listener: (events: readonly StoreEvent[]) => void,
  ): { close(): void } {
    try {
      return this.store.watch(keyPrefix(definition, namespace), fromRevision, listener);
    } catch (error) {
      throw asApiError(error, definition, '');
    }
  }
}

/** Where all objects of a resource, or those of one namespace, are. Ends in a slash. */
export function keyPrefix(definition: ResourceDefinition, namespace: string): string {
  return definition.storageKey(namespace, '');
}

/** The object of an entry in the version the definition serves. Shared: never change it. */
export function servedObject(definition: ResourceDefinition, entry: StoreEntry): ApiObject {
  const stored = decodeEntry(entry);
  return definition.conversion
    ? (definition.conversion.fromStorage(stored as KubeObject) as ApiObject)
    : stored;
}

/** The form to store of an object in the served version. */
export function storedObject(definition: ResourceDefinition, object: ApiObject): ApiObject {
  return definition.conversion
    ? (definition.conversion.toStorage(object as KubeObject) as ApiObject)
    : object;
}

function asApiError(error: unknown, definition: ResourceDefinition, name: string): unknown {
  if (error instanceof ApiError) return error;
  if (hasCode(error, 'EXISTS')) return alreadyExists(definition, name);
  if (hasCode(error, 'NOT_FOUND')) return notFound(definition, name);
  if (hasCode(error, 'CONFLICT')) return conflict(definition, name);
  if (hasCode(error, 'COMPACTED'))
    return expired(`The resourceVersion is too old: ${(error as Error).message}`);
  // Only a store that was set back knows less than a client: the client must start over.
  if (hasCode(error, 'FUTURE_REVISION')) return expired((error as Error).message);
  return internalError(error instanceof Error ? error.message : String(error), error);
}
