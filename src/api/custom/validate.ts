// A value held to a schema, with the messages of Kubernetes' validator (kube-openapi pkg/validation/validate, turned into
// field errors by apiextensions-apiserver pkg/apiserver/validation), because people know them from kubectl.
import { isJsonObject, type JsonObject, type JsonValue, jsonEqual, ownValue } from '../../lib/json.ts';
import { FieldPath } from '../validation/field.ts';
import { matchesFormat } from './formats.ts';
import { additionalSchema, type JsonSchema, TYPE_META } from './json-schema.ts';

/** Everything wrong with the value, added to the path's causes. */
export function validateValue(value: JsonValue, schema: JsonSchema, path: FieldPath): void {
  if (value === null) {
    if (schema.nullable !== true && schema.type !== undefined) mistyped(value, schema, path);
    return;
  }
  if (!hasType(value, schema)) {
    mistyped(value, schema, path);
    return;
  }
  if (schema.enum && !schema.enum.some(allowed => jsonEqual(allowed, value)))
    path.unsupported(
      value,
      schema.enum.map(allowed => (typeof allowed === 'string' ? allowed : JSON.stringify(allowed))),
    );
  if (typeof value === 'string') validateText(value, schema, path);
  else if (typeof value === 'number') validateNumber(value, schema, path);
  else if (Array.isArray(value)) validateList(value, schema, path);
  else if (isJsonObject(value)) validateMembers(value, schema, path);
  validateCombined(value, schema, path);
}

export function typeOf(value: JsonValue): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  return typeof value;
}

function hasType(value: JsonValue, schema: JsonSchema): boolean {
  const type = typeOf(value);
  if (schema['x-kubernetes-int-or-string']) return type === 'integer' || type === 'string';
  if (!schema.type) return true;
  return type === schema.type || (type === 'integer' && schema.type === 'number');
}

function mistyped(value: JsonValue, schema: JsonSchema, path: FieldPath): void {
  const wanted = schema['x-kubernetes-int-or-string'] ? 'integer,string' : (schema.type ?? '');
  const have = typeOf(value);
  path.invalid(have, `${path} in body must be of type ${wanted}: ${JSON.stringify(have)}`);
}

function validateText(value: string, schema: JsonSchema, path: FieldPath): void {
  const length = schema.minLength === undefined && schema.maxLength === undefined ? 0 : [...value].length;
  if (schema.minLength !== undefined && length < schema.minLength)
    path.invalid(value, `${path} in body should be at least ${schema.minLength} chars long`);
  if (schema.maxLength !== undefined && length > schema.maxLength) path.tooLong(schema.maxLength);
  if (schema.pattern !== undefined && compilePattern(schema.pattern)?.test(value) === false)
    path.invalid(value, `${path} in body should match '${schema.pattern}'`);
  checkFormat(value, schema, path);
}

function validateNumber(value: number, schema: JsonSchema, path: FieldPath): void {
  const { minimum, maximum, multipleOf } = schema;
  if (minimum !== undefined && (schema.exclusiveMinimum ? value <= minimum : value < minimum))
    path.invalid(
      value,
      `${path} in body should be greater than ${schema.exclusiveMinimum ? '' : 'or equal to '}${minimum}`,
    );
  if (maximum !== undefined && (schema.exclusiveMaximum ? value >= maximum : value > maximum))
    path.invalid(
      value,
      `${path} in body should be less than ${schema.exclusiveMaximum ? '' : 'or equal to '}${maximum}`,
    );
  if (multipleOf !== undefined && !Number.isInteger(value / multipleOf))
    path.invalid(value, `${path} in body should be a multiple of ${multipleOf}`);
  checkFormat(value, schema, path);
}

function checkFormat(value: string | number, schema: JsonSchema, path: FieldPath): void {
  if (schema.format !== undefined && !matchesFormat(value, schema.format))
    path.invalid(value, `${path} in body must be of type ${schema.format}: ${JSON.stringify(String(value))}`);
}

function validateList(list: JsonValue[], schema: JsonSchema, path: FieldPath): void {
  if (schema.minItems !== undefined && list.length < schema.minItems)
    path.invalid(list.length, `${path} in body should have at least ${schema.minItems} items`);
  if (schema.maxItems !== undefined && list.length > schema.maxItems)
    path.tooMany(list.length, schema.maxItems);
  if (schema.items)
    for (const [index, item] of list.entries()) validateValue(item, schema.items, path.index(index));
  const keyOf = elementKey(schema);
  if (!keyOf) return;
  const seen = new Set<string>();
  for (const [index, item] of list.entries()) {
    const key = keyOf(item);
    const text = JSON.stringify(key);
    if (seen.has(text)) path.index(index).duplicate(key);
    seen.add(text);
  }
}

