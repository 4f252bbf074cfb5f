// NamespaceLifecycle: objects are only made in namespaces that exist and are not going away; the system's own namespaces
// cannot be deleted.
import { resourceOf } from '../../api/resources.ts';
import { forbidden, notFound } from '../../api/status.ts';
import type { Namespace } from '../../api/types.ts';
import { decodeEntry } from '../storage/object-codec.ts';
import type { ResourceStorage } from '../storage/resource-storage.ts';
import type { AdmissionRequest } from './admission.ts';

/** So that selectors can name a namespace (KEP-2161). */
const NAME_LABEL = 'kubernetes.io/metadata.name';
const IMMORTAL = new Set(['default', 'kube-system', 'kube-public']);

export async function checkNamespace(request: AdmissionRequest, storage: ResourceStorage): Promise<void> {
  const { definition, operation, namespace, name } = request;
  if (definition.group === '' && definition.kind === 'Namespace') {
    if (operation === 'DELETE' && IMMORTAL.has(name))
      throw forbidden(definition, name, 'this namespace may not be deleted');
    const metadata = request.object?.metadata;
    if (metadata) metadata.labels = { ...metadata.labels, [NAME_LABEL]: metadata.name };
    return;
  }
  if (!definition.namespaced || operation !== 'CREATE' || definition.virtual) return;
  const namespaces = resourceOf('v1', 'Namespace');
  // The newest accepted state: a namespace made a moment ago by the same client may not be on disk yet.
  const entry = await storage.store.getForUpdate(namespaces.storageKey('', namespace));
  if (!entry) throw notFound(namespaces, namespace);
  const found = decodeEntry(entry) as Namespace;
  if (found.metadata?.deletionTimestamp === undefined) return;
  const refusal = forbidden(
    definition,
    request.object?.metadata.name ?? name,
    `unable to create new content in namespace ${namespace} because it is being terminated`,
  );
  refusal.details?.causes?.push({ reason: 'NamespaceTerminating', field: 'metadata.namespace' });
  throw refusal;
}
