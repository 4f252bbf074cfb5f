// A custom resource's schema in the form that server-side apply and field managers merge by (schema.ts): which lists are
// sets or maps, which objects are one value. What the schema leaves open merges as if it had none.
import { type FieldSchema, type TypeSchema, typeSchema } from '../schema.ts';
import { additionalSchema, type JsonSchema } from './json-schema.ts';

const METADATA_TYPE = 'meta.v1.ObjectMeta';

function field(name: string, facts: Partial<FieldSchema>): FieldSchema {
  return {
    name,
    number: [],
    shape: 'single',
    element: 'custom',
    nested: false,
    required: false,
    pointer: true,
    mergeKey: undefined,
    merges: false,
    retainsKeys: false,
    replaces: false,
    listType: undefined,
    mapKeys: [],
    ...facts,
  };
}

function fieldOf(name: string, schema: JsonSchema): FieldSchema {
  if (schema['x-kubernetes-embedded-resource']) return field(name, { below: resourceType(name, schema) });
  if (schema.type === 'array')
    return field(name, {
      shape: 'list',
      listType: schema['x-kubernetes-list-type'] ?? 'atomic',
      mapKeys: schema['x-kubernetes-list-map-keys'] ?? [],
      below: schema.items && typeBelow(name, schema.items),
    });
  const listType = schema['x-kubernetes-map-type'];
  const additional = additionalSchema(schema);
  if (additional)
    return field(name, {
      shape: 'map',
      listType,
      nested: additional.type === 'array',
      below: typeBelow(name, additional),
    });
  return field(name, { listType, below: typeBelow(name, schema) });
}

function typeBelow(name: string, schema: JsonSchema): TypeSchema | undefined {
  if (!schema.properties) return undefined;
  return {
    name,
    root: false,
    fields: new Map(Object.entries(schema.properties).map(([key, child]) => [key, fieldOf(key, child)])),
  };
}

function resourceType(name: string, schema: JsonSchema): TypeSchema {
  const fields = new Map(typeBelow(name, schema)?.fields ?? []);
  fields.set('metadata', field('metadata', { element: METADATA_TYPE, below: typeSchema(METADATA_TYPE) }));
  return { name, root: true, fields };
}

/** The type of a whole object of the kind. */
export function typeOfCustomKind(kind: string, schema: JsonSchema): TypeSchema {
  return resourceType(kind, schema);
}
