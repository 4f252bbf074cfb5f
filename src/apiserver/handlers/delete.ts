// DELETE of an object and of a collection: preconditions, grace for pods, finalizers and what becomes of dependents.
// The garbage collector (a controller) acts on the finalizers that are put here.
import type { ResourceDefinition } from '../../api/resources.ts';
import { badRequest, conflict, deletedStatus } from '../../api/status.ts';
import type { Namespace, Pod } from '../../api/types.ts';
import { formatTime } from '../../lib/clock.ts';
import type { StatusCause } from '../../lib/errors.ts';
import { ApiError, hasCode } from '../../lib/errors.ts';
import { isJsonObject } from '../../lib/json.ts';
import type { User } from '../auth/authenticator.ts';
import { decodeObject, mediaType, readBody } from '../http/body.ts';
import { sendJson } from '../http/respond.ts';
import type { ApiObject } from '../storage/api-object.ts';
import { type Change, servedObject } from '../storage/resource-storage.ts';
import { isDryRun, type ResourceCall, type ServerParts, viewOf } from './call.ts';
import { isFinished } from './change.ts';
import { listEntries } from './list.ts';
import { presentList, presentObject } from './presentation.ts';

/** meta/v1 DeleteOptions, as far as they matter. */
export interface DeleteOptions {
  gracePeriodSeconds?: number;
  propagationPolicy?: 'Orphan' | 'Background' | 'Foreground';
  preconditions?: { uid?: string; resourceVersion?: string };
  dryRun: boolean;
}

const ORPHAN_FINALIZER = 'orphan';
const FOREGROUND_FINALIZER = 'foregroundDeletion';
const DEFAULT_POD_GRACE_SECONDS = 30;
/** Deletions of a collection under way at once. */
const COLLECTION_CONCURRENCY = 50;

export async function serveDelete(call: ResourceCall, server: ServerParts): Promise<void> {
  const { definition, info, user, request, response } = call;
  const view = viewOf(call);
  const options = await readDeleteOptions(call);
  const { object, removed } = await deleteObject(
    server,
    definition,
    info.namespace,
    info.name,
    options,
    user,
  );
  // kubectl waits by watching: what matters to it is that the answer is a success.
  const text = removed
    ? JSON.stringify(deletedStatus(definition, info.name, object.metadata.uid ?? ''))
    : presentObject(definition, object, view);
  await sendJson(request, response, 200, text);
}

export async function serveDeleteCollection(call: ResourceCall, server: ServerParts): Promise<void> {
  const { definition, user, request, response } = call;
  const view = viewOf(call);
  const options = await readDeleteOptions(call);
  const { entries, metadata } = await listEntries(call, server);
  for (let at = 0; at < entries.length; at += COLLECTION_CONCURRENCY)
    await Promise.all(
      entries.slice(at, at + COLLECTION_CONCURRENCY).map(async entry => {
        const { namespace = '', name } = servedObject(definition, entry).metadata;
        try {
          await deleteObject(server, definition, namespace, name, options, user);
        } catch (error) {
          if (!hasCode(error, 'NotFound')) throw error;
        }
      }),
    );
  await sendJson(request, response, 200, presentList(definition, entries, view, metadata));
}

export async function deleteObject(
  server: Pick<ServerParts, 'storage' | 'admission'>,
  definition: ResourceDefinition,
  namespace: string,
  name: string,
  options: DeleteOptions,
  user: User,
): Promise<{ object: ApiObject; removed: boolean }> {
  let shown: ApiObject | undefined;
  let removed = false;
  const { entry } = await server.storage.update(definition, namespace, name, async current => {
    checkPreconditions(definition, name, options, current);
    await server.admission.admit({
      operation: 'DELETE',
      definition,
      subresource: '',
      namespace,
      name,
      user,
      object: undefined,
      old: current,
    });
    const object = markDeleted(definition, current, options);
    removed = isFinished(definition, object);
    shown = object;
    if (options.dryRun) return { keep: true } satisfies Change;
    if (removed) return { remove: true } satisfies Change;
    return object === current ? { keep: true } : { write: object };
  });
  return { object: options.dryRun || removed ? shown! : servedObject(definition, entry), removed };
}

/** The object with deletionTimestamp and finalizers as the options ask; the same object if that changes nothing. */
export function markDeleted(
  definition: ResourceDefinition,
  current: ApiObject,
  options: DeleteOptions,
  now = Date.now(),
): ApiObject {
  const grace = graceSeconds(definition, current, options);
  const finalizers = finalizersAfter(current, options);
  const { deletionTimestamp, deletionGracePeriodSeconds = 0 } = current.metadata;
  const sooner = deletionTimestamp === undefined || grace < deletionGracePeriodSeconds;
  const before = current.metadata.finalizers ?? [];
  const sameFinalizers =
    finalizers.length === before.length && finalizers.every(each => before.includes(each));
  if (!sooner && sameFinalizers) return current;
  const object = structuredClone(current);
  const { metadata } = object;
  if (finalizers.length > 0) metadata.finalizers = finalizers;
  else delete metadata.finalizers;
  if (sooner) {
    metadata.deletionTimestamp = formatTime(now + grace * 1000);
    metadata.deletionGracePeriodSeconds = grace;
    if (metadata.generation !== undefined && deletionTimestamp === undefined) metadata.generation += 1;
    if (definition.group === '' && definition.kind === 'Namespace') {
      const namespace = object as Namespace;
      object.status = { ...namespace.status, phase: 'Terminating' };
    }
  }
  return object;
}

