// Who controls what: owner references, adoption of orphans that match, release of what no longer matches.
// Source: k8s.io/kubernetes pkg/controller/controller_ref_manager.go.
import { matchesLabelSelector, type ParsedLabelSelector } from '../api/selectors.ts';
import type { KubeObject, OwnerReference, Stored } from '../api/types.ts';
import type { KubeClient } from '../client/client.ts';
import type { Informer } from '../client/informer.ts';
import { keyOf, type TypedRef } from '../client/resources.ts';
import { isNotFound } from '../client/status.ts';
import { ApiError } from '../lib/errors.ts';

export function controllerOf(object: KubeObject): OwnerReference | undefined {
  return object.metadata?.ownerReferences?.find(owner => owner.controller === true);
}

/** The reference by which `owner` controls what it makes. */
export function controllerReference(owner: Stored<KubeObject>): OwnerReference {
  return {
    apiVersion: owner.apiVersion ?? '',
    kind: owner.kind ?? '',
    name: owner.metadata.name,
    uid: owner.metadata.uid,
    controller: true,
    blockOwnerDeletion: true,
  };
}

const INDEX = 'controller';

/** Makes `controlledBy` and `orphansIn` possible on this informer. */
export function indexByController<T extends KubeObject>(informer: Informer<T>): void {
  informer.addIndex(INDEX, object => {
    const owner = controllerOf(object);
    return [owner ? owner.uid : `orphans ${object.metadata.namespace}`];
  });
}

export function controlledBy<T extends KubeObject>(informer: Informer<T>, uid: string): Stored<T>[] {
  return informer.byIndex(INDEX, uid);
}

export function orphansIn<T extends KubeObject>(informer: Informer<T>, namespace: string): Stored<T>[] {
  return informer.byIndex(INDEX, `orphans ${namespace}`);
}

export interface ClaimOptions<T extends KubeObject> {
  client: KubeClient;
  ref: TypedRef<T>;
  ownerRef: TypedRef<KubeObject>;
  owner: Stored<KubeObject>;
  selector: ParsedLabelSelector;
  informer: Informer<T>;
}

/** The objects `owner` controls: its own that match, and matching orphans, which it adopts. Others it releases. */
export async function claim<T extends KubeObject>(options: ClaimOptions<T>): Promise<Stored<T>[]> {
  const { client, ref, ownerRef, owner, selector, informer } = options;
  const namespace = owner.metadata.namespace ?? '';
  const claimed: Stored<T>[] = [];
  for (const object of controlledBy(informer, owner.metadata.uid)) {
    if (matchesLabelSelector(selector, object.metadata.labels)) claimed.push(object);
    else if (!owner.metadata.deletionTimestamp) await release(client, ref, object, owner.metadata.uid);
  }
  if (owner.metadata.deletionTimestamp) return claimed;
  const orphans = orphansIn(informer, namespace).filter(
    object => !object.metadata.deletionTimestamp && matchesLabelSelector(selector, object.metadata.labels),
  );
  if (orphans.length === 0) return claimed;
  // The copy may lag: an owner deleted and made again under the same name must not adopt in the old one's name.
  const fresh = await client.get(ownerRef, owner.metadata.name, namespace);
  if (fresh.metadata.uid !== owner.metadata.uid || fresh.metadata.deletionTimestamp)
    throw new ApiError(409, 'Conflict', `adopt for ${keyOf(owner)}: it is gone or being deleted`);
  for (const object of orphans) {
    const adopted = await adopt(client, ref, object, owner);
    if (adopted) claimed.push(adopted);
  }
  return claimed;
}

async function adopt<T extends KubeObject>(
  client: KubeClient,
  ref: TypedRef<T>,
  object: Stored<T>,
  owner: Stored<KubeObject>,
): Promise<Stored<T> | undefined> {
  const { name, namespace, resourceVersion, ownerReferences = [] } = object.metadata;
  const patch = {
    metadata: { resourceVersion, ownerReferences: [...ownerReferences, controllerReference(owner)] },
  };
  try {
    return await client.patch(ref, name, patch, { type: 'merge', namespace });
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

async function release<T extends KubeObject>(
  client: KubeClient,
  ref: TypedRef<T>,
  object: Stored<T>,
  ownerUid: string,
): Promise<void> {
  const { name, namespace, resourceVersion, ownerReferences = [] } = object.metadata;
  const rest = ownerReferences.filter(owner => owner.uid !== ownerUid);
  const patch = { metadata: { resourceVersion, ownerReferences: rest.length > 0 ? rest : null } };
  try {
    await client.patch(ref, name, patch, { type: 'merge', namespace });
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}
