// Objects seen as sets of fields, by their schema: which fields an object has, what differs between two, and merging one
// into the other. The rules are structured-merge-diff's: granular objects and maps merge, atomic ones are replaced,
// lists are atomic, sets, or maps by key.
import {
  cloneJson,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  jsonEqual,
  ownValue,
  setOwn,
} from '../lib/json.ts';
import { childSet, emptySet, type FieldSet } from './field-set.ts';
import { type FieldSchema, type TypeSchema, typeSchema } from './schema.ts';

/** Structs that are one value to server-side apply (+structType=atomic). */
const ATOMIC_TYPES = new Set(
  [
    'ConfigMapKeySelector',
    'EndpointAddress',
    'EndpointPort',
    'LocalObjectReference',
    'NodeSelector',
    'NodeSelectorTerm',
    'ObjectFieldSelector',
    'ObjectReference',
    'ResourceFieldSelector',
    'ScopeSelector',
    'SecretKeySelector',
    'SecretReference',
    'TopologySelectorTerm',
    'TypedLocalObjectReference',
  ]
    .map(name => `core.v1.${name}`)
    .concat('meta.v1.LabelSelector', 'networking.v1.ServiceBackendPort', 'rbac.v1.RoleRef'),
);

/** Maps that are one value (+mapType=atomic). */
const ATOMIC_MAPS = new Set(['nodeSelector', 'selector']);

/** Keys of list elements that have a default, so that an element without them is still found. */
const KEY_DEFAULTS: Record<string, JsonValue> = { protocol: 'TCP' };

export type Topology = 'atomic' | 'granular' | 'set' | 'map';

/** How a field's value merges. Without a schema: objects are granular, lists atomic. */
export function topologyOf(field: FieldSchema | undefined, value: JsonValue): Topology {
  if (Array.isArray(value)) {
    if (field?.listType === 'atomic') return 'atomic';
    if (field?.listType === 'map' || (field?.merges && field.mergeKey)) return 'map';
    return field?.listType === 'set' || field?.merges ? 'set' : 'atomic';
  }
  if (!isJsonObject(value)) return 'atomic';
  if (field?.shape === 'map' && field.element === 'string' && ATOMIC_MAPS.has(field.name)) return 'atomic';
  if (field?.shape === 'single' && ATOMIC_TYPES.has(field.element)) return 'atomic';
  if (field?.listType === 'atomic' || (field && freeForm(field.element))) return 'atomic';
  return 'granular';
}

function freeForm(element: string): boolean {
  return element === 'RawExtension' || element === 'FieldsV1' || element === 'JSON';
}

function keysOf(field: FieldSchema | undefined): readonly string[] {
  if (!field) return [];
  return field.mapKeys.length > 0 ? field.mapKeys : field.mergeKey ? [field.mergeKey] : [];
}

/** `k:{"containerPort":80,"protocol":"TCP"}`; the keys sorted, as FieldsV1 has them. */
function elementKey(element: JsonValue, field: FieldSchema | undefined): string {
  const key: JsonObject = {};
  for (const name of [...keysOf(field)].sort()) {
    const value = isJsonObject(element) ? (ownValue(element, name) ?? KEY_DEFAULTS[name]) : undefined;
    if (value !== undefined) key[name] = value;
  }
  return `k:${JSON.stringify(key)}`;
}

function setKey(element: JsonValue): string {
  return `v:${JSON.stringify(element)}`;
}

/** The type of what is below a field: of the struct, or of the list's or map's elements. */
function typeBelow(field: FieldSchema | undefined): TypeSchema | undefined {
  return field ? (field.below ?? typeSchema(field.element)) : undefined;
}

/** The schema of an object's member; a map's values all look the same. */
function memberField(
  container: FieldSchema | undefined,
  type: TypeSchema | undefined,
  name: string,
): FieldSchema | undefined {
  if (container?.shape === 'map')
    return {
      ...container,
      shape: container.nested ? 'list' : 'single',
      nested: false,
      name,
      listType: undefined,
    };
  return type?.fields.get(name);
}

/** Adds every field of `value` below `set`. */
export function addFields(
  set: FieldSet,
  value: JsonValue,
  field: FieldSchema | undefined,
  type = typeBelow(field),
): void {
  switch (topologyOf(field, value)) {
    case 'atomic':
      set.self = true;
      return;
    case 'granular': {
      const members = Object.entries(value as JsonObject).filter(([, item]) => item !== null);
      if (members.length === 0) set.self = true;
      for (const [name, item] of members)
        addFields(childSet(set, `f:${name}`), item, memberField(field, type, name));
      return;
    }
    case 'set':
      if ((value as JsonValue[]).length === 0) set.self = true;
      for (const item of value as JsonValue[]) childSet(set, setKey(item)).self = true;
      return;
    case 'map':
      if ((value as JsonValue[]).length === 0) set.self = true;
      for (const item of value as JsonValue[]) {
        const child = childSet(set, elementKey(item, field));
        addFields(child, item, elementField(field));
        child.self = true;
      }
  }
}

/** A list's element as a field of its own. */
function elementField(field: FieldSchema | undefined): FieldSchema | undefined {
  return field && { ...field, shape: 'single', listType: undefined };
}

export interface Changes {
  /** In the new object, and not, or not so, in the old. */
  readonly written: FieldSet;
  /** In the old object and not in the new. */
  readonly removed: FieldSet;
}