/** Only pods stop in their own time, and only where a kubelet has them (registry/core/pod CheckGracefulDelete). */
function graceSeconds(definition: ResourceDefinition, current: ApiObject, options: DeleteOptions): number {
  if (definition.group !== '' || definition.kind !== 'Pod') return 0;
  const pod = current as Pod;
  const asked =
    options.gracePeriodSeconds ?? pod.spec?.terminationGracePeriodSeconds ?? DEFAULT_POD_GRACE_SECONDS;
  if (!pod.spec?.nodeName || pod.status?.phase === 'Failed' || pod.status?.phase === 'Succeeded') return 0;
  return Math.max(0, asked);
}

/** registry/generic deletionFinalizersForGarbageCollection. */
function finalizersAfter(current: ApiObject, options: DeleteOptions): string[] {
  const before = current.metadata.finalizers ?? [];
  if (options.propagationPolicy === undefined) return before;
  const kept = before.filter(each => each !== ORPHAN_FINALIZER && each !== FOREGROUND_FINALIZER);
  if (options.propagationPolicy === 'Orphan') kept.push(ORPHAN_FINALIZER);
  if (options.propagationPolicy === 'Foreground') kept.push(FOREGROUND_FINALIZER);
  return kept;
}

function checkPreconditions(
  definition: ResourceDefinition,
  name: string,
  options: DeleteOptions,
  current: ApiObject,
): void {
  const { uid, resourceVersion } = options.preconditions ?? {};
  if (uid && uid !== current.metadata.uid)
    throw conflict(
      definition,
      name,
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${current.metadata.uid}`,
    );
  if (resourceVersion && resourceVersion !== current.metadata.resourceVersion)
    throw conflict(
      definition,
      name,
      `Precondition failed: ResourceVersion in precondition: ${resourceVersion}, ResourceVersion in object meta: ${current.metadata.resourceVersion}`,
    );
}

async function readDeleteOptions(call: ResourceCall): Promise<DeleteOptions> {
  const body = (await decodeObject(await readBody(call.request), mediaType(call.request))) ?? {};
  if (body.kind !== undefined && body.kind !== 'DeleteOptions')
    throw badRequest(`the body of a delete must be DeleteOptions, not ${String(body.kind)}`);
  return parseDeleteOptions(body, call.query);
}

/** The body's options; the query's where the body has none. */
export function parseDeleteOptions(body: Record<string, unknown>, query: URLSearchParams): DeleteOptions {
  const grace = body.gracePeriodSeconds ?? query.get('gracePeriodSeconds') ?? undefined;
  const orphan = body.orphanDependents ?? query.get('orphanDependents') ?? undefined;
  let policy = body.propagationPolicy ?? query.get('propagationPolicy') ?? undefined;
  if (policy === '') policy = undefined;
  const causes: StatusCause[] = [];
  if (policy !== undefined && orphan !== undefined && orphan !== '')
    throw badRequest('orphanDependents and propagationPolicy cannot be both set');
  if (orphan === true || orphan === 'true') policy = 'Orphan';
  else if (orphan === false || orphan === 'false') policy = 'Background';
  if (policy !== undefined && !['Orphan', 'Background', 'Foreground'].includes(String(policy)))
    causes.push({
      reason: 'FieldValueNotSupported',
      field: 'propagationPolicy',
      message: `Unsupported value: ${JSON.stringify(policy)}: supported values: "Foreground", "Background", "Orphan"`,
    });
  const seconds = grace === undefined || grace === '' ? undefined : Number(grace);
  if (seconds !== undefined && !Number.isInteger(seconds))
    throw badRequest(`gracePeriodSeconds: expected a whole number, got ${JSON.stringify(grace)}`);
  if (causes.length > 0)
    throw new ApiError(
      422,
      'Invalid',
      `DeleteOptions "" is invalid: ${causes[0]!.field}: ${causes[0]!.message}`,
      {
        causes,
      },
    );
  const dryRuns = Array.isArray(body.dryRun) ? body.dryRun : [];
  const preconditions = isJsonObject(body.preconditions)
    ? (body.preconditions as DeleteOptions['preconditions'])
    : undefined;
  return {
    ...(seconds === undefined ? {} : { gracePeriodSeconds: seconds }),
    ...(policy === undefined ? {} : { propagationPolicy: policy as DeleteOptions['propagationPolicy'] }),
    ...(preconditions ? { preconditions } : {}),
    dryRun: dryRuns.includes('All') || isDryRun(query),
  };
}
