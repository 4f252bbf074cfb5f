// PUT and PATCH of an object or of its status.

import { applyObject } from '../../api/apply.ts';
import { applyPatch, PATCH_MEDIA_TYPES, patchKindOf } from '../../api/patch.ts';
import type { ResourceDefinition } from '../../api/resources.ts';
import { badRequest, notFound, unsupportedMediaType } from '../../api/status.ts';
import { formatTime } from '../../lib/clock.ts';
import { hasCode } from '../../lib/errors.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../../lib/json.ts';
import { parseJson, parseYaml, readBody } from '../http/body.ts';
import { addWarnings, sendJson } from '../http/respond.ts';
import type { ApiObject } from '../storage/api-object.ts';
import { flag, isDryRun, type ResourceCall, type ServerParts, viewOf } from './call.ts';
import { type ChangeRequest, changeObject } from './change.ts';
import { createObject } from './create.ts';
import { trackUpdate } from './field-managers.ts';
import { checkObject, readObject } from './incoming.ts';
import { presentObject } from './presentation.ts';

export async function serveUpdate(call: ResourceCall, server: ServerParts): Promise<void> {
  const body = await readObject(call);
  const object = await changeObject(server, {
    ...changeRequest(call),
    produce: old => limitToSubresource(call.info.subresource, structuredClone(body), old),
    track: (old, made) => trackUpdate(call, old, made),
  });
  await answer(call, object);
}

export async function servePatch(call: ResourceCall, server: ServerParts): Promise<void> {
  const kind = patchKindOf(call.request.headers['content-type'] ?? '');
  if (!kind || (kind === 'strategic' && call.definition.customSchema))
    throw unsupportedMediaType(acceptedPatches(call.definition));
  const text = (await readBody(call.request)).toString('utf8');
  if (kind === 'apply') return serveApply(call, server, await parseYaml(text));
  const patch = parseJson(text) as JsonValue;
  const { schema } = call.definition;
  const object = await changeObject(server, {
    ...changeRequest(call),
    produce: old => {
      const patched = applyPatch(kind, structuredClone(old) as unknown as JsonObject, patch, schema);
      call.warnings.length = 0;
      return limitToSubresource(call.info.subresource, checkObject(call, patched), old);
    },
    track: (old, made) => trackUpdate(call, old, made),
  });
  await answer(call, object);
}

/** Strategic merge needs Go's struct tags, which a custom resource has not. */
function acceptedPatches({ customSchema }: ResourceDefinition): string {
  const { strategic, ...others } = PATCH_MEDIA_TYPES;
  return Object.values(customSchema ? others : { ...others, strategic }).join(', ');
}

/** Server-side apply (KEP-555): creates what is not there yet. */
async function serveApply(call: ResourceCall, server: ServerParts, document: unknown): Promise<void> {
  const manager = call.query.get('fieldManager');
  if (!manager) throw badRequest('fieldManager is required for apply patch');
  if (!isJsonObject(document)) throw badRequest('the body of an apply patch must be an object');
  const applied = checkObject(call, document);
  const options = {
    manager,
    force: flag(call.query, 'force'),
    subresource: call.info.subresource,
    time: formatTime(Date.now()),
    schema: call.definition.schema,
  };
  try {
    const object = await changeObject(server, {
      ...changeRequest(call),
      produce: old =>
        limitToSubresource(
          call.info.subresource,
          applyObject(structuredClone(old), structuredClone(applied), options),
          old,
        ),
    });
    await answer(call, object);
  } catch (error) {
    const missing = hasCode(error, 'NotFound') && call.info.subresource === '';
    if (!missing || applied.metadata.uid) throw error;
    const fresh = applyObject(undefined, applied, options);
    await answer(
      call,
      await createObject(server, call.definition, fresh, call.user, isDryRun(call.query)),
      201,
    );
  }
}

export function changeRequest(call: ResourceCall): Omit<ChangeRequest, 'produce'> {
  const { definition, info, user } = call;
  if (info.name === '') throw notFound(definition, '');
  return {
    definition,
    namespace: info.namespace,
    name: info.name,
    subresource: info.subresource,
    user,
    dryRun: isDryRun(call.query),
  };
}

export async function answer(call: ResourceCall, object: ApiObject, code = 200): Promise<void> {
  addWarnings(call.response, [...new Set(call.warnings)]);
  await sendJson(call.request, call.response, code, presentObject(call.definition, object, viewOf(call)));
}

/** pods/ephemeralcontainers changes nothing but that list; status is kept apart by the registry itself. */
function limitToSubresource(subresource: string, object: ApiObject, old: ApiObject): ApiObject {
  if (subresource !== 'ephemeralcontainers') return object;
  const limited = structuredClone(old);
  const wanted = (object.spec as { ephemeralContainers?: unknown } | undefined)?.ephemeralContainers;
  limited.spec = { ...(limited.spec as object), ephemeralContainers: wanted };
  if (object.metadata.resourceVersion) limited.metadata.resourceVersion = object.metadata.resourceVersion;
  return limited;
}
