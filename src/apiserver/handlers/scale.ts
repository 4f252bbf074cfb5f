// The scale subresource (autoscaling/v1 Scale) of everything that has spec.replicas.

import { type JsonPath, setAt, valueAt } from '../../api/custom/json-path.ts';
import { applyPatch, PATCH_MEDIA_TYPES, patchKindOf } from '../../api/patch.ts';
import type { ScalePaths } from '../../api/resource-definition.ts';
import type { ResourceDefinition } from '../../api/resources.ts';
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
    await sendJson(
      request,
      response,
      200,
      JSON.stringify(scaleOf(definition, servedObject(definition, entry))),
    );
    return;
  }
  const change = await readChange(call);
  const object = await changeObject(server, {
    ...changeRequest(call),
    // To the registry this is a change of the object's own spec.
    subresource: '',
    produce: old => {
      const scale = change(scaleOf(definition, old));
      const replicas = readReplicas(call, scale);
      const object = structuredClone(old) as ApiObject & Scalable;
      if (definition.scale) setAt(definition.scale.replicas, object as unknown as JsonObject, replicas);
      else object.spec = { ...object.spec, replicas };
      const metadata = isJsonObject(scale.metadata) ? scale.metadata : {};
      if (metadata.resourceVersion) object.metadata.resourceVersion = String(metadata.resourceVersion);
      return object;
    },
    track: (old, made) => trackUpdate(call, old, made),
  });
  await sendJson(request, response, 200, JSON.stringify(scaleOf(definition, object)));
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

export function scaleOf(definition: Pick<ResourceDefinition, 'scale'>, object: ApiObject): JsonObject {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const { wanted, observed, selector } = definition.scale
    ? customScale(definition.scale, object)
    : builtInScale(object);
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: JSON.parse(JSON.stringify({ name, namespace, uid, resourceVersion, creationTimestamp })),
    spec: { replicas: wanted },
    status: { replicas: observed, ...(selector === undefined ? {} : { selector }) },
  };
}

interface Scaled {
  wanted: number;
  observed: number;
  selector: string | undefined;
}

function builtInScale(object: ApiObject): Scaled {
  const { spec, status } = object as ApiObject & Scalable;
  // A ReplicationController selects by a plain map, everything else by a LabelSelector.
  const selector =
    object.kind === 'ReplicationController'
      ? labelSelectorFromMap(spec?.selector as Record<string, string> | undefined)
      : labelSelectorFromObject(spec?.selector as LabelSelector | undefined);
  return {
    wanted: spec?.replicas ?? 0,
    observed: status?.replicas ?? 0,
    selector: formatLabelSelector(selector),
  };
}

/** A custom resource says where its numbers are; its selector is text. */
function customScale(paths: ScalePaths, object: ApiObject): Scaled {
  const root = object as unknown as JsonObject;
  const numberAt = (path: JsonPath): number => {
    const value = valueAt(path, root);
    return typeof value === 'number' ? value : 0;
  };
  const selector = paths.selector && valueAt(paths.selector, root);
  return {
    wanted: numberAt(paths.replicas),
    observed: numberAt(paths.observed),
    selector: typeof selector === 'string' ? selector : undefined,
  };
}
