// Any API object as the server handles it: metadata is known, the rest is what its kind's schema says.
import type { ObjectMeta } from '../../api/types.ts';

type Writable<T> = { -readonly [Field in keyof T]: T[Field] };

/** The server is the one who may write uid, resourceVersion and the like. */
export type ObjectMetadata = Writable<ObjectMeta> & { name: string };

export interface ApiObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMetadata;
  [field: string]: unknown;
}
