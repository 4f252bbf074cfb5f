// The schema as OpenAPI schemas, in the two forms Kubernetes publishes: v3 (components) and v2 (definitions). Names are
// those of the published documents, because kubectl and code generators know them.

import type { JsonObject, JsonValue } from '../lib/json.ts';
import { customSchemaName, publishedList, publishedSchema } from './custom/open-api.ts';
import descriptions from './gen/descriptions.json' with { type: 'json' };
import type { ResourceDefinition } from './resource-definition.ts';
import { type FieldSchema, isScalar, type TypeSchema, typeSchema } from './schema.ts';

export type OpenApiVersion = 2 | 3;

/** Group, version and kind that a root type stands for. */
export interface GroupVersionKind {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
}

type Descriptions = Record<string, [description: string, fields: Record<string, string>]>;

const texts = descriptions as unknown as Descriptions;

const NAMED_SCALARS: Record<string, string> = {
  Quantity: 'io.k8s.apimachinery.pkg.api.resource.Quantity',
  IntOrString: 'io.k8s.apimachinery.pkg.util.intstr.IntOrString',
  Time: 'io.k8s.apimachinery.pkg.apis.meta.v1.Time',
  MicroTime: 'io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime',
  RawExtension: 'io.k8s.apimachinery.pkg.runtime.RawExtension',
  FieldsV1: 'io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1',
  JSON: 'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON',
};

const TYPE_META: Record<string, string> = {
  apiVersion:
    'APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources',
  kind: 'Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds',
};

/** `core.v1.Pod` → `io.k8s.api.core.v1.Pod`. */
export function openApiName(type: string): string {
  const scalar = NAMED_SCALARS[type];
  if (scalar) return scalar;
  if (type.startsWith('meta.')) return `io.k8s.apimachinery.pkg.apis.${type}`;
  return type.startsWith('apiextensions.')
    ? `io.k8s.apiextensions-apiserver.pkg.apis.${type}`
    : `io.k8s.api.${type}`;
}

function namedScalar(type: string, openApi: OpenApiVersion): JsonObject {
  switch (type) {
    case 'Quantity':
      return openApi === 3 ? { oneOf: [{ type: 'string' }, { type: 'number' }] } : { type: 'string' };
    case 'IntOrString':
      return openApi === 3
        ? { format: 'int-or-string', oneOf: [{ type: 'integer' }, { type: 'string' }] }
        : { type: 'string', format: 'int-or-string' };
    case 'Time':
    case 'MicroTime':
      return { type: 'string', format: 'date-time' };
    case 'JSON':
      return {};
    default:
      return { type: 'object' };
  }
}

function inlineScalar(type: string): JsonObject | undefined {
  switch (type) {
    case 'string':
      return { type: 'string' };
    case 'bool':
      return { type: 'boolean' };
    case 'int32':
    case 'int64':
      return { type: 'integer', format: type };
    case 'double':
      return { type: 'number', format: 'double' };
    case 'bytes':
      return { type: 'string', format: 'byte' };
    default:
      return undefined;
  }
}

/** The schemas of some types and of everything they refer to, by published name. */
export class SchemaCollector {
  readonly schemas: Record<string, JsonObject> = {};
  readonly #version: OpenApiVersion;
  readonly #kindsOf: ReadonlyMap<string, readonly GroupVersionKind[]>;

  constructor(version: OpenApiVersion, kindsOf: ReadonlyMap<string, readonly GroupVersionKind[]>) {
    this.#version = version;
    this.#kindsOf = kindsOf;
  }

  /** A reference to the type, which is collected with all it needs. */
  reference(type: string): JsonObject {
    const name = openApiName(type);
    if (!this.schemas[name]) {
      this.schemas[name] = {}; // Types refer to themselves (JSONSchemaProps).
      const schema = typeSchema(type);
      this.schemas[name] = schema ? this.#object(schema) : namedScalar(type, this.#version);
    }
    return { $ref: `${this.#version === 3 ? '#/components/schemas/' : '#/definitions/'}${name}` };
  }

  /** A reference to a custom kind (or its list), which is collected. */
  customReference(resource: ResourceDefinition, list = false): JsonObject {
    const name = customSchemaName(resource, list ? `${resource.kind}List` : resource.kind);
    if (!this.schemas[name]) {
      const options = {
        openApi: this.#version,
        objectMeta: this.reference('meta.v1.ObjectMeta'),
        typeMeta: Object.fromEntries(
          Object.entries(TYPE_META).map(([field, description]) => [field, { description, type: 'string' }]),
        ),
      };
      this.schemas[name] = list
        ? publishedList(resource, this.customReference(resource), this.reference('meta.v1.ListMeta'), options)
        : publishedSchema(resource, options);
    }
    return { $ref: `${this.#version === 3 ? '#/components/schemas/' : '#/definitions/'}${name}` };
  }

  #object(type: TypeSchema): JsonObject {
    const [description = '', fields = {}] = texts[type.name] ?? [];
    const properties: JsonObject = {};
    const required: string[] = [];
    for (const field of type.fields.values()) {
      const text = fields[field.name] ?? (type.root ? (TYPE_META[field.name] ?? '') : '');
      properties[field.name] = this.#property(field, text);
      if (field.required) required.push(field.name);
    }
    const kinds = this.#kindsOf.get(type.name) ?? [];
    return {
      ...(description ? { description } : {}),
      type: 'object',
      ...(required.length > 0 ? { required } : {}),
      properties,
      ...(kinds.length > 0 ? { 'x-kubernetes-group-version-kind': kinds.map(gvk => ({ ...gvk })) } : {}),
    };
  }

  #property(field: FieldSchema, text: string): JsonObject {
    const description: JsonObject = text ? { description: text } : {};
    const extensions = listExtensions(field);
    if (field.shape === 'list')
      return { ...description, type: 'array', items: this.#element(field.element, true), ...extensions };
    if (field.shape === 'map') {
      const values = this.#element(field.element, true);
      const inner = field.nested ? { type: 'array', items: values } : values;
      return { ...description, type: 'object', additionalProperties: inner, ...extensions };
    }
    const element = this.#element(field.element, false);
    // A reference cannot carry a description beside it in v3; allOf can.
    return element.$ref && this.#version === 3
      ? { ...description, allOf: [element], ...extensions }
      : { ...description, ...element, ...extensions };
  }

  #element(type: string, wrapped: boolean): JsonObject {
    const inline = isScalar(type) ? inlineScalar(type) : undefined;
    if (inline) return inline;
    const reference = this.reference(type);
    return wrapped && this.#version === 3 ? { allOf: [reference], default: defaultOf(type) } : reference;
  }
}

function defaultOf(type: string): JsonValue {
  return typeSchema(type) ? {} : '';
}

function listExtensions(field: FieldSchema): JsonObject {
  const strategy = [
    ...(field.merges ? ['merge'] : []),
    ...(field.retainsKeys ? ['retainKeys'] : []),
    ...(field.replaces ? ['replace'] : []),
  ].join(',');
  const listType = field.listType ?? undefined;
  return {
    ...(field.mapKeys.length > 0 ? { 'x-kubernetes-list-map-keys': [...field.mapKeys] } : {}),
    ...(listType
      ? { [field.shape === 'list' ? 'x-kubernetes-list-type' : 'x-kubernetes-map-type']: listType }
      : {}),
    ...(field.mergeKey ? { 'x-kubernetes-patch-merge-key': field.mergeKey } : {}),
    ...(strategy ? { 'x-kubernetes-patch-strategy': strategy } : {}),
  };
}
