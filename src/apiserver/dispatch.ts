// From a resource request to its handler: the registry says whether the resource, subresource and verb exist.
import type { ResourceDefinition } from '../api/resources.ts';
import { badRequest, methodNotAllowed, resourceNotFound } from '../api/status.ts';
import type { ResourceCall, ServerParts } from './handlers/call.ts';
import { serveCreate } from './handlers/create.ts';
import { serveDelete, serveDeleteCollection } from './handlers/delete.ts';
import { serveGet, serveList } from './handlers/list.ts';
import { serveBinding, serveEviction, serveLog } from './handlers/pod-subresources.ts';
import { serveReview } from './handlers/reviews.ts';
import { serveScale } from './handlers/scale.ts';
import { servePatch, serveUpdate } from './handlers/update.ts';
import { serveWatch } from './handlers/watch.ts';
import type { ResourceRequest, Verb } from './http/request-info.ts';
import type { ResourceRegistry } from './registry.ts';

type Handler = (call: ResourceCall, server: ServerParts) => Promise<void>;

const BY_VERB: Record<Verb, Handler> = {
  get: serveGet,
  list: serveList,
  watch: serveWatch,
  create: serveCreate,
  update: serveUpdate,
  patch: servePatch,
  delete: serveDelete,
  deletecollection: serveDeleteCollection,
};

/** Subresources that are more than another door to the same object. */
const BY_SUBRESOURCE: Record<string, Handler> = {
  scale: serveScale,
  binding: serveBinding,
  eviction: serveEviction,
  log: serveLog,
};

/** Subresources that read and write the object itself, in part. */
const VIEWS = new Set(['status', 'finalize', 'ephemeralcontainers']);

/** Subresources that only make sense with an upgrade of the connection. */
export const UPGRADES = new Set(['exec', 'attach', 'portforward']);

export function findDefinition(registry: ResourceRegistry, info: ResourceRequest): ResourceDefinition {
  const definition = registry.find(info.group, info.version, info.resource);
  if (!definition) throw resourceNotFound();
  if (info.subresource !== '' && !definition.subresources.some(each => each.name === info.subresource))
    throw resourceNotFound();
  return definition;
}

export function chooseHandler(definition: ResourceDefinition, info: ResourceRequest): Handler {
  const { verb, subresource, namespace } = info;
  if (subresource !== '') {
    const offered = definition.subresources.find(each => each.name === subresource)?.verbs ?? [];
    if (!offered.includes(verb)) throw methodNotAllowed(definition, verb);
    if (UPGRADES.has(subresource))
      throw badRequest(`Upgrade request required: ${subresource} is a stream, not a document`);
    const handler = BY_SUBRESOURCE[subresource] ?? (VIEWS.has(subresource) ? BY_VERB[verb] : undefined);
    if (!handler) throw methodNotAllowed(definition, `${subresource} ${verb}`);
    return handler;
  }
  if (!definition.verbs.includes(verb)) throw methodNotAllowed(definition, verb);
  if ((verb === 'update' || verb === 'patch') && info.name === '') throw methodNotAllowed(definition, verb);
  if (verb === 'create' && info.name !== '') throw methodNotAllowed(definition, 'post to a named object');
  if (definition.namespaced && namespace === '' && !['list', 'watch'].includes(verb))
    throw badRequest(`${definition.plural} are namespaced: an empty namespace may not be set`);
  if (!definition.namespaced && namespace !== '' && definition.kind !== 'Namespace') throw resourceNotFound();
  if (definition.virtual) return definition.kind === 'Binding' ? serveBinding : serveReview;
  return BY_VERB[verb];
}
