// RFC 6902 JSON Patch over RFC 6901 pointers. Pure: the input document is never changed.

import { ApiError } from '../lib/errors.ts';
import {
  cloneJson,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  jsonEqual,
  ownValue,
  setOwn,
} from '../lib/json.ts';
import { badRequest } from './status.ts';

/** A patch may not make the server copy without end (apiserver's limit of operations in one JSON patch). */
export const MAX_JSON_PATCH_OPERATIONS = 10_000;

interface Operation {
  op: string;
  path: string[];
  from?: string[];
  value?: JsonValue;
}

/** A patch that is well formed and cannot be carried out: 422 with the words of what failed. */
function cannot(message: string): ApiError {
  return new ApiError(
    422,
    'Invalid',
    `the server rejected our request due to an error in our request: ${message}`,
  );
}

/** RFC 6901 §3, §4: `/a~1b/0` → ['a/b', '0']. The empty pointer is the whole document. */
export function parsePointer(pointer: string): string[] {
  if (pointer === '') return [];
  if (!pointer.startsWith('/')) throw badRequest(`json patch: "${pointer}" is not a JSON pointer`);
  return pointer
    .slice(1)
    .split('/')
    .map(part => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function parseOperation(entry: unknown, index: number): Operation {
  if (!isJsonObject(entry)) throw badRequest(`json patch: operation ${index} is not an object`);
  const { op, path, from } = entry;
  if (typeof op !== 'string' || typeof path !== 'string')
    throw badRequest(`json patch: operation ${index} needs "op" and "path"`);
  const operation: Operation = { op, path: parsePointer(path) };
  if (op === 'move' || op === 'copy') {
    if (typeof from !== 'string') throw badRequest(`json patch: operation ${index} (${op}) needs "from"`);
    operation.from = parsePointer(from);
  } else if (op === 'add' || op === 'replace' || op === 'test') {
    if (!Object.hasOwn(entry, 'value') && op !== 'test')
      throw badRequest(`json patch: operation ${index} (${op}) needs "value"`);
    operation.value = entry.value ?? null;
  } else if (op !== 'remove') throw badRequest(`json patch: operation ${index}: unknown op "${op}"`);
  return operation;
}

function arrayIndex(part: string, length: number, pointer: string): number {
  if (!/^(0|[1-9]\d*)$/.test(part) || Number(part) >= length)
    throw cannot(`${pointer}: no array element ${part}`);
  return Number(part);
}

function pointerText(path: string[]): string {
  return path.map(part => `/${part.replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

function childOf(container: JsonValue, part: string, path: string[]): JsonValue {
  if (Array.isArray(container))
    return container[arrayIndex(part, container.length, pointerText(path))] as JsonValue;
  const child = isJsonObject(container) ? ownValue(container, part) : undefined;
  if (child === undefined) throw cannot(`${pointerText(path)}: there is no such path`);
  return child;
}

function lookUp(document: JsonValue, path: string[]): JsonValue {
  let at = document;
  for (const part of path) at = childOf(at, part, path);
  return at;
}

function add(document: JsonValue, path: string[], value: JsonValue): JsonValue {
  if (path.length === 0) return value;
  const container = lookUp(document, path.slice(0, -1));
  const last = path.at(-1) ?? '';
  if (Array.isArray(container)) {
    const index = last === '-' ? container.length : arrayIndex(last, container.length + 1, pointerText(path));
    container.splice(index, 0, value);
  } else if (isJsonObject(container)) setOwn(container, last, value);
  else throw cannot(`${pointerText(path)}: its parent is neither object nor array`);
  return document;
}

function remove(document: JsonValue, path: string[]): JsonValue {
  if (path.length === 0) return null;
  const container = lookUp(document, path.slice(0, -1));
  const last = path.at(-1) ?? '';
  childOf(container, last, path);
  if (Array.isArray(container)) container.splice(Number(last), 1);
  else delete (container as JsonObject)[last];
  return document;
}

function replace(document: JsonValue, path: string[], value: JsonValue): JsonValue {
  if (path.length === 0) return value;
  const container = lookUp(document, path.slice(0, -1));
  const last = path.at(-1) ?? '';
  childOf(container, last, path);
  if (Array.isArray(container)) container[Number(last)] = value;
  else setOwn(container as JsonObject, last, value);
  return document;
}

function applyOperation(document: JsonValue, { op, path, from = [], value = null }: Operation): JsonValue {
  switch (op) {
    case 'add':
      return add(document, path, cloneJson(value));
    case 'remove':
      return remove(document, path);
    case 'replace':
      return replace(document, path, cloneJson(value));
    case 'move': {
      if (path.length > from.length && from.every((part, index) => part === path[index]))
        throw cannot(`${pointerText(from)} cannot be moved into itself`);
      const moved = lookUp(document, from);
      return add(remove(document, from), path, moved);
    }
    case 'copy':
      return add(document, path, cloneJson(lookUp(document, from)));
    default:
      if (!jsonEqual(lookUp(document, path), value))
        throw cannot(`testing value ${pointerText(path)} failed`);
      return document;
  }
}

/** Applies the operations in order; if one fails, the whole patch does. Throws ApiError 400 or 422. */
export function applyJsonPatch(document: JsonValue, patch: unknown): JsonValue {
  if (!Array.isArray(patch)) throw badRequest('json patch: the patch must be an array of operations');
  if (patch.length > MAX_JSON_PATCH_OPERATIONS)
    throw new ApiError(
      413,
      'RequestEntityTooLarge',
      `The allowed maximum operations in a JSON patch is ${MAX_JSON_PATCH_OPERATIONS}, got ${patch.length}`,
    );
  const operations = patch.map(parseOperation);
  let result = cloneJson(document);
  for (const operation of operations) result = applyOperation(result, operation);
  return result;
}
