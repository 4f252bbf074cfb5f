// The rules of a schema, read once: what is wrong with them as definitions are told, and a tree that evaluate.ts walks
// along with a value (apiextensions-apiserver pkg/apiserver/schema/cel/compilation.go, pkg/apis/apiextensions/validation).
import type { Environment } from '@marcbachmann/cel-js';
import type { FieldPath } from '../../validation/field.ts';
import { type JsonSchema, type ValidationRule, walkSchema } from '../json-schema.ts';
import { baseEnvironment } from './environment.ts';
import { type CelType, CelTypes } from './types.ts';

type Program = (context: Record<string, unknown>) => unknown;

export interface CompiledRule {
  readonly source: ValidationRule;
  readonly program: Program;
  readonly message: Program | undefined;
  /** It looks at oldSelf. */
  readonly transition: boolean;
  /** Below the value of the rule. */
  readonly fieldPath: readonly string[];
}

/** What a level of the schema asks for; undefined for a level without rules in it or below it. */
export interface CompiledLevel {
  readonly schema: JsonSchema;
  readonly type: CelType;
  readonly rules: readonly CompiledRule[];
  readonly properties: ReadonlyMap<string, CompiledLevel>;
  readonly additional: CompiledLevel | undefined;
  readonly items: CompiledLevel | undefined;
}

const REASONS = ['FieldValueInvalid', 'FieldValueForbidden', 'FieldValueRequired', 'FieldValueDuplicate'];
const OLD_SELF = /unknown variable: oldSelf/i;

/** One line of the library's message; the rest points into the expression. */
export const shortError = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).split('\n')[0]!;

/** Says what is wrong at `path`, the schema's place in its definition. */
export function compileRules(schema: JsonSchema, path: FieldPath): CompiledLevel | undefined {
  let count = 0;
  walkSchema(schema, each => {
    count += each['x-kubernetes-validations']?.length ?? 0;
  });
  if (count === 0) return undefined;
  const env = baseEnvironment();
  const types = new CelTypes(env);
  // All of them now: an environment takes no more once rules have copies of it.
  types.of(schema, true);
  return new Compiler(env, types).level(schema, path, { root: true, correlatable: true });
}

interface Place {
  readonly root: boolean;
  /** An old value can be found for each value here. */
  readonly correlatable: boolean;
}

class Compiler {
  readonly #env: Environment;
  readonly #types: CelTypes;

  constructor(env: Environment, types: CelTypes) {
    this.#env = env;
    this.#types = types;
  }

  level(schema: JsonSchema, path: FieldPath, place: Place): CompiledLevel | undefined {
    const within = (correlatable: boolean): Place => ({ root: false, correlatable });
    const properties = new Map<string, CompiledLevel>();
    const granular = place.correlatable && schema['x-kubernetes-map-type'] !== 'atomic';
    for (const [name, child] of Object.entries(schema.properties ?? {})) {
      const level = this.level(child, path.child('properties').key(name), within(granular));
      if (level !== undefined) properties.set(name, level);
    }
    const { additionalProperties, items: item } = schema;
    const additional =
      typeof additionalProperties === 'object'
        ? this.level(additionalProperties, path.child('additionalProperties'), within(granular))
        : undefined;
    const keyed = place.correlatable && schema['x-kubernetes-list-type'] === 'map';
    const items = item && this.level(item, path.child('items'), within(keyed));
    const own = schema['x-kubernetes-validations'] ?? [];
    if (own.length === 0 && properties.size === 0 && additional === undefined && items === undefined)
      return undefined;
    const type = this.#types.of(schema, place.root);
    const at = path.child('x-kubernetes-validations');
    const rules = own.flatMap((source, i) => this.#rule(source, schema, type, at.index(i), place) ?? []);
    return { schema, type, rules, properties, additional, items };
  }

  #rule(
    source: ValidationRule,
    schema: JsonSchema,
    type: CelType,
    path: FieldPath,
    place: Place,
  ): CompiledRule | undefined {
    const before = path.causes.length;
    checkTexts(source, path);
    if (!source.rule?.trim()) {
      path.child('rule').required('rule is not specified');
      return undefined;
    }
    const optional = source.optionalOldSelf === true;
    const plain = this.#env.clone().registerVariable('self', type.name);
    let env = plain;
    let found = env.check(source.rule);
    const transition = !found.valid && OLD_SELF.test(shortError(found.error));
    if (transition) {
      env = this.#env.clone().registerVariable('self', type.name);
      env.registerVariable('oldSelf', optional ? `optional<${type.name}>` : type.name);
      found = env.check(source.rule);
    }
    const at = path.child('rule');
    if (!found.valid) at.invalid(source.rule, `compilation failed: ${shortError(found.error)}`);
    else if (found.type !== 'bool' && found.type !== 'dyn')
      at.invalid(source.rule, 'cel expression must evaluate to a bool');
    if (transition && !place.correlatable)
      at.invalid(source.rule, 'oldSelf cannot be used on the uncorrelatable portion of the schema');
    if (source.optionalOldSelf !== undefined && !transition)
      path
        .child('optionalOldSelf')
        .invalid(source.optionalOldSelf, 'may not be set if oldSelf is not used in rule');
    const message = this.#message(source, env, path.child('messageExpression'));
    const fieldPath = this.#fieldPath(source, schema, path.child('fieldPath'));
    if (path.causes.length > before) return undefined;
    return { source, program: env.parse(source.rule), message, transition, fieldPath };
  }

  #message({ messageExpression }: ValidationRule, env: Environment, path: FieldPath): Program | undefined {
    if (messageExpression === undefined || messageExpression === '') return undefined;
    const found = env.check(messageExpression);
    if (!found.valid)
      path.invalid(messageExpression, `messageExpression compilation failed: ${shortError(found.error)}`);
    else if (found.type !== 'string' && found.type !== 'dyn')
      path.invalid(messageExpression, 'messageExpression must evaluate to a string');
    else return env.parse(messageExpression);
    return undefined;
  }

  /** `.spec.size`, `['a-b']`: must lead to something the schema names. */
  #fieldPath({ fieldPath }: ValidationRule, schema: JsonSchema, path: FieldPath): string[] {
    if (fieldPath === undefined || fieldPath === '') return [];
    const names: string[] = [];
    let rest = fieldPath;
    let level: JsonSchema | undefined = schema;
    while (rest !== '') {
      const match = /^(?:\.([A-Za-z_][\w-]*)|\['((?:[^'\\]|\\.)+)'\])/.exec(rest);
      const name = match?.[1] ?? match?.[2]?.replaceAll(/\\(.)/g, '$1');
      if (match === null || name === undefined) break;
      names.push(name);
      rest = rest.slice(match[0].length);
      const additional: JsonSchema | boolean | undefined = level?.additionalProperties;
      level = level?.properties?.[name] ?? (typeof additional === 'object' ? additional : undefined);
      if (level === undefined) break;
    }
    if (rest === '' && level !== undefined) return names;
    path.invalid(fieldPath, 'fieldPath must be a valid path');
    return [];
  }
}

function checkTexts({ message, reason }: ValidationRule, path: FieldPath): void {
  if (message !== undefined && message !== '') {
    if (message.trim() === '')
      path.child('message').invalid(message, 'message must be non-empty if specified');
    else if (/[\r\n]/.test(message))
      path.child('message').invalid(message, 'message must not contain line breaks');
  }
  if (reason !== undefined && !REASONS.includes(reason)) path.child('reason').unsupported(reason, REASONS);
}
