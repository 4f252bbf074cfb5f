// Defaulting: what is left out gets the schema's default; a null where null is not allowed counts as left out if there
// is a default (apiextensions-apiserver pkg/apiserver/schema/defaulting).
import {
  cloneJson,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  ownValue,
  setOwn,
} from '../../lib/json.ts';
import { additionalSchema, type JsonSchema, walkSchema } from './json-schema.ts';

/** Fills in the value, in place. */
export function applySchemaDefaults(value: JsonValue, schema: JsonSchema): void {
  if (Array.isArray(value)) {
    if (schema.items) for (const item of value) applySchemaDefaults(item, schema.items);
  } else if (isJsonObject(value)) defaultMembers(value, schema);
}

function defaultMembers(object: JsonObject, schema: JsonSchema): void {
  for (const [name, child] of Object.entries(schema.properties ?? {})) {
    if (child.default === undefined) continue;
    const value = ownValue(object, name);
    if (value === undefined || (value === null && child.nullable !== true))
      setOwn(object, name, cloneJson(child.default));
  }
  const additional = additionalSchema(schema);
  for (const [name, value] of Object.entries(object)) {
    const child = ownValue(schema.properties ?? {}, name) ?? additional;
    if (child) applySchemaDefaults(value, child);
  }
}

export function hasDefaults(schema: JsonSchema): boolean {
  let found = false;
  walkSchema(schema, each => {
    found ||= each.default !== undefined;
  });
  return found;
}
