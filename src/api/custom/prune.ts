// Pruning: members the schema does not know are dropped (and named, for fieldValidation), unless it says to keep them
// (apiextensions-apiserver pkg/apiserver/schema/pruning).
import { isJsonObject, type JsonObject, type JsonValue, ownValue } from '../../lib/json.ts';
import { additionalSchema, type JsonSchema, keepsUnknown, TYPE_META } from './json-schema.ts';

/** Prunes an object in place; answers `unknown field "spec.x"` for each member dropped. The root keeps its TypeMeta. */
export function pruneObject(object: JsonObject, schema: JsonSchema): string[] {
  const unknown: string[] = [];
  pruneMembers(object, schema, '', true, unknown);
  return unknown;
}

function prune(value: JsonValue, schema: JsonSchema, path: string, unknown: string[]): void {
  if (Array.isArray(value)) {
    if (!schema.items) return;
    for (const [index, item] of value.entries()) prune(item, schema.items, `${path}[${index}]`, unknown);
  } else if (isJsonObject(value))
    pruneMembers(value, schema, path, schema['x-kubernetes-embedded-resource'] === true, unknown);
}

function pruneMembers(
  object: JsonObject,
  schema: JsonSchema,
  path: string,
  isResource: boolean,
  unknown: string[],
): void {
  const additional = additionalSchema(schema);
  for (const [name, value] of Object.entries(object)) {
    if (isResource && (TYPE_META as readonly string[]).includes(name)) continue;
    const at = path === '' ? name : `${path}.${name}`;
    const below = ownValue(schema.properties ?? {}, name) ?? additional;
    if (below) prune(value, below, at, unknown);
    else if (!keepsUnknown(schema)) {
      unknown.push(`unknown field ${JSON.stringify(at)}`);
      delete object[name];
    }
  }
}
