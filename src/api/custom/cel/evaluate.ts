// An object held to the rules of its schema, in the words of Kubernetes (apiextensions-apiserver
// pkg/apiserver/schema/cel/validation.go). Rules about unchanged values are not asked again (ratcheting).
import { Environment } from '@marcbachmann/cel-js';
import { isJsonObject, type JsonObject, type JsonValue, jsonEqual, ownValue } from '../../../lib/json.ts';
import { FieldPath } from '../../validation/field.ts';
import type { JsonSchema, ValidationRule } from '../json-schema.ts';
import { type CompiledLevel, type CompiledRule, compileRules, shortError } from './compile.ts';
import { TimeLimitError, withinTime } from './time-limit.ts';

/** For all rules of one object together. */
const LIMIT_MS = 1000;
const MAX_MESSAGE = 5120;
const optionals = new Environment({ enableOptionalTypes: true, unlistedVariablesAreDyn: true });

const compiled = new WeakMap<JsonSchema, { readonly level: CompiledLevel | undefined }>();

function levelOf(schema: JsonSchema): CompiledLevel | undefined {
  let known = compiled.get(schema);
  if (known === undefined) {
    // Mistakes were refused with the definition.
    known = { level: compileRules(schema, new FieldPath()) };
    compiled.set(schema, known);
  }
  return known.level;
}

/** The schema has rules somewhere. */
export const hasRules = (schema: JsonSchema): boolean => levelOf(schema) !== undefined;

/** Adds what the rules say against `object` to the causes of `path`. `old` is what it replaces. */
export function checkRules(
  object: JsonObject,
  old: JsonObject | undefined,
  schema: JsonSchema,
  path: FieldPath,
): void {
  const level = levelOf(schema);
  if (level === undefined) return;
  try {
    withinTime(LIMIT_MS, () => checkLevel(level, object, old, path));
  } catch (error) {
    if (!(error instanceof TimeLimitError)) throw error;
    path.invalid(
      schema.type ?? 'object',
      `validation rules took longer than ${LIMIT_MS} ms, no further validation rules will be run`,
    );
  }
}

function checkLevel(
  level: CompiledLevel,
  value: JsonValue,
  old: JsonValue | undefined,
  path: FieldPath,
): void {
  if (value === null) return;
  if (level.rules.length > 0) checkOwn(level, value, old, path);
  if (Array.isArray(value)) {
    const { items } = level;
    if (items === undefined) return;
    const before = correlated(level.schema, old);
    for (const [i, item] of value.entries()) checkLevel(items, item, before(item), path.index(i));
  } else if (isJsonObject(value)) {
    const oldMembers = isJsonObject(old) ? old : {};
    for (const [name, item] of Object.entries(value)) {
      const named = level.properties.get(name);
      if (named !== undefined) checkLevel(named, item, ownValue(oldMembers, name), path.child(name));
      else if (level.additional !== undefined)
        checkLevel(level.additional, item, ownValue(oldMembers, name), path.key(name));
    }
  }
}

/** Finds the old element with the same keys, in a list that is a map. */
function correlated(
  schema: JsonSchema,
  old: JsonValue | undefined,
): (item: JsonValue) => JsonValue | undefined {
  if (schema['x-kubernetes-list-type'] !== 'map' || !Array.isArray(old)) return () => undefined;
  const names = schema['x-kubernetes-list-map-keys'] ?? [];
  const keyOf = (item: JsonValue): string =>
    JSON.stringify(isJsonObject(item) ? names.map(name => ownValue(item, name) ?? null) : item);
  const byKey = new Map(old.map(item => [keyOf(item), item]));
  return item => byKey.get(keyOf(item));
}

function checkOwn(
  { rules, type, schema }: CompiledLevel,
  value: JsonValue,
  old: JsonValue | undefined,
  path: FieldPath,
): void {
  const hadOld = old !== undefined && old !== null;
  const unchanged = hadOld && jsonEqual(value, old);
  const self = type.convert(value);
  let oldSelf: unknown;
  for (const rule of rules) {
    if (!rule.transition && unchanged) continue;
    const optional = rule.source.optionalOldSelf === true;
    if (rule.transition && !hadOld && !optional) continue;
    const context: Record<string, unknown> = { self };
    if (rule.transition) {
      oldSelf ??= hadOld ? type.convert(old) : undefined;
      context.oldSelf = optional ? optionalOf(oldSelf) : oldSelf;
    }
    checkRule(rule, context, schema, path);
  }
}

const optionalOf = (value: unknown): unknown =>
  value === undefined
    ? optionals.evaluate('optional.none()')
    : optionals.evaluate('optional.of(value)', { value });

function checkRule(
  rule: CompiledRule,
  context: Record<string, unknown>,
  schema: JsonSchema,
  path: FieldPath,
): void {
  const { source } = rule;
  const type = schema.type ?? '';
  let result: unknown;
  try {
    result = rule.program(context);
  } catch (error) {
    const text = shortError(error);
    path.invalid(
      type,
      text.startsWith('no such overload')
        ? `'${text}': call arguments did not match a supported operator, function or macro signature for rule: ${named(source)}`
        : `${text} evaluating rule: ${named(source)}`,
    );
    return;
  }
  if (result === true) return;
  const at = path.child(...rule.fieldPath);
  const why = messageOf(rule, context);
  if (source.reason === 'FieldValueForbidden') at.forbidden(why);
  else if (source.reason === 'FieldValueRequired') at.required(why);
  else if (source.reason === 'FieldValueDuplicate') at.duplicate(type);
  else at.invalid(type, why);
}

const named = ({ message, rule }: ValidationRule): string => message?.trim() || rule.trim();

function messageOf({ source, message }: CompiledRule, context: Record<string, unknown>): string {
  if (message !== undefined)
    try {
      const text = String(message(context)).trim();
      if (text !== '' && text.length <= MAX_MESSAGE && !/[\r\n]/.test(text)) return text;
    } catch {
      // As in Kubernetes: a message that cannot be made gives way to the one that is written down.
    }
  return source.message?.trim() || `failed rule: ${source.rule.trim()}`;
}
