// What a write may change, kind by kind (Kubernetes' registry strategies): the status is not the client's to create, a
// status update keeps the spec and the other way round, and metadata.generation counts changes of what is desired.
import { cloneJson, jsonEqual } from '../lib/json.ts';
import { podQosClass } from './pod-qos.ts';
import type { KubeObject, Namespace, Pod } from './types.ts';

export interface Strategy {
  readonly type: string;
  readonly hasStatus: boolean;
  readonly counted: boolean;
  readonly keepStatusAtCreate: boolean;
  /** A status update leaves labels and annotations alone (custom resources). */
  readonly statusKeepsMetadata?: boolean;
}

type Fields = Record<string, unknown>;

/** Types whose status updates leave the labels alone; others (Node, Pod) take metadata with a status update, as agents rely on. */
const STATUS_KEEPS_LABELS = new Set([
  'apps.v1.Deployment',
  'apps.v1.DaemonSet',
  'apps.v1.ReplicaSet',
  'apps.v1.StatefulSet',
  'core.v1.ReplicationController',
]);

function metadataOf(object: KubeObject): Fields {
  object.metadata ??= {};
  return object.metadata as Fields;
}

function setOrDelete(fields: Fields, name: string, value: unknown): void {
  if (value === undefined) delete fields[name];
  else fields[name] = value;
}

export function prepareForCreate(strategy: Strategy, object: KubeObject): void {
  const fields = object as Fields;
  const metadata = metadataOf(object);
  if (!strategy.keepStatusAtCreate) delete fields.status;
  if (strategy.counted) metadata.generation = 1;
  else delete metadata.generation;
  if (strategy.type === 'core.v1.Pod') {
    const pod = object as Pod;
    (fields as { status?: unknown }).status = { phase: 'Pending', qosClass: podQosClass(pod) };
  } else if (strategy.type === 'core.v1.Namespace') {
    const namespace = object as Namespace;
    namespace.spec = { ...namespace.spec };
    if (!namespace.spec.finalizers?.includes('kubernetes'))
      namespace.spec.finalizers = [...(namespace.spec.finalizers ?? []), 'kubernetes'];
    fields.status = { phase: 'Active' };
  } else if (
    strategy.type === 'core.v1.PersistentVolumeClaim' ||
    strategy.type === 'core.v1.PersistentVolume'
  )
    fields.status = { phase: 'Pending' };
  else if (strategy.type === 'core.v1.Service') fields.status = { loadBalancer: {} };
  else if (strategy.type.startsWith('apps.v1.') && strategy.hasStatus)
    fields.status = strategy.type === 'apps.v1.Deployment' ? {} : emptyStatus(strategy.type);
}

/** Status fields that Kubernetes' types require, at zero. */
function emptyStatus(type: string): Fields {
  if (type === 'apps.v1.DaemonSet')
    return { currentNumberScheduled: 0, desiredNumberScheduled: 0, numberMisscheduled: 0, numberReady: 0 };
  return type === 'apps.v1.StatefulSet' ? { replicas: 0, availableReplicas: 0 } : { replicas: 0 };
}

/** Everything but TypeMeta, metadata and, where it is written apart, the status. */
function desiredPart(object: KubeObject, hasStatus = true): Fields {
  const { apiVersion: _v, kind: _k, metadata: _m, status, ...rest } = object as Fields;
  return hasStatus || status === undefined ? rest : { ...rest, status };
}

export function prepareForUpdate(
  strategy: Strategy,
  object: KubeObject,
  old: KubeObject,
  subresource = '',
): void {
  const fields = object as Fields;
  const before = old as Fields;
  const metadata = metadataOf(object);
  const metadataBefore = (old.metadata ?? {}) as Fields;
  setOrDelete(metadata, 'generation', metadataBefore.generation);
  if (subresource === 'status') keepDesired(strategy, fields, before);
  // A binding also sets the condition PodScheduled (registry/core/pod storage, assignPod).
  else if (strategy.hasStatus && subresource !== 'binding')
    setOrDelete(fields, 'status', cloneJson(before.status));
  if (strategy.type === 'core.v1.Namespace' && subresource !== 'finalize' && subresource !== 'status')
    keepNamespaceFinalizers(object as Namespace, old as Namespace);
  if (strategy.type === 'core.v1.Pod' && subresource === '') {
    const pod = object as Pod;
    if (pod.spec && (old as Pod).spec?.ephemeralContainers)
      pod.spec.ephemeralContainers = cloneJson((old as Pod).spec?.ephemeralContainers);
  }
  const generation = (metadataBefore.generation as number | undefined) ?? 0;
  const deleted = metadata.deletionTimestamp !== undefined && metadataBefore.deletionTimestamp === undefined;
  if (
    strategy.counted &&
    (deleted || !jsonEqual(desiredPart(object, strategy.hasStatus), desiredPart(old, strategy.hasStatus)))
  )
    metadata.generation = generation + 1;
}

/** A status update takes over nothing but the status (and for some kinds annotations and labels). */
function keepDesired(strategy: Strategy, fields: Fields, before: Fields): void {
  for (const name of Object.keys(fields))
    if (!['apiVersion', 'kind', 'metadata', 'status'].includes(name) && before[name] === undefined)
      delete fields[name];
  for (const [name, value] of Object.entries(desiredPart(before as KubeObject)))
    fields[name] = cloneJson(value);
  const metadata = fields.metadata as Fields;
  const metadataBefore = (before.metadata ?? {}) as Fields;
  if (strategy.statusKeepsMetadata || STATUS_KEEPS_LABELS.has(strategy.type))
    setOrDelete(metadata, 'labels', cloneJson(metadataBefore.labels));
  if (strategy.statusKeepsMetadata)
    setOrDelete(metadata, 'annotations', cloneJson(metadataBefore.annotations));
  for (const name of ['ownerReferences', 'finalizers'])
    setOrDelete(metadata, name, cloneJson(metadataBefore[name]));
}

function keepNamespaceFinalizers(namespace: Namespace, old: Namespace): void {
  if (old.spec) namespace.spec = { ...namespace.spec, finalizers: cloneJson(old.spec.finalizers) };
}
