// Is the schema of a definition one that pruning, defaulting and merging can work with? The rules of structural schemas
// (KEP-1693; apiextensions-apiserver pkg/apiserver/schema/validation.go), in their words.
import { cloneJson } from '../../lib/json.ts';
import type { FieldPath } from '../validation/field.ts';
import type { JsonSchema } from './json-schema.ts';
import { keepsUnknown } from './json-schema.ts';
import { compilePattern, validateValue } from './validate.ts';

const TYPES = ['array', 'boolean', 'integer', 'number', 'object', 'string'];

/** What the schema of an element is called in "must not be empty for specified …". */
type Role = 'root' | 'object fields' | 'array items';

export function validateStructural(schema: JsonSchema, path: FieldPath): void {
  if (schema.type !== undefined && schema.type !== 'object')
    path.child('type').invalid(schema.type, 'must be object at the root');
  validateLevel(schema, path, 'root');
}

function validateLevel(schema: JsonSchema, path: FieldPath, role: Role): void {
  const open = schema['x-kubernetes-int-or-string'] === true || keepsUnknown(schema);
  if (!schema.type) {
    if (role === 'root') path.child('type').required('must not be empty at the root');
    else if (!open) path.child('type').required(`must not be empty for specified ${role}`);
  } else if (!TYPES.includes(schema.type)) path.child('type').unsupported(schema.type, TYPES);
  if (schema['x-kubernetes-int-or-string'] && schema.type)
    path.child('type').forbidden('must be empty if x-kubernetes-int-or-string is true');
  if (schema.type === 'array' && !schema.items) path.child('items').required('must be specified');
  if (schema.$ref !== undefined) path.child('$ref').forbidden('$ref is not supported');
  if (schema.uniqueItems)
    path
      .child('uniqueItems')
      .forbidden('uniqueItems cannot be set to true since the runtime complexity becomes quadratic');
  if (schema.properties && schema.additionalProperties !== undefined)
    path.child('additionalProperties').forbidden('additionalProperties and properties are mutual exclusive');
  if (schema.pattern !== undefined && compilePattern(schema.pattern) === undefined)
    path.child('pattern').invalid(schema.pattern, "must be a valid regular expression, but isn't");
  validateLists(schema, path);
  if (schema.default !== undefined) validateValue(cloneJson(schema.default), schema, path.child('default'));
  for (const [name, child] of Object.entries(schema.properties ?? {}))
    validateLevel(child, path.child('properties').key(name), 'object fields');
  if (typeof schema.additionalProperties === 'object')
    validateLevel(schema.additionalProperties, path.child('additionalProperties'), 'object fields');
  if (schema.items) validateLevel(schema.items, path.child('items'), 'array items');
}

function validateLists(schema: JsonSchema, path: FieldPath): void {
  const listType = schema['x-kubernetes-list-type'];
  if (listType === undefined) return;
  if (schema.type !== 'array')
    path.child('type').invalid(schema.type ?? '', 'must be array if x-kubernetes-list-type is specified');
  if (listType !== 'map') return;
  const keys = schema['x-kubernetes-list-map-keys'] ?? [];
  const at = path.child('x-kubernetes-list-map-keys');
  if (keys.length === 0) at.required('must not be empty if x-kubernetes-list-type is map');
  for (const [index, key] of keys.entries()) {
    const child = schema.items?.properties?.[key];
    if (!child) at.index(index).invalid(key, 'must be a property of the items');
    else if (child.default === undefined && !schema.items?.required?.includes(key))
      path
        .child('items', 'properties')
        .key(key)
        .child('default')
        .required(
          'this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property',
        );
  }
}
