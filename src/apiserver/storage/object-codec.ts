// Objects as the store keeps them and as the wire carries them. The store's value is the object's JSON without its
// resourceVersion (that is the store's own revision, as with etcd). apiVersion, kind and metadata always come first, so the
// wire form is made by putting one member in, without parsing: a list of 5,000 pods is a join of strings.
import type { JsonObject } from '../../lib/json.ts';
import type { StoreEntry } from '../../store/store.ts';
import type { ApiObject } from './api-object.ts';

const METADATA = '"metadata":{';

/** The store's value for an object. */
export function encodeObject(object: ApiObject): string {
  const { apiVersion, kind, metadata, ...rest } = object;
  const { resourceVersion: _ours, ...kept } = metadata;
  return JSON.stringify({ apiVersion, kind, metadata: kept, ...rest });
}

/** The object of an entry, decoded once and shared by everybody: never change what this gives out. */
export function decodeEntry(entry: StoreEntry): ApiObject {
  let object = entry.decoded as ApiObject | undefined;
  if (!object) {
    object = JSON.parse(entry.value) as ApiObject;
    entry.decoded = object;
  }
  // A writer hands over its object before the revision is known.
  const version = String(entry.revision);
  if (object.metadata.resourceVersion !== version) object.metadata.resourceVersion = version;
  return object;
}

/** The object's JSON for the wire. A deleted object is shown with the revision of its deletion. */
export function wireJson(entry: StoreEntry, revision = entry.revision): string {
  const at = entry.value.indexOf(METADATA) + METADATA.length;
  return `${entry.value.slice(0, at)}"resourceVersion":"${revision}",${entry.value.slice(at)}`;
}

/** A private copy that may be changed. */
export function copyObject<T extends JsonObject | ApiObject>(object: T): T {
  return structuredClone(object);
}
