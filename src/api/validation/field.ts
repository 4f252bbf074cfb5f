// A place in an object and the list of what is wrong there; the words are those of util/validation/field, because
// users know them from kubectl: `spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive`.
import type { StatusCause } from '../../lib/errors.ts';
import { isJsonObject, jsonEqual } from '../../lib/json.ts';

export class FieldPath {
  readonly #path: string;
  readonly causes: StatusCause[];

  constructor(path = '', causes: StatusCause[] = []) {
    this.#path = path;
    this.causes = causes;
  }

  toString(): string {
    return this.#path;
  }

  child(...names: string[]): FieldPath {
    const path = [this.#path, ...names].filter(part => part !== '').join('.');
    return new FieldPath(path, this.causes);
  }

  index(at: number): FieldPath {
    return new FieldPath(`${this.#path}[${at}]`, this.causes);
  }

  key(key: string): FieldPath {
    return new FieldPath(`${this.#path}[${key}]`, this.causes);
  }

  #add(reason: string, message: string): void {
    this.causes.push({ reason, message, field: this.#path === '' ? '<nil>' : this.#path });
  }

  required(why = ''): void {
    this.#add('FieldValueRequired', withReason('Required value', why));
  }

  invalid(value: unknown, why: string): void {
    this.#add('FieldValueInvalid', withReason(`Invalid value: ${shown(value)}`, why));
  }

  duplicate(value: unknown): void {
    this.#add('FieldValueDuplicate', `Duplicate value: ${shown(value)}`);
  }

  forbidden(why: string): void {
    this.#add('FieldValueForbidden', `Forbidden: ${why}`);
  }

  notFound(value: unknown): void {
    this.#add('FieldValueNotFound', `Not found: ${shown(value)}`);
  }

  unsupported(value: unknown, allowed: readonly string[]): void {
    const quoted = allowed.map(item => JSON.stringify(item)).join(', ');
    this.#add('FieldValueNotSupported', `Unsupported value: ${shown(value)}: supported values: ${quoted}`);
  }

  tooLong(limit: number): void {
    this.#add('FieldValueTooLong', `Too long: may not be more than ${limit} bytes`);
  }

  tooMany(have: number, limit: number): void {
    this.#add('FieldValueTooMany', `Too many: ${have}: must have at most ${limit} items`);
  }

  /** The value is one of `allowed`; empty and missing are left to the caller. */
  oneOf(value: string | undefined, allowed: readonly string[]): void {
    if (value === undefined || value === '') this.required();
    else if (!allowed.includes(value)) this.unsupported(value, allowed);
  }

  /** Every complaint of a name check as an invalid value. */
  check(value: string, errors: readonly string[]): void {
    for (const error of errors) this.invalid(value, error);
  }

  /** May not differ from what it was. */
  unchanged(value: unknown, old: unknown): void {
    if (!jsonEqual(value, old)) this.invalid(value, 'field is immutable');
  }

  nonNegative(value: number | undefined): void {
    if (value !== undefined && value < 0) this.invalid(value, 'must be greater than or equal to 0');
  }

  /** A port number, 1 to 65535. */
  port(value: number): void {
    if (!Number.isInteger(value) || value < 1 || value > 65535)
      this.invalid(value, 'must be between 1 and 65535, inclusive');
  }
}

function withReason(what: string, why: string): string {
  return why === '' ? what : `${what}: ${why}`;
}

/** As Go prints the value (%#v for maps and lists of strings), which is what users have seen so far. */
function shown(value: unknown): string {
  if (value === undefined || value === null) return 'null';
  if (Array.isArray(value) && value.every(item => typeof item === 'string'))
    return `[]string{${value.map(item => JSON.stringify(item)).join(', ')}}`;
  if (isJsonObject(value)) {
    const entries = Object.entries(value);
    if (entries.length > 0 && entries.every(([, item]) => typeof item === 'string'))
      return `map[string]string{${entries
        .map(([key, item]) => `${JSON.stringify(key)}:${JSON.stringify(item)}`)
        .sort()
        .join(', ')}}`;
  }
  return JSON.stringify(value);
}
