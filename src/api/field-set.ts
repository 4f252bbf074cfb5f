// Sets of field paths in the FieldsV1 form that metadata.managedFields stores (KEP-555):
//   f:name a field · k:{"name":"a"} a list element by key · v:"x" a set's element · "." the node itself, beside children
// A node without children is a member; a node with children is one only when it has ".".
import { isJsonObject, type JsonObject, type JsonValue } from '../lib/json.ts';

/** One node: whether its own path is in the set, and what is below it. */
export interface FieldSet {
  self: boolean;
  readonly children: Map<string, FieldSet>;
}

export function emptySet(): FieldSet {
  return { self: false, children: new Map() };
}

export function leaf(): FieldSet {
  return { self: true, children: new Map() };
}

export function isEmpty(set: FieldSet | undefined): boolean {
  return set === undefined || (!set.self && [...set.children.values()].every(isEmpty));
}

export function parseFieldSet(node: JsonValue | undefined, isRoot = true): FieldSet {
  const set = emptySet();
  if (!isJsonObject(node)) return isRoot ? set : leaf();
  const names = Object.keys(node);
  set.self = !isRoot && (names.length === 0 || names.includes('.'));
  for (const name of names) if (name !== '.') set.children.set(name, parseFieldSet(node[name], false));
  return set;
}

/** FieldsV1 with sorted members, so that equal sets are equal text. */
export function formatFieldSet(set: FieldSet): JsonObject {
  const entries: [string, JsonValue][] = [];
  if (set.self && set.children.size > 0) entries.push(['.', {}]);
  for (const name of [...set.children.keys()].sort()) {
    const child = set.children.get(name);
    if (child && !isEmpty(child)) entries.push([name, formatFieldSet(child)]);
  }
  return Object.fromEntries(entries);
}

/** The child of that name, made when missing. */
export function childSet(set: FieldSet, name: string): FieldSet {
  let child = set.children.get(name);
  if (!child) {
    child = emptySet();
    set.children.set(name, child);
  }
  return child;
}

export function union(a: FieldSet, b: FieldSet): FieldSet {
  const result: FieldSet = { self: a.self || b.self, children: new Map() };
  for (const name of new Set([...a.children.keys(), ...b.children.keys()])) {
    const [left, right] = [a.children.get(name), b.children.get(name)];
    result.children.set(name, left && right ? union(left, right) : (left ?? right ?? emptySet()));
  }
  return result;
}

export function intersection(a: FieldSet, b: FieldSet): FieldSet {
  const result: FieldSet = { self: a.self && b.self, children: new Map() };
  for (const [name, left] of a.children) {
    const right = b.children.get(name);
    if (!right) continue;
    const both = intersection(left, right);
    if (!isEmpty(both)) result.children.set(name, both);
  }
  return result;
}

export function difference(a: FieldSet, b: FieldSet | undefined): FieldSet {
  if (!b) return a;
  const result: FieldSet = { self: a.self && !b.self, children: new Map() };
  for (const [name, left] of a.children) {
    const rest = difference(left, b.children.get(name));
    if (!isEmpty(rest)) result.children.set(name, rest);
  }
  return result;
}

/** `a` without the paths of `b` and without everything below them: what was replaced whole is nobody's in part. */
export function withoutSubtrees(a: FieldSet, b: FieldSet | undefined): FieldSet {
  if (!b) return a;
  if (b.self && b.children.size === 0) return emptySet();
  const result: FieldSet = { self: a.self && !b.self, children: new Map() };
  for (const [name, left] of a.children) {
    const rest = withoutSubtrees(left, b.children.get(name));
    if (!isEmpty(rest)) result.children.set(name, rest);
  }
  return result;
}

/** What of `a` nobody in `b` owns: a node stays owned as long as anything below it is. */
export function unowned(a: FieldSet, b: FieldSet | undefined): FieldSet {
  if (!b || isEmpty(b)) return a;
  const result: FieldSet = { self: false, children: new Map() };
  for (const [name, left] of a.children) {
    const rest = unowned(left, b.children.get(name));
    if (!isEmpty(rest)) result.children.set(name, rest);
  }
  return result;
}

/** The members' paths as conflicts print them: `.spec.containers[name="a"].image`. */
export function fieldPaths(set: FieldSet, prefix = ''): string[] {
  const paths = set.self && prefix !== '' ? [prefix] : [];
  for (const [name, child] of set.children) paths.push(...fieldPaths(child, prefix + elementText(name)));
  return paths.sort();
}

function elementText(element: string): string {
  const text = element.slice(2);
  if (element.startsWith('f:')) return `.${text}`;
  if (element.startsWith('v:')) return `[=${text}]`;
  const key = JSON.parse(text) as JsonObject;
  return `[${Object.entries(key)
    .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
    .join(',')}]`;
}
