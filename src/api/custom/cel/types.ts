// A schema as types of CEL, and values as CEL sees them (apiserver pkg/cel/common: schemas, values, escaping). Objects
// become classes with the fields the schema names; what it does not name cannot be reached.
import { type Environment, evaluate } from '@marcbachmann/cel-js';
import { isJsonObject, type JsonObject, type JsonValue, ownValue } from '../../../lib/json.ts';
import { type JsonSchema, TYPE_META } from '../json-schema.ts';
import { deepEqual } from './environment.ts';

export interface CelType {
  /** As declarations name it. */
  readonly name: string;
  readonly convert: (value: JsonValue) => unknown;
}

const RESERVED = new Set(
  (
    'true false null in as break const continue else for function if import let loop package namespace return ' +
    'var void while'
  ).split(' '),
);

/** A property's name inside a rule; undefined when no rule can say it. */
export function escapeName(name: string): string | undefined {
  if (!/^[A-Za-z_][A-Za-z0-9_.\-/]*$/.test(name)) return undefined;
  if (RESERVED.has(name)) return `__${name}__`;
  return name
    .replaceAll('__', '__underscores__')
    .replaceAll('.', '__dot__')
    .replaceAll('-', '__dash__')
    .replaceAll('/', '__slash__');
}

const ANY: CelType = { name: 'dyn', convert: toDynamic };

/** Where no type is known: int-or-string, nullable. */
function toDynamic(value: JsonValue): unknown {
  if (typeof value === 'number') return Number.isInteger(value) ? BigInt(value) : value;
  if (Array.isArray(value)) return value.map(toDynamic);
  if (!isJsonObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, toDynamic(item)]));
}

const STRING_FORMATS: Readonly<Record<string, CelType>> = {
  'date-time': {
    name: 'google.protobuf.Timestamp',
    convert: value => evaluate('timestamp(text)', { text: String(value) }),
  },
  date: {
    name: 'google.protobuf.Timestamp',
    convert: value => evaluate('timestamp(text)', { text: `${value}T00:00:00Z` }),
  },
  duration: {
    name: 'google.protobuf.Duration',
    convert: value => evaluate('duration(text)', { text: String(value) }),
  },
  byte: { name: 'bytes', convert: value => Uint8Array.from(Buffer.from(String(value), 'base64')) },
};

const METADATA: JsonSchema = {
  type: 'object',
  properties: { name: { type: 'string' }, generateName: { type: 'string' } },
};
const ROOT: Readonly<Record<string, JsonSchema>> = {
  apiVersion: { type: 'string' },
  kind: { type: 'string' },
  metadata: METADATA,
};

/** Makes the types of one definition; every object schema is registered once. */
export class CelTypes {
  readonly #env: Environment;
  readonly #known = new Map<JsonSchema, CelType>();

  constructor(env: Environment) {
    this.#env = env;
  }

  of(schema: JsonSchema, root = false): CelType {
    const known = this.#known.get(schema);
    if (known !== undefined) return known;
    const type = schema.nullable === true ? this.#nullable(schema) : this.#plain(schema, root);
    this.#known.set(schema, type);
    return type;
  }

  #nullable(schema: JsonSchema): CelType {
    const { convert } = this.#plain(schema, false);
    return { name: 'dyn', convert: value => (value === null ? null : convert(value)) };
  }

  #plain(schema: JsonSchema, root: boolean): CelType {
    if (schema['x-kubernetes-int-or-string'] === true) return ANY;
    switch (schema.type) {
      case 'boolean':
        return { name: 'bool', convert: value => value };
      case 'integer':
        return { name: 'int', convert: value => BigInt(value as number) };
      case 'number':
        return { name: 'double', convert: value => value };
      case 'string':
        return STRING_FORMATS[schema.format ?? ''] ?? { name: 'string', convert: value => value };
      case 'array':
        return this.#list(schema);
      case 'object':
        return typeof schema.additionalProperties === 'object'
          ? this.#map(schema.additionalProperties)
          : this.#object(schema, root);
      default:
        return ANY;
    }
  }

  #list({ items }: JsonSchema): CelType {
    const item = items === undefined ? ANY : this.of(items);
    return { name: `list<${item.name}>`, convert: value => (value as JsonValue[]).map(item.convert) };
  }

  #map(additional: JsonSchema): CelType {
    const item = this.of(additional);
    return {
      name: `map<string, ${item.name}>`,
      convert: value =>
        new Map(Object.entries(value as JsonObject).map(([name, each]) => [name, item.convert(each)])),
    };
  }

  #object(schema: JsonSchema, root: boolean): CelType {
    const whole = root || schema['x-kubernetes-embedded-resource'] === true;
    const properties: Record<string, JsonSchema> = { ...schema.properties };
    if (whole) for (const name of TYPE_META) properties[name] = ROOT[name]!;
    const members = Object.entries(properties).flatMap(([name, child]) => {
      const escaped = escapeName(name);
      return escaped === undefined ? [] : [{ name, escaped, type: this.of(child) }];
    });
    const ctor = class {};
    const name = `Object${this.#known.size}_${members.length}`;
    this.#env.registerType(name, {
      ctor,
      fields: Object.fromEntries(members.map(({ escaped, type }) => [escaped, type.name])),
    });
    this.#env.registerOperator(`${name} == ${name}`, deepEqual);
    const convert = (value: JsonValue): unknown => {
      const object = new ctor() as Record<string, unknown>;
      if (!isJsonObject(value)) return object;
      for (const { name: member, escaped, type } of members) {
        const item = ownValue(value, member);
        if (item !== undefined) object[escaped] = type.convert(item);
      }
      return object;
    };
    return { name, convert };
  }
}