/** What may occur once in the list: of a set the element, of a map its keys. */
function elementKey(schema: JsonSchema): ((item: JsonValue) => JsonValue) | undefined {
  const listType = schema['x-kubernetes-list-type'];
  if (listType === 'set') return item => item;
  if (listType !== 'map') return undefined;
  const names = schema['x-kubernetes-list-map-keys'] ?? [];
  return item => {
    if (!isJsonObject(item)) return item;
    const key: JsonObject = {};
    for (const name of names) {
      const value = ownValue(item, name) ?? schema.items?.properties?.[name]?.default;
      if (value !== undefined) key[name] = value;
    }
    return key;
  };
}

function validateMembers(object: JsonObject, schema: JsonSchema, path: FieldPath): void {
  const count = Object.keys(object).length;
  if (schema.minProperties !== undefined && count < schema.minProperties)
    path.invalid(count, `${path} in body should have at least ${schema.minProperties} properties`);
  if (schema.maxProperties !== undefined && count > schema.maxProperties)
    path.tooMany(count, schema.maxProperties);
  const required = schema['x-kubernetes-embedded-resource']
    ? [...(schema.required ?? []), 'apiVersion', 'kind']
    : (schema.required ?? []);
  for (const name of required) if (ownValue(object, name) === undefined) path.child(name).required();
  const additional = additionalSchema(schema);
  for (const [name, value] of Object.entries(object)) {
    const below = ownValue(schema.properties ?? {}, name) ?? additional;
    if (below) validateValue(value, below, path.child(name));
  }
}

/** allOf, anyOf, oneOf, not. Nothing matched: the headline, and what the nearest alternative misses. */
function validateCombined(value: JsonValue, schema: JsonSchema, path: FieldPath): void {
  const attempt = (alternative: JsonSchema): FieldPath => {
    const scratch = new FieldPath(path.toString(), []);
    validateValue(value, alternative, scratch);
    return scratch;
  };
  const quoted = JSON.stringify(path.toString());
  const alternatives = (list: readonly JsonSchema[], kind: string, most: number): void => {
    const results = list.map(attempt);
    const matches = results.filter(({ causes }) => causes.length === 0).length;
    if (matches > 0 && matches <= most) return;
    const wanted = kind === 'oneOf' ? 'one and only one schema (oneOf)' : 'at least one schema (anyOf)';
    const found =
      kind === 'oneOf'
        ? `. Found ${matches === 0 ? 'none' : matches} valid${matches > 1 ? ' alternatives' : ''}`
        : '';
    path.invalid('', `${quoted} must validate ${wanted}${found}`);
    if (matches > 0) return;
    const nearest = results.reduce((best, one) => (one.causes.length < best.causes.length ? one : best));
    path.causes.push(...nearest.causes);
  };
  for (const part of schema.allOf ?? []) validateValue(value, part, path);
  if (schema.anyOf && schema.anyOf.length > 0) alternatives(schema.anyOf, 'anyOf', Number.POSITIVE_INFINITY);
  if (schema.oneOf && schema.oneOf.length > 0) alternatives(schema.oneOf, 'oneOf', 1);
  if (schema.not && attempt(schema.not).causes.length === 0)
    path.invalid('', `${quoted} must not validate the schema (not)`);
}

const patterns = new Map<string, RegExp | undefined>();
/** Enough for the patterns of many definitions; beyond that the oldest is compiled again. */
const MAX_PATTERNS = 1000;

/** Undefined when it is no regular expression here (a definition with such a pattern is refused). */
export function compilePattern(pattern: string): RegExp | undefined {
  if (patterns.has(pattern)) return patterns.get(pattern);
  let compiled: RegExp | undefined;
  for (const flags of ['u', ''])
    try {
      compiled ??= new RegExp(pattern, flags);
    } catch {
      // Go's syntax differs from JavaScript's in corners: tried without the u flag, too.
    }
  if (patterns.size >= MAX_PATTERNS) patterns.delete(patterns.keys().next().value!);
  patterns.set(pattern, compiled);
  return compiled;
}

/** A whole object; its TypeMeta is everybody's, not the schema's. */
export function validateAgainst(object: JsonObject, schema: JsonSchema, path: FieldPath): void {
  const rest = { ...object };
  for (const name of TYPE_META) delete rest[name];
  const { required, properties, ...others } = schema;
  validateValue(
    rest,
    {
      ...others,
      required: required?.filter(name => !(TYPE_META as readonly string[]).includes(name)),
      properties: Object.fromEntries(
        Object.entries(properties ?? {}).filter(([name]) => !(TYPE_META as readonly string[]).includes(name)),
      ),
    },
    path,
  );
}
