// Changing an object that exists, whoever says how (PUT, a patch, a subresource): compare-and-swap from the newest version,
// what a client may not change kept, defaults, admission, validation, numbers; gone when the last finalizer is.
import type { ResourceDefinition } from '../../api/resources.ts';
import { conflict, invalid } from '../../api/status.ts';
import { jsonEqual } from '../../lib/json.ts';
import type { User } from '../auth/authenticator.ts';
import type { Allocation } from '../services/service-allocator.ts';
import type { ApiObject, ObjectMetadata } from '../storage/api-object.ts';
import { type Change, servedObject } from '../storage/resource-storage.ts';
import type { ServerParts } from './call.ts';

export interface ChangeRequest {
  definition: ResourceDefinition;
  namespace: string;
  name: string;
  subresource: string;
  user: User;
  dryRun: boolean;
  /** A new object made from the old one, which must stay as it is. Called again when somebody else was faster. */
  produce(old: ApiObject): ApiObject | Promise<ApiObject>;
  /** Called with the complete new object before it is compared and written. */
  track?(old: ApiObject, object: ApiObject): void;
}

export async function changeObject(
  server: Pick<ServerParts, 'storage' | 'admission'>,
  request: ChangeRequest,
): Promise<ApiObject> {
  const { definition, namespace, name } = request;
  let numbers: Allocation | undefined;
  let shown: ApiObject | undefined;
  try {
    const { entry, removedAt } = await server.storage.update(definition, namespace, name, async old => {
      numbers?.rollback();
      numbers = undefined;
      const object = await request.produce(old);
      await complete(server, request, old, object);
      numbers = server.admission.allocate(definition, object, old);
      if (numbers && numbers.causes.length > 0) throw invalid(definition, name, numbers.causes);
      const causes = definition.validate(object, old, request.subresource);
      if (causes.length > 0) throw invalid(definition, name, causes);
      if (!jsonEqual(unmanaged(object), unmanaged(old))) request.track?.(old, object);
      else keepFields(object.metadata, old.metadata, ['managedFields']);
      shown = object;
      return decide(definition, request, old, object);
    });
    if (request.dryRun) {
      numbers?.rollback();
      return shown!;
    }
    return removedAt === undefined ? servedObject(definition, entry) : shown!;
  } catch (error) {
    numbers?.rollback();
    throw error;
  }
}

function decide(
  definition: ResourceDefinition,
  request: ChangeRequest,
  old: ApiObject,
  object: ApiObject,
): Change {
  if (request.dryRun) return { keep: true };
  if (isFinished(definition, object)) return { remove: true };
  return jsonEqual(object, old) ? { keep: true } : { write: object };
}

async function complete(
  server: Pick<ServerParts, 'admission'>,
  request: ChangeRequest,
  old: ApiObject,
  object: ApiObject,
): Promise<void> {
  const { definition, name, namespace, subresource, user } = request;
  const { metadata } = object;
  if (metadata.resourceVersion && metadata.resourceVersion !== old.metadata.resourceVersion)
    throw conflict(definition, name);
  if (metadata.uid && metadata.uid !== old.metadata.uid)
    throw conflict(
      definition,
      name,
      `Precondition failed: UID in precondition: ${metadata.uid}, UID in object meta: ${old.metadata.uid}`,
    );
  keepFields(object.metadata, old.metadata, IDENTITY);
  definition.defaults(object);
  definition.prepareUpdate(object, old, subresource);
  await server.admission.admit({
    operation: 'UPDATE',
    definition,
    subresource,
    namespace,
    name,
    user,
    object,
    old,
  });
}

/** What no update changes. */
const IDENTITY = [
  'name',
  'generateName',
  'uid',
  'resourceVersion',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'selfLink',
] as const;

function keepFields(
  metadata: ObjectMetadata,
  old: ObjectMetadata,
  fields: readonly (keyof ObjectMetadata)[],
): void {
  for (const field of fields) {
    if (old[field] === undefined) delete metadata[field];
    else Object.assign(metadata, { [field]: old[field] });
  }
}

/** Deletion was asked for, its time is up and nobody holds the object any more. */
export function isFinished(definition: ResourceDefinition, object: ApiObject): boolean {
  const { deletionTimestamp, deletionGracePeriodSeconds, finalizers } = object.metadata;
  if (deletionTimestamp === undefined || (finalizers?.length ?? 0) > 0) return false;
  if ((deletionGracePeriodSeconds ?? 0) > 0) return false;
  if (definition.group !== '' || definition.kind !== 'Namespace') return true;
  const { spec } = object as { spec?: { finalizers?: string[] } };
  return (spec?.finalizers?.length ?? 0) === 0;
}

function unmanaged(object: ApiObject): ApiObject {
  const { managedFields: _who, ...metadata } = object.metadata;
  return { ...object, metadata };
}
