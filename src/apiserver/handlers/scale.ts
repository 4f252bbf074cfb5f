// The scale subresource (autoscaling/v1 Scale) of everything that has spec.replicas.

import { applyPatch, PATCH_MEDIA_TYPES, patchKindOf } from '../../api/patch.ts';
import { schemaOfKind } from '../../api/schema.ts';
import { formatLabelSelector, labelSelectorFromMap, labelSelectorFromObject } from '../../api/selectors.ts';
import { badRequest, invalid, unsupportedMediaType } from '../../api/status.ts';
import type { LabelSelector } from '../../api/types.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../../lib/json.ts';
import { decodeObject, mediaType, parseJson, readBody } from '../http/body.ts';
import { sendJson } from '../http/respond.ts';
import type { ApiObject } from '../storage/api-object.ts';
import { servedObject } from '../storage/resource-storage.ts';
import type { ResourceCall, ServerParts } from './call.ts';
import { changeObject } from './change.ts';
import { trackUpdate } from './field-managers.ts';
import { changeRequest } from './update.ts';

interface Scalable {
  spec?: { replicas?: number; selector?: LabelSelector | Record<string, string> };
  status?: { replicas?: number };
}

export async function serveScale(call: ResourceCall, server: ServerParts): Promise<void> {
  const { definition, info, request, response } = call;
  if (info.verb === 'get') {
    const entry = await server.storage.get(definition, info.namespace, info.name);
    await sendJson(request, response, 200, JSON.stringify(scaleOf(servedObject(definition, entry))));
    return;
  }
  const change = await readChange(call);
  const object = await changeObject(server, {
    ...changeRequest(call),
    // To the registry this is a change of the object's own spec.
    subresource: '',
    produce: old => {
      const scale = change(scaleOf(old));
      const replicas = readReplicas(call, scale);
      const object = structuredClone(old) as ApiObject & Scalable;
      object.spec = { ...object.spec, replicas };
      const metadata = isJsonObject(scale.metadata) ? scale.metadata : {};
      if (metadata.resourceVersion) object.metadata.resourceVersion = String(metadata.resourceVersion);
      return object;
    },
    track: (old, made) => trackUpdate(call, old, made),
  });
  await sendJson(request, response, 200, JSON.stringify(scaleOf(object)));
}

/** How the Scale is to be changed: replaced (PUT) or patched. */
async function readChange(call: ResourceCall): Promise<(scale: JsonObject) => JsonObject> {
  const bytes = await readBody(call.request);
  if (call.info.verb === 'update') {
    const body = await decodeObject(bytes, mediaType(call.request));
    if (!body) throw badRequest('the body of the request is empty; a Scale was expected');
    return () => body;
  }
  const kind = patchKindOf(call.request.headers['content-type'] ?? '');
  if (!kind || kind === 'apply')
    throw unsupportedMediaType(Object.values(PATCH_MEDIA_TYPES).slice(0, 3).join(', '));
  const patch = parseJson(bytes.toString('utf8')) as JsonValue;
  const schema = schemaOfKind('autoscaling', 'v1', 'Scale');
  return scale => applyPatch(kind, scale, patch, schema);
}

function readReplicas(call: ResourceCall, scale: JsonObject): number {
  const spec = isJsonObject(scale.spec) ? scale.spec : {};
  const replicas = spec.replicas ?? 0;
  if (typeof replicas === 'number' && Number.isInteger(replicas) && replicas >= 0) return replicas;
  throw invalid({ group: 'autoscaling', plural: 'Scale', kind: 'Scale' }, call.info.name, [
    {
      reason: 'FieldValueInvalid',
      field: 'spec.replicas',
      message: `Invalid value: ${JSON.stringify(replicas)}: must be greater than or equal to 0`,
    },
  ]);
}

export function scaleOf(object: ApiObject): JsonObject {
  const { spec, status } = object as ApiObject & Scalable;
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  // A ReplicationController selects by a plain map, everything else by a LabelSelector.
  const selector =
    object.kind === 'ReplicationController'
      ? labelSelectorFromMap(spec?.selector as Record<string, string> | undefined)
      : labelSelectorFromObject(spec?.selector as LabelSelector | undefined);
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: JSON.parse(JSON.stringify({ name, namespace, uid, resourceVersion, creationTimestamp })),
    spec: { replicas: spec?.replicas ?? 0 },
    status: { replicas: status?.replicas ?? 0, selector: formatLabelSelector(selector) },
  };
}