export function compareObjects(old: JsonObject, now: JsonObject, type: TypeSchema | undefined): Changes {
  const changes = { written: emptySet(), removed: emptySet() };
  compareMembers(old, now, undefined, type, changes);
  return changes;
}

function compareMembers(
  old: JsonObject,
  now: JsonObject,
  container: FieldSchema | undefined,
  type: TypeSchema | undefined,
  { written, removed }: Changes,
): void {
  for (const name of new Set([...Object.keys(old), ...Object.keys(now)])) {
    const key = `f:${name}`;
    compareValues(ownValue(old, name), ownValue(now, name), memberField(container, type, name), {
      written: childSet(written, key),
      removed: childSet(removed, key),
    });
  }
}

function compareValues(
  old: JsonValue | undefined,
  now: JsonValue | undefined,
  field: FieldSchema | undefined,
  changes: Changes,
): void {
  const [before, after] = [old ?? undefined, now ?? undefined];
  if (jsonEqual(before, after)) return;
  if (after === undefined) {
    if (before !== undefined) addFields(changes.removed, before, field);
    return;
  }
  const topology = topologyOf(field, after);
  if (before === undefined || topology === 'atomic' || topology !== topologyOf(field, before)) {
    addFields(changes.written, after, field);
    return;
  }
  if (topology === 'granular') {
    compareMembers(before as JsonObject, after as JsonObject, field, typeBelow(field), changes);
    return;
  }
  const keyOf = topology === 'set' ? setKey : (item: JsonValue) => elementKey(item, field);
  const olds = new Map((before as JsonValue[]).map(item => [keyOf(item), item]));
  const news = new Map((after as JsonValue[]).map(item => [keyOf(item), item]));
  for (const key of new Set([...olds.keys(), ...news.keys()])) {
    const [left, right] = [olds.get(key), news.get(key)];
    const child = { written: childSet(changes.written, key), removed: childSet(changes.removed, key) };
    if (left === undefined || right === undefined) {
      const target = right === undefined ? child.removed : child.written;
      if (topology === 'map') addFields(target, right ?? left ?? null, elementField(field));
      target.self = true;
    } else compareValues(left, right, elementField(field), child);
  }
}

/** The live value with the applied one merged in. */
export function mergeApplied(
  live: JsonValue | undefined,
  applied: JsonValue,
  field: FieldSchema | undefined,
  type = typeBelow(field),
): JsonValue {
  const topology = topologyOf(field, applied);
  if (live === undefined || live === null || topology === 'atomic' || topology !== topologyOf(field, live))
    return cloneJson(applied);
  if (topology === 'granular') {
    const result: JsonObject = { ...(live as JsonObject) };
    for (const [name, value] of Object.entries(applied as JsonObject))
      if (value !== null)
        setOwn(result, name, mergeApplied(ownValue(result, name), value, memberField(field, type, name)));
    return result;
  }
  const keyOf = topology === 'set' ? setKey : (item: JsonValue) => elementKey(item, field);
  return mergeLists(live as JsonValue[], applied as JsonValue[], keyOf, (left, right) =>
    topology === 'set' ? left : mergeApplied(left, right, elementField(field)),
  );
}

/** Applied elements in their order; live elements stay behind the neighbour they followed. */
function mergeLists(
  live: JsonValue[],
  applied: JsonValue[],
  keyOf: (item: JsonValue) => string,
  merge: (live: JsonValue, applied: JsonValue) => JsonValue,
): JsonValue[] {
  const wanted = new Map(applied.map(item => [keyOf(item), item]));
  const queue = [...wanted.keys()];
  const liveByKey = new Map(live.map(item => [keyOf(item), item]));
  const result: JsonValue[] = [];
  const take = (key: string): void => {
    const [left, right] = [liveByKey.get(key), wanted.get(key)];
    if (right !== undefined) result.push(left === undefined ? cloneJson(right) : merge(left, right));
  };
  const done = new Set<string>();
  for (const [key, item] of liveByKey) {
    if (!wanted.has(key)) {
      result.push(item);
      continue;
    }
    if (done.has(key)) continue;
    while (queue.length > 0) {
      const next = queue.shift() as string;
      done.add(next);
      take(next);
      if (next === key) break;
    }
  }
  for (const key of queue) take(key);
  return result;
}

/** Removes the set's members from the value; what is empty afterwards and was no member itself stays. Undefined: all of it goes. */
export function removeFields(
  value: JsonValue,
  set: FieldSet,
  field: FieldSchema | undefined,
  type = typeBelow(field),
): JsonValue | undefined {
  if (set.self && set.children.size === 0) return undefined;
  switch (topologyOf(field, value)) {
    case 'granular': {
      const result: JsonObject = {};
      for (const [name, item] of Object.entries(value as JsonObject)) {
        const child = set.children.get(`f:${name}`);
        const kept = child ? removeFields(item, child, memberField(field, type, name)) : item;
        if (kept !== undefined) setOwn(result, name, kept);
      }
      return set.children.size > 0 && Object.keys(result).length === 0 ? undefined : result;
    }
    case 'set':
      return (value as JsonValue[]).filter(item => !set.children.has(setKey(item)));
    case 'map':
      return (value as JsonValue[]).flatMap(item => {
        const child = set.children.get(elementKey(item, field));
        if (!child) return [item];
        if (child.self) return [];
        const kept = removeFields(item, child, elementField(field));
        return kept === undefined ? [] : [kept];
      });
    default:
      return value;
  }
}
