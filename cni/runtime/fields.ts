// Typed reading of JSON configuration with Go's rules, which all CNI users rely on: keys match without regard to case
// (`HostPort` is `hostPort`; the exact spelling wins, else the last one), null means absent, unknown keys are ignored.
import { decodeError } from './errors.ts';

export type JsonObject = Record<string, unknown>;

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** One JSON object. `path` names it in messages, such as `ipam.ranges[0]`. */
export class Fields {
  readonly path: string;
  readonly object: Readonly<JsonObject>;
  /** Lower-case key → the key as written; made when an exact match fails for the first time. */
  #folded: Map<string, string> | undefined;

  constructor(object: Readonly<JsonObject>, path = '') {
    this.object = object;
    this.path = path;
  }

  /** Parses text that must be one JSON object; code 6 otherwise. */
  static parse(text: string, what: string): Fields {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      throw decodeError(`cannot parse ${what}`, cause instanceof Error ? cause.message : String(cause));
    }
    if (!isJsonObject(value)) throw decodeError(`cannot parse ${what}`, 'it is not a JSON object');
    return new Fields(value);
  }

  at(key: string): string {
    return this.path === '' ? key : `${this.path}.${key}`;
  }

  /** The value under `key`; undefined when absent or null. */
  raw(key: string): unknown {
    const exact = Object.hasOwn(this.object, key) ? this.object[key] : undefined;
    if (exact !== undefined && exact !== null) return exact;
    if (this.#folded === undefined) {
      this.#folded = new Map();
      for (const name of Object.keys(this.object)) this.#folded.set(name.toLowerCase(), name);
    }
    const name = this.#folded.get(key.toLowerCase());
    return name === undefined ? undefined : (this.object[name] ?? undefined);
  }

  #expect(key: string, expected: string): never {
    throw decodeError(`field ${this.at(key)} must be ${expected}`, `got ${describe(this.raw(key))}`);
  }

  string(key: string): string | undefined {
    const value = this.raw(key);
    if (value === undefined || typeof value === 'string') return value;
    return this.#expect(key, 'a string');
  }

  boolean(key: string): boolean | undefined {
    const value = this.raw(key);
    if (value === undefined || typeof value === 'boolean') return value;
    return this.#expect(key, 'true or false');
  }

  integer(key: string, min = 0, max = 0xffffffff): number | undefined {
    const value = this.raw(key);
    if (value === undefined) return undefined;
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
    return this.#expect(key, `a whole number from ${min} to ${max}`);
  }

  fields(key: string): Fields | undefined {
    const value = this.raw(key);
    if (value === undefined) return undefined;
    return isJsonObject(value) ? new Fields(value, this.at(key)) : this.#expect(key, 'an object');
  }

  list(key: string): readonly unknown[] {
    const value = this.raw(key);
    if (value === undefined) return [];
    return Array.isArray(value) ? value : this.#expect(key, 'a list');
  }

  strings(key: string): string[] {
    return this.list(key).map(item =>
      typeof item === 'string' ? item : this.#expect(key, 'a list of strings'),
    );
  }

  fieldsList(key: string): Fields[] {
    return this.list(key).map((item, i) =>
      isJsonObject(item) ? new Fields(item, `${this.at(key)}[${i}]`) : this.#expect(key, 'a list of objects'),
    );
  }
}

function describe(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
