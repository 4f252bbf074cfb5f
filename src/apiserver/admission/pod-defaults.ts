// What upstream's plugins Priority, ServiceAccount and DefaultTolerationSeconds add to a new Pod. There are no token
// volumes yet: a pod gets the account's name and nothing to mount.
import { findResource } from '../../api/resources.ts';
import { forbidden } from '../../api/status.ts';
import type { Toleration } from '../../api/types.ts';
import type { ApiObject } from '../storage/api-object.ts';
import { decodeEntry } from '../storage/object-codec.ts';
import type { ResourceStorage } from '../storage/resource-storage.ts';
import type { AdmissionRequest } from './admission.ts';

/** DefaultTolerationSeconds' flags: a pod stays five minutes on a node that is lost. */
const TOLERATION_SECONDS = 300;
const LOST_TAINTS = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'];

/** scheduling/v1 classes every cluster has. */
const SYSTEM_PRIORITIES: Record<string, number> = {
  'system-cluster-critical': 2_000_000_000,
  'system-node-critical': 2_000_001_000,
};

interface PodSpecFields {
  tolerations?: Toleration[];
  priorityClassName?: string;
  priority?: number;
  preemptionPolicy?: string;
  serviceAccountName?: string;
  serviceAccount?: string;
}

export async function completePod(request: AdmissionRequest, storage: ResourceStorage): Promise<void> {
  const { definition, operation, object, subresource } = request;
  if (definition.group !== '' || definition.kind !== 'Pod') return;
  if (operation !== 'CREATE' || subresource !== '' || !object) return;
  const spec = object.spec as PodSpecFields | undefined;
  if (!spec) return;
  spec.serviceAccountName ||= spec.serviceAccount || 'default';
  spec.serviceAccount = spec.serviceAccountName;
  await addPriority(request, spec, storage);
  addTolerations(spec);
}

function addTolerations(spec: PodSpecFields): void {
  const tolerations = spec.tolerations ?? [];
  const covers = (taint: string, toleration: Toleration): boolean =>
    (!toleration.key || toleration.key === taint) &&
    (!toleration.effect || toleration.effect === 'NoExecute');
  for (const key of LOST_TAINTS)
    if (!tolerations.some(toleration => covers(key, toleration)))
      tolerations.push({
        key,
        operator: 'Exists',
        effect: 'NoExecute',
        tolerationSeconds: TOLERATION_SECONDS,
      });
  spec.tolerations = tolerations;
}

async function addPriority(
  request: AdmissionRequest,
  spec: PodSpecFields,
  storage: ResourceStorage,
): Promise<void> {
  const name = spec.priorityClassName;
  const found = name ? await priorityClass(name, storage) : await defaultPriorityClass(storage);
  if (name && !found)
    throw forbidden(
      request.definition,
      request.object?.metadata.name ?? '',
      `no PriorityClass with name ${name} was found`,
    );
  if (found && !name) spec.priorityClassName = found.name;
  spec.priority = found?.value ?? 0;
  spec.preemptionPolicy ??= found?.preemptionPolicy ?? 'PreemptLowerPriority';
}

interface Priority {
  name: string;
  value: number;
  preemptionPolicy?: string;
}

function readClass(object: ApiObject): Priority {
  return {
    name: object.metadata.name,
    value: Number(object.value ?? 0),
    ...(typeof object.preemptionPolicy === 'string' ? { preemptionPolicy: object.preemptionPolicy } : {}),
  };
}

async function priorityClass(name: string, storage: ResourceStorage): Promise<Priority | undefined> {
  const system = SYSTEM_PRIORITIES[name];
  if (system !== undefined) return { name, value: system };
  const definition = findResource('scheduling.k8s.io', 'v1', 'priorityclasses');
  const entry = definition && (await storage.find(definition, '', name));
  return entry && readClass(decodeEntry(entry));
}

async function defaultPriorityClass(storage: ResourceStorage): Promise<Priority | undefined> {
  const definition = findResource('scheduling.k8s.io', 'v1', 'priorityclasses');
  if (!definition) return undefined;
  const { entries } = await storage.list(definition, '');
  const found = entries.map(decodeEntry).find(object => object.globalDefault === true);
  return found && readClass(found);
}
