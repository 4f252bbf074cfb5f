// Defaults, by type: what Kubernetes fills in when a field is left out (pkg/apis/*/v1/defaults.go).
import type { CustomResourceDefinition } from 'kubernetes-types/apiextensions/v1.js';
import type { RoleBinding } from 'kubernetes-types/rbac/v1.js';
import type { CSIDriver, StorageClass } from 'kubernetes-types/storage/v1.js';
import {
  defaultEndpointSlice,
  defaultEndpoints,
  defaultNetworkPolicy,
  defaultService,
} from './defaults/network.ts';
import { defaultPod, defaultPodTemplate } from './defaults/pod.ts';
import {
  defaultCronJob,
  defaultDaemonSet,
  defaultDeployment,
  defaultHorizontalPodAutoscaler,
  defaultJob,
  defaultReplicaSet,
  defaultReplicationController,
  defaultStatefulSet,
} from './defaults/workload.ts';
import type {
  KubeObject,
  LimitRange,
  Namespace,
  Node,
  PersistentVolume,
  PersistentVolumeClaim,
  PodTemplateSpec,
  Secret,
} from './types.ts';

/** So that a policy can select a namespace by its name. */
const NAMESPACE_NAME_LABEL = 'kubernetes.io/metadata.name';
const RBAC_GROUP = 'rbac.authorization.k8s.io';

/** stringData is a way to write data, and never stored. */
function defaultSecret(secret: Secret): void {
  secret.type ||= 'Opaque';
  if (!secret.stringData) return;
  secret.data = { ...secret.data };
  for (const [key, text] of Object.entries(secret.stringData))
    secret.data[key] = Buffer.from(text, 'utf8').toString('base64');
  delete secret.stringData;
}

function defaultNamespace(namespace: Namespace): void {
  namespace.metadata ??= {};
  if (namespace.metadata.name)
    namespace.metadata.labels = {
      ...namespace.metadata.labels,
      [NAMESPACE_NAME_LABEL]: namespace.metadata.name,
    };
}

function defaultNode(node: Node): void {
  node.spec ??= {};
  if (node.spec.podCIDR && !node.spec.podCIDRs?.length) node.spec.podCIDRs = [node.spec.podCIDR];
  if (!node.spec.podCIDR && node.spec.podCIDRs?.length) node.spec.podCIDR = node.spec.podCIDRs[0];
}

/** A container limit's default comes from its maximum, its default request from the default, then the minimum. */
function defaultLimitRange({ spec }: LimitRange): void {
  for (const item of spec?.limits ?? []) {
    if (item.type !== 'Container') continue;
    const fallback = { ...item.max, ...item.default };
    if (Object.keys(fallback).length > 0) item.default = fallback;
    const request = { ...item.min, ...item.default, ...item.defaultRequest };
    if (Object.keys(request).length > 0) item.defaultRequest = request;
  }
}

function defaultBinding({ roleRef, subjects }: RoleBinding): void {
  if (roleRef) roleRef.apiGroup ||= RBAC_GROUP;
  for (const subject of subjects ?? [])
    if (subject.kind === 'User' || subject.kind === 'Group') subject.apiGroup ||= RBAC_GROUP;
}

function defaultCsiDriver({ spec }: CSIDriver): void {
  if (!spec) return;
  spec.attachRequired ??= true;
  spec.fsGroupPolicy ??= 'ReadWriteOnceWithFSType';
  spec.podInfoOnMount ??= false;
  spec.requiresRepublish ??= false;
  spec.seLinuxMount ??= false;
  spec.storageCapacity ??= false;
  if (!spec.volumeLifecycleModes?.length) spec.volumeLifecycleModes = ['Persistent'];
}

function defaultCustomResourceDefinition({ spec }: CustomResourceDefinition): void {
  if (!spec?.names) return;
  spec.names.singular ||= spec.names.kind?.toLowerCase();
  spec.names.listKind ||= `${spec.names.kind}List`;
  spec.conversion ??= { strategy: 'None' };
}

const DEFAULTS: Record<string, (object: never) => void> = {
  'core.v1.Pod': defaultPod,
  'core.v1.PodTemplate': (object: { template?: PodTemplateSpec }) => defaultPodTemplate(object.template),
  'core.v1.Service': defaultService,
  'core.v1.Endpoints': defaultEndpoints,
  'core.v1.Secret': defaultSecret,
  'core.v1.Namespace': defaultNamespace,
  'core.v1.Node': defaultNode,
  'core.v1.LimitRange': defaultLimitRange,
  'core.v1.ReplicationController': defaultReplicationController,
  'core.v1.PersistentVolume': ({ spec }: PersistentVolume) => {
    if (!spec) return;
    spec.persistentVolumeReclaimPolicy ||= 'Retain';
    spec.volumeMode ||= 'Filesystem';
  },
  'core.v1.PersistentVolumeClaim': ({ spec }: PersistentVolumeClaim) => {
    if (spec) spec.volumeMode ||= 'Filesystem';
  },
  'apps.v1.Deployment': defaultDeployment,
  'apps.v1.ReplicaSet': defaultReplicaSet,
  'apps.v1.DaemonSet': defaultDaemonSet,
  'apps.v1.StatefulSet': defaultStatefulSet,
  'autoscaling.v2.HorizontalPodAutoscaler': defaultHorizontalPodAutoscaler,
  'batch.v1.Job': defaultJob,
  'batch.v1.CronJob': defaultCronJob,
  'discovery.v1.EndpointSlice': defaultEndpointSlice,
  'networking.v1.NetworkPolicy': defaultNetworkPolicy,
  'rbac.v1.RoleBinding': defaultBinding,
  'rbac.v1.ClusterRoleBinding': defaultBinding,
  'scheduling.v1.PriorityClass': (object: { preemptionPolicy?: string }) => {
    object.preemptionPolicy ??= 'PreemptLowerPriority';
  },
  'storage.v1.CSIDriver': defaultCsiDriver,
  'storage.v1.StorageClass': (object: StorageClass) => {
    object.reclaimPolicy ??= 'Delete';
    object.volumeBindingMode ??= 'Immediate';
  },
  'apiextensions.v1.CustomResourceDefinition': defaultCustomResourceDefinition,
};

/** Fills in the object. Runs before validation: whatever is malformed stays for validation to name. */
export function applyDefaults(type: string, object: KubeObject): void {
  DEFAULTS[type]?.(object as never);
}
