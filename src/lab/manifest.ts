// Applies a YAML manifest with podwire's own client: create, or merge into what is there.
import { readFileSync } from 'node:fs';
import { parseAllDocuments } from 'yaml';
import { findResourceByKind } from '../api/resources.ts';
import type { KubeObject } from '../api/types.ts';
import type { KubeClient } from '../client/client.ts';
import { hasCode, PodwireError } from '../lib/errors.ts';

/** Throws PodwireError('MANIFEST') with file, document, line and column for anything that is no Kubernetes object. */
export function readManifest(file: string): KubeObject[] {
  return parseAllDocuments(readFileSync(file, 'utf8')).flatMap((document, i) => {
    const where = `${file}, document ${i + 1}`;
    const [error] = document.errors;
    if (error) throw new PodwireError('MANIFEST', `${where}: ${error.message}`);
    const object = document.toJS() as KubeObject | null;
    if (object === null) return [];
    if (!object.apiVersion || !object.kind || !object.metadata?.name)
      throw new PodwireError('MANIFEST', `${where}: apiVersion, kind and metadata.name are required`);
    return [object];
  });
}

/** Creates each object, or merges it into the one there is. */
export async function applyManifest(client: KubeClient, objects: KubeObject[]): Promise<void> {
  for (const object of objects) {
    const resource = findResourceByKind(object.apiVersion!, object.kind!);
    if (!resource)
      throw new PodwireError('MANIFEST', `${object.apiVersion} ${object.kind}: no such kind here`);
    const namespace = resource.namespaced ? (object.metadata?.namespace ?? 'default') : undefined;
    const annotated = withLastApplied(object);
    try {
      await client.create(resource, annotated, namespace);
    } catch (thrown) {
      if (!hasCode(thrown, 'AlreadyExists')) throw thrown;
      await client.patch(resource, object.metadata!.name!, annotated, { namespace, type: 'strategic' });
    }
  }
}

/** As `kubectl apply` leaves it, so that a later `kubectl apply` of the file knows what it may take away. */
function withLastApplied(object: KubeObject): KubeObject {
  const annotations = {
    ...object.metadata?.annotations,
    'kubectl.kubernetes.io/last-applied-configuration': `${JSON.stringify(object)}\n`,
  };
  return { ...object, metadata: { ...object.metadata, annotations } };
}
