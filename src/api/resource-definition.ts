// What the registry (resources.ts) knows about a kind. Generic code (API server, kubectl printing, discovery, the lab's
// apply) works on this and never asks for a kind by name.
import type { StatusCause } from '../lib/errors.ts';
import type { JsonObject, JsonValue } from '../lib/json.ts';
import type { JsonPath } from './custom/json-path.ts';
import type { FieldFindings } from './field-validation.ts';
import type { TypeSchema } from './schema.ts';
import type { KubeObject, ResourceRef } from './types.ts';

export type Verb = 'create' | 'delete' | 'deletecollection' | 'get' | 'list' | 'patch' | 'update' | 'watch';

/** One column of a Table (meta/v1 TableColumnDefinition) and how a cell is made. `priority` above 0 is shown by -o wide only. */
export interface TableColumn {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'number' | 'boolean' | 'date';
  readonly format?: string;
  readonly description: string;
  readonly priority: number;
  /** `now` in milliseconds since 1970, for ages. */
  cell(object: KubeObject, now: number): JsonValue;
}

/** A subresource as discovery shows it. */
export interface SubresourceDefinition {
  readonly name: string;
  readonly kind: string;
  /** Of `kind`, when it is not the resource's own group version. */
  readonly group?: string;
  readonly version?: string;
  readonly verbs: readonly string[];
}

/** Two served versions (or groups) of the same stored objects. */
export interface StorageConversion {
  /** `group/version` and kind of the stored form. */
  readonly apiVersion: string;
  readonly kind: string;
  toStorage<T extends KubeObject>(object: T): T;
  fromStorage<T extends KubeObject>(object: T): T;
}

/** Where a custom resource keeps what the scale subresource shows. */
export interface ScalePaths {
  readonly replicas: JsonPath;
  readonly observed: JsonPath;
  readonly selector?: JsonPath;
}

export interface ResourceDefinition extends ResourceRef {
  readonly kind: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly verbs: readonly Verb[];
  readonly subresources: readonly SubresourceDefinition[];
  /** Answered by the API server itself and never stored: reviews, bindings. */
  readonly virtual: boolean;
  /** Undefined where the stored form is this one. */
  readonly conversion: StorageConversion | undefined;
  readonly columns: readonly TableColumn[];
  /** How patches and field managers merge it; undefined where nothing is known. */
  readonly schema: TypeSchema | undefined;
  /** The published schema of a custom resource; undefined for built-in kinds. */
  readonly customSchema?: JsonObject;
  /** Undefined: spec.replicas, status.replicas and spec.selector, as built-in kinds have them. */
  readonly scale?: ScalePaths | undefined;
  /** etcd's key in Kubernetes' layout; an empty name gives the prefix of a namespace (or of all, with an empty namespace too). */
  storageKey(namespace: string, name: string): string;
  /** Finds and drops unknown fields, reports mistyped ones, puts values into their canonical form. Changes the object. */
  checkFields(object: JsonObject): FieldFindings;
  /** What the writer of this object should know although it is accepted. */
  warnings(object: KubeObject): string[];
  /** Fills in what was left out. Changes the object. */
  defaults(object: KubeObject): void;
  /** Everything wrong with it; with `old`, also what may not change. Metadata included. */
  validate(object: KubeObject, old?: KubeObject, subresource?: string): StatusCause[];
  /** What a client may not set at creation is cleared; generation starts. Changes the object. */
  prepareCreate(object: KubeObject): void;
  /** Keeps the spec from a status update and the status from a spec update; counts generation. Changes `object`. */
  prepareUpdate(object: KubeObject, old: KubeObject, subresource?: string): void;
  /** The fields a field selector may name, with this object's values. */
  selectableFields(object: KubeObject): Record<string, string>;
}
