// An object out of a request body, checked against what the request's path says: kind, name, namespace, known fields.
import { apiVersionOfResource } from '../../api/resources.ts';
import { badRequest } from '../../api/status.ts';
import type { KubeObject } from '../../api/types.ts';
import type { JsonObject } from '../../lib/json.ts';
import { isJsonObject } from '../../lib/json.ts';
import { decodeObject, mediaType, readBody } from '../http/body.ts';
import type { ApiObject } from '../storage/api-object.ts';
import type { ResourceCall } from './call.ts';

/** The body as an object of the resource's kind. 400 where it contradicts the path or itself. */
export async function readObject(call: ResourceCall): Promise<ApiObject> {
  const body = await decodeObject(await readBody(call.request), mediaType(call.request));
  if (!body) throw badRequest('the body of the request is empty; an object was expected');
  return checkObject(call, body);
}

/** Kind, version, metadata and unknown fields of something that is to become an object of the call's resource. */
export function checkObject(call: ResourceCall, body: JsonObject): ApiObject {
  const { definition, info } = call;
  const apiVersion = apiVersionOfResource(definition);
  body.apiVersion ||= apiVersion;
  body.kind ||= definition.kind;
  if (body.apiVersion !== apiVersion)
    throw badRequest(
      `the API version in the data (${body.apiVersion}) does not match the expected API version (${apiVersion})`,
    );
  if (body.kind !== definition.kind)
    throw badRequest(
      `the kind in the data (${body.kind}) does not match the expected kind (${definition.kind})`,
    );
  body.metadata ??= {};
  if (!isJsonObject(body.metadata)) throw badRequest(`${definition.kind}: metadata: expected an object`);
  checkUnknownFields(call, body);
  call.warnings.push(...definition.warnings(body as KubeObject));
  const { metadata } = body;
  if (definition.namespaced) {
    if (metadata.namespace && info.namespace && metadata.namespace !== info.namespace)
      throw badRequest(
        'the namespace of the provided object does not match the namespace sent on the request',
      );
    if (info.namespace) metadata.namespace = info.namespace;
  } else delete metadata.namespace;
  if (info.name !== '' && info.verb !== 'create') {
    metadata.name ||= info.name;
    if (metadata.name !== info.name)
      throw badRequest(
        `the name of the object (${metadata.name}) does not match the name on the URL (${info.name})`,
      );
  }
  return body as unknown as ApiObject;
}

/** fieldValidation: Strict refuses unknown and mistyped fields, Warn (the default) tells, Ignore does not look. */
export function checkUnknownFields(call: ResourceCall, body: JsonObject): void {
  const mode = call.query.get('fieldValidation') || 'Warn';
  if (!['Ignore', 'Warn', 'Strict'].includes(mode))
    throw badRequest(
      `fieldValidation: Unsupported value: "${mode}": supported values: "Ignore", "Strict", "Warn"`,
    );
  const { version, kind } = call.definition;
  const { unknown, mistyped } = call.definition.checkFields(body);
  if (mistyped.length > 0)
    throw badRequest(
      `${kind} in version "${version}" cannot be handled as a ${kind}: ${mistyped.join(', ')}`,
    );
  if (unknown.length === 0 || mode === 'Ignore') return;
  if (mode === 'Strict')
    throw badRequest(
      `${kind} in version "${version}" cannot be handled as a ${kind}: strict decoding error: ${unknown.join(', ')}`,
    );
  call.warnings.push(...unknown);
}
