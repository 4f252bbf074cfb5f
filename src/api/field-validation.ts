// Decoding JSON against the schema, as Go's typed decoder would: unknown fields are found and dropped, mistyped values
// reported with their path, nulls and empty values left out, quantities and times put into their canonical form.
// What follows (validation, patching, storing) sees only what its types say.
import { isJsonObject, type JsonObject, type JsonValue } from '../lib/json.ts';
import { formatQuantity, isQuantity, parseQuantity, QUANTITY_PATTERN } from './quantity.ts';
import { type FieldSchema, schemaOfKind, type TypeSchema, typeSchema } from './schema.ts';

export interface FieldFindings {
  /** `unknown field "spec.replicaz"` */
  unknown: string[];
  /** `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32` */
  mistyped: string[];
}

/** Checks an object of a kind and normalises it in place. A kind without schema (a custom resource) is left as it is. */
export function checkFields(group: string, version: string, kind: string, object: JsonObject): FieldFindings {
  const findings: FieldFindings = { unknown: [], mistyped: [] };
  const type = schemaOfKind(group, version, kind);
  if (type) new FieldChecker(findings).object(object, type, '');
  return findings;
}

/** The metadata of an object of any kind, normalised in place. */
export function checkMetadata(metadata: JsonObject): FieldFindings {
  const findings: FieldFindings = { unknown: [], mistyped: [] };
  const type = typeSchema('meta.v1.ObjectMeta');
  if (type) new FieldChecker(findings).object(metadata, type, 'metadata');
  return findings;
}

/** A value that cannot be one of its type. */
class Mistyped {
  readonly why: string | undefined;
  constructor(why?: string) {
    this.why = why;
  }
}

class FieldChecker {
  readonly #findings: FieldFindings;

  constructor(findings: FieldFindings) {
    this.#findings = findings;
  }

  object(object: JsonObject, type: TypeSchema, path: string): void {
    for (const [name, value] of Object.entries(object)) {
      const at = path === '' ? name : `${path}.${name}`;
      const field = type.fields.get(name);
      if (!field) {
        this.#findings.unknown.push(`unknown field ${JSON.stringify(at)}`);
        delete object[name];
        continue;
      }
      const result = value === null ? undefined : this.#field(value, field, type, at);
      if (result === undefined || isOmitted(result, field)) delete object[name];
      else object[name] = result;
    }
  }

  #field(value: JsonValue, field: FieldSchema, type: TypeSchema, path: string): JsonValue | undefined {
    if (field.shape === 'single') return this.#value(value, field.element, field.element, type, path);
    if (field.shape === 'list') return this.#list(value, field.element, type, path);
    if (!isJsonObject(value)) return this.#mistyped(value, `map[string]${goType(field.element)}`, type, path);
    for (const [key, item] of Object.entries(value)) {
      const at = `${path}.${key}`;
      const result = field.nested
        ? this.#list(item, field.element, type, at)
        : this.#value(item === null ? zeroOf(field.element) : item, field.element, field.element, type, at);
      if (result === undefined) delete value[key];
      else value[key] = result;
    }
    return value;
  }

  #list(value: JsonValue, element: string, type: TypeSchema, path: string): JsonValue | undefined {
    if (!Array.isArray(value)) return this.#mistyped(value, `[]${goType(element)}`, type, path);
    for (const [index, item] of value.entries()) {
      const result = this.#value(
        item === null ? zeroOf(element) : item,
        element,
        element,
        type,
        `${path}[${index}]`,
      );
      if (result !== undefined) value[index] = result;
    }
    return value;
  }

  #value(
    value: JsonValue,
    element: string,
    shown: string,
    owner: TypeSchema,
    path: string,
  ): JsonValue | undefined {
    const type = typeSchema(element);
    if (type) {
      if (!isJsonObject(value)) return this.#mistyped(value, goType(shown), owner, path);
      this.object(value, type, path);
      return value;
    }
    const result = scalar(value, element);
    if (!(result instanceof Mistyped)) return result;
    if (result.why === undefined) return this.#mistyped(value, goType(shown), owner, path);
    this.#findings.mistyped.push(`${path}: ${result.why}`);
    return undefined;
  }

  #mistyped(value: JsonValue, wanted: string, owner: TypeSchema, path: string): undefined {
    const struct = owner.name.split('.').at(-1);
    this.#findings.mistyped.push(
      `json: cannot unmarshal ${describe(value)} into Go struct field ${struct}.${path} of type ${wanted}`,
    );
  }
}

