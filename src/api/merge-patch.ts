// RFC 7386 JSON Merge Patch: null removes a member, objects merge, everything else replaces.
import {
  cloneJson,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  jsonEqual,
  ownValue,
  setOwn,
} from '../lib/json.ts';

/** RFC 7386 §2, MergePatch(Target, Patch). Pure: neither argument is changed. */
export function applyMergePatch(target: JsonValue | undefined, patch: JsonValue): JsonValue {
  if (!isJsonObject(patch)) return cloneJson(patch);
  const result: JsonObject = isJsonObject(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else setOwn(result, name, applyMergePatch(ownValue(result, name), value));
  }
  return result;
}

/** The smallest merge patch that turns `from` into `to`; undefined when they are equal. Nulls inside `to` cannot be expressed. */
export function createMergePatch(from: JsonObject, to: JsonObject): JsonObject | undefined {
  const patch: JsonObject = {};
  for (const name of Object.keys(from)) if (ownValue(to, name) === undefined) setOwn(patch, name, null);
  for (const [name, value] of Object.entries(to)) {
    const old = ownValue(from, name);
    if (isJsonObject(old) && isJsonObject(value)) {
      const inner = createMergePatch(old, value);
      if (inner) setOwn(patch, name, inner);
    } else if (!jsonEqual(old, value)) setOwn(patch, name, cloneJson(value));
  }
  return Object.keys(patch).length > 0 ? patch : undefined;
}
