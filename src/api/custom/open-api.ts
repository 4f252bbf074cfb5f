// A custom resource's schema as it is published, so that `kubectl explain` and clients know the kind: with apiVersion,
// kind and metadata put in; for v2 without what that version cannot say.
import type { JsonObject, JsonValue } from '../../lib/json.ts';
import { isJsonObject } from '../../lib/json.ts';
import type { ResourceDefinition } from '../resource-definition.ts';

/** `crd.projectcalico.org` v1 IPPool → `org.projectcalico.crd.v1.IPPool`. */
export function customSchemaName({ group, version }: ResourceDefinition, kind: string): string {
  return [...group.split('.').reverse(), version, kind].join('.');
}

/** Schema members that OpenAPI v2 has, and extensions. */
const V2_MEMBERS = new Set([
  'type',
  'format',
  'description',
  'properties',
  'items',
  'additionalProperties',
  'required',
  'enum',
  'default',
]);

function reduced(schema: JsonObject): JsonObject {
  // In v2 a type cannot be null and a value cannot have one of several types: it is left open.
  if (schema.nullable === true || schema['x-kubernetes-int-or-string'] === true)
    return typeof schema.description === 'string' ? { description: schema.description } : {};
  const result: JsonObject = {};
  for (const [name, value] of Object.entries(schema)) {
    if (!V2_MEMBERS.has(name) && !name.startsWith('x-kubernetes-')) continue;
    result[name] =
      name === 'properties' && isJsonObject(value)
        ? Object.fromEntries(Object.entries(value).map(([key, child]) => [key, reducedValue(child)]))
        : name === 'items' || name === 'additionalProperties'
          ? reducedValue(value)
          : value;
  }
  return result;
}

function reducedValue(value: JsonValue): JsonValue {
  return isJsonObject(value) ? reduced(value) : value;
}

export interface PublishOptions {
  readonly openApi: 2 | 3;
  readonly objectMeta: JsonObject;
  /** apiVersion and kind, with their descriptions. */
  readonly typeMeta: JsonObject;
}

export function publishedSchema(definition: ResourceDefinition, options: PublishOptions): JsonObject {
  const schema = definition.customSchema ?? {};
  const base = options.openApi === 2 ? reduced(schema) : schema;
  const { group, version, kind } = definition;
  const metadata = {
    description: "Standard object's metadata.",
    ...(options.openApi === 3 ? { allOf: [options.objectMeta] } : options.objectMeta),
  };
  return {
    ...base,
    type: 'object',
    properties: { ...(isJsonObject(base.properties) ? base.properties : {}), ...options.typeMeta, metadata },
    'x-kubernetes-group-version-kind': [{ group, version, kind }],
  };
}

export function publishedList(
  { group, version, kind }: ResourceDefinition,
  item: JsonObject,
  listMeta: JsonObject,
  options: PublishOptions,
): JsonObject {
  return {
    description: `${kind}List is a list of ${kind}`,
    type: 'object',
    required: ['items'],
    properties: { ...options.typeMeta, items: { type: 'array', items: item }, metadata: listMeta },
    'x-kubernetes-group-version-kind': [{ group, version, kind: `${kind}List` }],
  };
}
