// Validation, by type: everything wrong with an object at once, each with its field path, in Kubernetes' words
// (pkg/apis/*/validation). A type without rules of its own is held to the required scalars of its schema.
import type { StatusCause } from '../lib/errors.ts';
import { isJsonObject, type JsonObject } from '../lib/json.ts';
import { type TypeSchema, typeSchema } from './schema.ts';
import type { KubeObject } from './types.ts';
import {
  validateConfigMap,
  validateCoreEvent,
  validateHorizontalPodAutoscaler,
  validateIngressClass,
  validateLease,
  validateNode,
  validatePersistentVolume,
  validatePersistentVolumeClaim,
  validatePodDisruptionBudget,
  validatePriorityClass,
  validateResourceQuota,
  validateRole,
  validateRoleBinding,
  validateSecret,
} from './validation/cluster.ts';
import { validateCustomResourceDefinition } from './validation/custom-resource-definition.ts';
import { FieldPath } from './validation/field.ts';
import { validateMetadata } from './validation/metadata.ts';
import { validatePod, validatePodTemplate } from './validation/pod.ts';
import { validateEndpointSlice, validateEndpoints, validateService } from './validation/service.ts';
import {
  validateCronJob,
  validateDaemonSet,
  validateDeployment,
  validateJob,
  validateReplicaSet,
  validateReplicationController,
  validateStatefulSet,
} from './validation/workload.ts';

export interface ValidatedKind {
  readonly type: string;
  readonly namespaced: boolean;
  readonly plural: string;
}

type Validate = (object: never, old: never, path: FieldPath, subresource: string) => void;

/** For rules that do not look at the old object. */
function always<T>(validate: (object: T, path: FieldPath) => void): Validate {
  return (object: T, _old: unknown, path: FieldPath) => validate(object, path);
}

const VALIDATE: Record<string, Validate> = {
  'core.v1.Pod': validatePod,
  'core.v1.PodTemplate': always<{ template?: never }>((object, path) =>
    validatePodTemplate(object.template, path.child('template')),
  ),
  'core.v1.Service': validateService,
  'core.v1.Endpoints': always(validateEndpoints),
  'core.v1.Node': validateNode,
  'core.v1.ConfigMap': validateConfigMap,
  'core.v1.Secret': validateSecret,
  'core.v1.Event': always(validateCoreEvent),
  'core.v1.PersistentVolume': always(validatePersistentVolume),
  'core.v1.PersistentVolumeClaim': validatePersistentVolumeClaim,
  'core.v1.ReplicationController': always(validateReplicationController),
  'core.v1.ResourceQuota': always(validateResourceQuota),
  'apps.v1.Deployment': validateDeployment,
  'apps.v1.ReplicaSet': validateReplicaSet,
  'apps.v1.DaemonSet': validateDaemonSet,
  'apps.v1.StatefulSet': validateStatefulSet,
  'apiextensions.v1.CustomResourceDefinition': validateCustomResourceDefinition,
  'autoscaling.v2.HorizontalPodAutoscaler': always(validateHorizontalPodAutoscaler),
  'batch.v1.Job': validateJob,
  'batch.v1.CronJob': always(validateCronJob),
  'coordination.v1.Lease': always(validateLease),
  'discovery.v1.EndpointSlice': validateEndpointSlice,
  'events.v1.Event': () => undefined,
  'networking.v1.IngressClass': validateIngressClass,
  'policy.v1.PodDisruptionBudget': always(validatePodDisruptionBudget),
  'rbac.v1.Role': always(validateRole),
  'rbac.v1.ClusterRole': always(validateRole),
  'rbac.v1.RoleBinding': validateRoleBinding,
  'rbac.v1.ClusterRoleBinding': validateRoleBinding,
  'scheduling.v1.PriorityClass': validatePriorityClass,
};

export function validateObject(
  kind: ValidatedKind,
  object: KubeObject,
  old?: KubeObject,
  subresource = '',
): StatusCause[] {
  const path = new FieldPath();
  validateMetadata(kind, object, old, path.child('metadata'));
  const validate = VALIDATE[kind.type];
  // The status is written by controllers, which are trusted with its content.
  if (subresource === 'status') return path.causes;
  if (validate) validate(object as never, old as never, path, subresource);
  else validateRequired(object as unknown as JsonObject, typeSchema(kind.type), path);
  return path.causes;
}

/** Required scalars and structs of a type; an empty list cannot be told from a missing one in protobuf. */
function validateRequired(object: JsonObject, type: TypeSchema | undefined, path: FieldPath): void {
  for (const field of type?.fields.values() ?? []) {
    if (type?.root && (field.name === 'metadata' || field.name === 'status')) continue;
    const value = object[field.name];
    const at = path.child(field.name);
    if (value === undefined || value === null) {
      if (field.required && field.shape === 'single' && field.element !== 'bool') at.required();
      continue;
    }
    const below = typeSchema(field.element);
    if (!below) continue;
    if (field.shape === 'single' && isJsonObject(value)) validateRequired(value, below, at);
    else if (field.shape === 'list' && Array.isArray(value))
      for (const [index, item] of value.entries())
        if (isJsonObject(item)) validateRequired(item, below, at.index(index));
  }
}
