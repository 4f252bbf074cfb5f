// The patch types of the API by their media type, behind one function. Server-side apply (apply.ts) is not here: it
// needs the field managers of the stored object, not only the document.
import { isJsonObject, type JsonObject, type JsonValue } from '../lib/json.ts';
import { applyJsonPatch } from './json-patch.ts';
import { applyMergePatch } from './merge-patch.ts';
import type { TypeSchema } from './schema.ts';
import { badRequest } from './status.ts';
import { applyStrategicMergePatch } from './strategic-merge-patch.ts';

export { applyJsonPatch, applyMergePatch, applyStrategicMergePatch };

export const PATCH_MEDIA_TYPES = {
  json: 'application/json-patch+json',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  apply: 'application/apply-patch+yaml',
} as const;

export type PatchKind = keyof typeof PATCH_MEDIA_TYPES;

/** Which patch a Content-Type names; undefined for none of them. */
export function patchKindOf(contentType: string): PatchKind | undefined {
  const mediaType = contentType.split(';')[0]?.trim().toLowerCase();
  for (const [kind, name] of Object.entries(PATCH_MEDIA_TYPES))
    if (name === mediaType) return kind as PatchKind;
  return undefined;
}

/** Applies a patch to an object of the given type; the result is an object again or the patch is refused. */
export function applyPatch(
  kind: Exclude<PatchKind, 'apply'>,
  document: JsonObject,
  patch: JsonValue,
  type: TypeSchema | undefined,
): JsonObject {
  const result =
    kind === 'json'
      ? applyJsonPatch(document, patch)
      : kind === 'merge'
        ? applyMergePatch(document, patch)
        : applyStrategicMergePatch(document, patch, type);
  if (!isJsonObject(result)) throw badRequest('the patched document is not an object');
  return result;
}
