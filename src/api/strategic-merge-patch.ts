// Kubernetes' strategic merge patch: a merge patch that knows which lists are maps by a key (containers by name) and
// takes directives: $patch (replace, delete), $setElementOrder/f, $deleteFromPrimitiveList/f, $retainKeys.
// https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md
import {
  cloneJson,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  jsonEqual,
  ownValue,
  setOwn,
} from '../lib/json.ts';
import { type FieldSchema, type TypeSchema, typeSchema } from './schema.ts';
import { badRequest } from './status.ts';

const PATCH = '$patch';
const RETAIN_KEYS = '$retainKeys';
const ELEMENT_ORDER = '$setElementOrder/';
const DELETE_PRIMITIVES = '$deleteFromPrimitiveList/';

/** Applies the patch to a document of the given type. Pure. Throws ApiError 400 on a malformed patch. */
export function applyStrategicMergePatch(
  document: JsonObject,
  patch: JsonValue,
  type: TypeSchema | undefined,
): JsonObject {
  if (!isJsonObject(patch)) throw badRequest('strategic merge patch: the patch must be an object');
  return mergeObject(document, patch, type) ?? {};
}

/** Merges one object; undefined when the patch deletes it. */
function mergeObject(
  original: JsonObject,
  patch: JsonObject,
  type: TypeSchema | undefined,
): JsonObject | undefined {
  const directive = ownValue(patch, PATCH);
  if (directive === 'replace') return withoutDirectives({ ...patch, [PATCH]: null });
  if (directive === 'delete') return undefined;
  if (directive !== undefined && directive !== 'merge')
    throw badRequest(`strategic merge patch: unknown ${PATCH} directive ${JSON.stringify(directive)}`);
  const result = retainKeys(original, patch);
  const done = new Set<string>();
  for (const [key, order] of Object.entries(patch)) {
    if (!key.startsWith(ELEMENT_ORDER)) continue;
    const name = key.slice(ELEMENT_ORDER.length);
    done.add(name);
    mergeOrderedList(result, name, ownValue(patch, name), order, type?.fields.get(name));
  }
  for (const [key, value] of Object.entries(patch)) {
    if (key === PATCH || key === RETAIN_KEYS || key.startsWith(ELEMENT_ORDER) || done.has(key)) continue;
    if (key.startsWith(DELETE_PRIMITIVES))
      deletePrimitives(result, key.slice(DELETE_PRIMITIVES.length), value);
    else mergeField(result, key, value, type?.fields.get(key));
  }
  return result;
}

/** $retainKeys: of the original's fields only those named stay (a union's other members go). */
function retainKeys(original: JsonObject, patch: JsonObject): JsonObject {
  const keys = ownValue(patch, RETAIN_KEYS);
  if (keys === undefined) return { ...original };
  if (!Array.isArray(keys)) throw badRequest(`strategic merge patch: ${RETAIN_KEYS} must be a list`);
  for (const key of Object.keys(patch))
    if (!key.startsWith('$') && patch[key] !== null && !keys.includes(key))
      throw badRequest(`strategic merge patch: ${RETAIN_KEYS} lacks "${key}", which the patch sets`);
  return Object.fromEntries(Object.entries(original).filter(([key]) => keys.includes(key)));
}

function mergeField(
  result: JsonObject,
  name: string,
  value: JsonValue,
  field: FieldSchema | undefined,
): void {
  if (value === null) {
    delete result[name];
    return;
  }
  const original = ownValue(result, name);
  if (isJsonObject(value)) {
    const type = field?.shape === 'single' ? typeSchema(field.element) : undefined;
    const base = isJsonObject(original) && !field?.replaces ? original : {};
    const merged =
      isJsonObject(original) || hasDirective(value)
        ? mergeObject(base, value, type)
        : withoutDirectives(value);
    if (merged) setOwn(result, name, merged);
    else delete result[name];
  } else if (Array.isArray(value)) {
    setOwn(
      result,
      name,
      field?.merges
        ? mergeList(Array.isArray(original) ? original : [], value, name, field)
        : cloneJson(value),
    );
  } else setOwn(result, name, value);
}

function hasDirective(value: JsonObject): boolean {
  return Object.keys(value).some(key => key.startsWith('$'));
}

/** A patch's value taken where there is no original: nulls and directives mean nothing there. */
function withoutDirectives<T extends JsonValue>(value: T): T {
  if (Array.isArray(value))
    return value
      .filter(item => !(isJsonObject(item) && ownValue(item, PATCH) === 'delete'))
      .map(withoutDirectives) as unknown as T;
  if (!isJsonObject(value)) return value;
  const result: JsonObject = {};
  for (const [key, item] of Object.entries(value))
    if (item !== null && !key.startsWith('$')) setOwn(result, key, withoutDirectives(item));
  return result as T;
}