/** Go's omitempty: zero scalars that are no pointers, empty lists and maps. */
function isOmitted(value: JsonValue, field: FieldSchema): boolean {
  if (field.required) return false;
  if (field.shape === 'list') return Array.isArray(value) && value.length === 0;
  if (field.shape === 'map') return isJsonObject(value) && Object.keys(value).length === 0;
  if (field.pointer || field.element === 'IntOrString' || field.element === 'Quantity') return false;
  return value === '' || value === 0 || value === false;
}

function zeroOf(element: string): JsonValue {
  switch (element) {
    case 'string':
    case 'bytes':
      return '';
    case 'Quantity':
      return '0';
    case 'int32':
    case 'int64':
    case 'double':
      return 0;
    case 'bool':
      return false;
    default:
      return typeSchema(element) ? {} : null;
  }
}

const RANGES: Record<string, number> = { int32: 2 ** 31, int64: 2 ** 63 };

function scalar(value: JsonValue, element: string): JsonValue | undefined | Mistyped {
  switch (element) {
    case 'string':
      return typeof value === 'string' ? value : new Mistyped();
    case 'bool':
      return typeof value === 'boolean' ? value : new Mistyped();
    case 'int32':
    case 'int64': {
      const limit = RANGES[element] ?? 0;
      const fits = typeof value === 'number' && Number.isInteger(value) && value >= -limit && value < limit;
      return fits ? value : new Mistyped();
    }
    case 'double':
      return typeof value === 'number' ? value : new Mistyped();
    case 'bytes':
      return typeof value === 'string' ? base64(value) : new Mistyped();
    case 'Quantity':
      return quantity(value);
    case 'IntOrString':
      if (typeof value === 'string') return value;
      return typeof value === 'number' && Number.isInteger(value) && Math.abs(value) < 2 ** 31
        ? value
        : new Mistyped();
    case 'Time':
      return time(value, false);
    case 'MicroTime':
      return time(value, true);
    default:
      return value; // RawExtension, FieldsV1, JSON: anything.
  }
}

function base64(text: string): string | Mistyped {
  const clean = text.replace(/[\r\n]/g, '');
  const bad = /[^A-Za-z0-9+/=]/.exec(clean);
  if (bad) return new Mistyped(`illegal base64 data at input byte ${bad.index}`);
  if (clean.length % 4 !== 0 || /=[^=]|={3,}/.test(clean))
    return new Mistyped(`illegal base64 data at input byte ${clean.length - (clean.length % 4)}`);
  return clean;
}

function quantity(value: JsonValue): string | Mistyped {
  if (typeof value !== 'string' && typeof value !== 'number') return new Mistyped();
  if (!isQuantity(value))
    return new Mistyped(`quantities must match the regular expression '${QUANTITY_PATTERN}'`);
  return formatQuantity(parseQuantity(value));
}

const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;

function time(value: JsonValue, micro: boolean): string | undefined | Mistyped {
  if (value === '') return undefined;
  if (typeof value !== 'string') return new Mistyped();
  const ms = RFC3339.test(value) ? Date.parse(value) : Number.NaN;
  if (Number.isNaN(ms))
    return new Mistyped(
      `parsing time ${JSON.stringify(value)} as "2006-01-02T15:04:05${micro ? '.000000' : ''}Z07:00": cannot parse it`,
    );
  const whole = new Date(ms).toISOString().slice(0, 19);
  if (!micro) return `${whole}Z`;
  const fraction = /\.(\d+)/.exec(value)?.[1] ?? '';
  return `${whole}.${fraction.slice(0, 6).padEnd(6, '0')}Z`;
}

function goType(element: string): string {
  const known: Record<string, string> = {
    bytes: '[]uint8',
    double: 'float64',
    Quantity: 'resource.Quantity',
    IntOrString: 'intstr.IntOrString',
    Time: 'v1.Time',
    MicroTime: 'v1.MicroTime',
  };
  return known[element] ?? (element.includes('.') ? element.split('.').slice(1).join('.') : element);
}

function describe(value: JsonValue): string {
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'boolean') return 'bool';
  if (typeof value === 'number') return Number.isInteger(value) ? 'number' : `number ${value}`;
  return typeof value;
}
