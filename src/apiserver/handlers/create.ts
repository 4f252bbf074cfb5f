// POST to a collection: name, identity, defaults, admission, validation, numbers, store.
import { randomUUID } from 'node:crypto';
import { generateName } from '../../api/names.ts';
import { apiVersionOfResource, type ResourceDefinition } from '../../api/resources.ts';
import { badRequest, invalid } from '../../api/status.ts';
import { formatTime } from '../../lib/clock.ts';
import { hasCode } from '../../lib/errors.ts';
import type { User } from '../auth/authenticator.ts';
import { addWarnings, sendJson } from '../http/respond.ts';
import type { ApiObject } from '../storage/api-object.ts';
import { servedObject } from '../storage/resource-storage.ts';
import { isDryRun, type ResourceCall, type ServerParts, viewOf } from './call.ts';
import { trackCreate } from './field-managers.ts';
import { readObject } from './incoming.ts';
import { presentObject } from './presentation.ts';

/** A random suffix of five letters collides now and then among thousands of names. */
const GENERATE_ATTEMPTS = 8;

export async function serveCreate(call: ResourceCall, server: ServerParts): Promise<void> {
  const view = viewOf(call);
  const dryRun = isDryRun(call.query);
  const object = await readObject(call);
  trackCreate(call, object);
  const created = await createObject(server, call.definition, object, call.user, dryRun);
  addWarnings(call.response, call.warnings);
  await sendJson(call.request, call.response, 201, presentObject(call.definition, created, view));
}

/** Creates what a body (or a component of the server itself) asks for; answers with it as stored. */
export async function createObject(
  server: Pick<ServerParts, 'storage' | 'admission'>,
  definition: ResourceDefinition,
  object: ApiObject,
  user: User,
  dryRun = false,
): Promise<ApiObject> {
  const { metadata } = object;
  if (metadata.resourceVersion)
    throw badRequest('resourceVersion should not be set on objects to be created');
  const generated = !metadata.name && metadata.generateName ? metadata.generateName : undefined;
  identify(definition, object);
  for (let attempt = 1; ; attempt++) {
    if (generated !== undefined) metadata.name = generateName(generated);
    try {
      return await createNamed(
        server,
        definition,
        generated === undefined ? object : structuredClone(object),
        user,
        dryRun,
      );
    } catch (error) {
      if (generated === undefined || attempt >= GENERATE_ATTEMPTS || !hasCode(error, 'AlreadyExists'))
        throw error;
    }
  }
}

async function createNamed(
  server: Pick<ServerParts, 'storage' | 'admission'>,
  definition: ResourceDefinition,
  object: ApiObject,
  user: User,
  dryRun: boolean,
): Promise<ApiObject> {
  const { namespace = '', name = '' } = object.metadata;
  definition.defaults(object);
  definition.prepareCreate(object);
  await server.admission.admit({
    operation: 'CREATE',
    definition,
    subresource: '',
    namespace,
    name,
    user,
    object,
    old: undefined,
  });
  const causes = definition.validate(object);
  if (causes.length > 0) throw invalid(definition, name, causes);
  const numbers = server.admission.allocate(definition, object);
  if (numbers && numbers.causes.length > 0) throw invalid(definition, name, numbers.causes);
  if (dryRun) {
    numbers?.rollback();
    return object;
  }
  try {
    return servedObject(definition, await server.storage.create(definition, object));
  } catch (error) {
    numbers?.rollback();
    throw error;
  }
}

/** What the server alone says about a new object. */
function identify(definition: ResourceDefinition, object: ApiObject): void {
  object.apiVersion = apiVersionOfResource(definition);
  object.kind = definition.kind;
  const { metadata } = object;
  metadata.uid = randomUUID();
  metadata.creationTimestamp = formatTime(Date.now());
  delete metadata.deletionTimestamp;
  delete metadata.deletionGracePeriodSeconds;
  delete metadata.selfLink;
}