/** Merges a list whose field merges: scalars as a set, objects by their key. The patch's elements keep their own order. */
function mergeList(original: JsonValue[], patch: JsonValue[], name: string, field: FieldSchema): JsonValue[] {
  const sample = original.concat(patch).find(item => item !== null);
  if (sample === undefined) return original;
  if (!isJsonObject(sample)) return mergeOrder(distinct([...original, ...patch]), patch, original, undefined);
  const key = field.mergeKey;
  if (!key) throw badRequest(`strategic merge patch: list "${name}" has no merge key`);
  let base = original;
  const elements: JsonObject[] = [];
  let replaced = false;
  for (const element of patch) {
    if (!isJsonObject(element))
      throw badRequest(`strategic merge patch: "${name}" mixes objects and scalars`);
    const directive = ownValue(element, PATCH);
    if (directive === 'delete') base = base.filter(item => !sameKey(item, element, key, name));
    else if (directive === 'replace') replaced = true;
    else if (directive === undefined || directive === 'merge') elements.push(element);
    else throw badRequest(`strategic merge patch: unknown ${PATCH} directive ${JSON.stringify(directive)}`);
  }
  if (replaced) return withoutDirectives(elements);
  const type = typeSchema(field.element);
  const merged = [...base];
  for (const element of elements) {
    const at = merged.findIndex(item => sameKey(item, element, key, name));
    if (at < 0) merged.push(withoutDirectives(element));
    else merged[at] = mergeObject(merged[at] as JsonObject, element, type) ?? {};
  }
  return mergeOrder(merged, elements, original, key);
}

/** $setElementOrder/f: merges f if the patch has it, then puts the elements it names into that order. */
function mergeOrderedList(
  result: JsonObject,
  name: string,
  patch: JsonValue | undefined,
  order: JsonValue,
  field: FieldSchema | undefined,
): void {
  if (!Array.isArray(order))
    throw badRequest(`strategic merge patch: ${ELEMENT_ORDER}${name} must be a list`);
  const own = ownValue(result, name);
  const original = Array.isArray(own) ? own : undefined;
  if (patch === null) {
    delete result[name];
    return;
  }
  if (!original && patch === undefined) return;
  if (patch !== undefined && !Array.isArray(patch))
    throw badRequest(`strategic merge patch: "${name}" must be a list`);
  if (patch && !field?.merges) {
    setOwn(result, name, cloneJson(patch));
    return;
  }
  const merged = patch && field ? mergeList(original ?? [], patch, name, field) : (original ?? []);
  setOwn(
    result,
    name,
    mergeOrder(merged, order, original ?? [], isJsonObject(order[0]) ? field?.mergeKey : undefined),
  );
}

function deletePrimitives(result: JsonObject, name: string, values: JsonValue): void {
  const list = ownValue(result, name);
  if (!Array.isArray(values))
    throw badRequest(`strategic merge patch: ${DELETE_PRIMITIVES}${name} must be a list`);
  if (!Array.isArray(list)) return;
  setOwn(
    result,
    name,
    list.filter(item => !values.some(value => jsonEqual(item, value))),
  );
}

function distinct(values: JsonValue[]): JsonValue[] {
  return values.filter((value, index) => values.findIndex(other => jsonEqual(other, value)) === index);
}

function keyOf(item: JsonValue, key: string | undefined): JsonValue | undefined {
  return key === undefined ? item : isJsonObject(item) ? ownValue(item, key) : undefined;
}

function sameKey(item: JsonValue, element: JsonObject, key: string, name: string): boolean {
  const wanted = ownValue(element, key);
  if (wanted === undefined)
    throw badRequest(`map: map[] does not contain declared merge key: ${key} (list "${name}")`);
  return jsonEqual(keyOf(item, key), wanted);
}

function position(list: JsonValue[], item: JsonValue, key: string | undefined): number {
  const wanted = keyOf(item, key);
  return list.findIndex(other => jsonEqual(keyOf(other, key), wanted));
}

/**
 * Elements that `order` names come in its order; the server's other elements keep theirs, and a pair that the server
 * already had in an order keeps that relative order (normalizeElementOrder's merge of two sorted lists).
 */
function mergeOrder(
  merged: JsonValue[],
  order: JsonValue[],
  serverOrder: JsonValue[],
  key: string | undefined,
): JsonValue[] {
  const rank = (list: JsonValue[], item: JsonValue): number => {
    const at = position(list, item, key);
    return at < 0 ? Number.POSITIVE_INFINITY : at;
  };
  const byRank = (list: JsonValue[]) => (a: JsonValue, b: JsonValue) => {
    const [left, right] = [rank(list, a), rank(list, b)];
    return left === right ? 0 : left - right;
  };
  const patched = merged.filter(item => position(order, item, key) >= 0).sort(byRank(order));
  const serverOnly = merged.filter(item => position(order, item, key) < 0).sort(byRank(serverOrder));
  const result: JsonValue[] = [];
  let [left, right] = [0, 0];
  while (left < serverOnly.length && right < patched.length) {
    const a = serverOnly[left] as JsonValue;
    const b = patched[right] as JsonValue;
    const [rankA, rankB] = [rank(serverOrder, a), rank(serverOrder, b)];
    const serverFirst = Number.isFinite(rankA) && Number.isFinite(rankB) && rankA < rankB;
    result.push(serverFirst ? a : b);
    if (serverFirst) left++;
    else right++;
  }
  return [...result, ...serverOnly.slice(left), ...patched.slice(right)];
}
