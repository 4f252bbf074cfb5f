// The Kubernetes object types podwire works with. Types only: they come from kubernetes-types (generated from the
// published OpenAPI document), so that a field exists here if and only if it exists in Kubernetes.

export type {
  DaemonSet,
  Deployment,
  DeploymentStatus,
  ReplicaSet,
  StatefulSet,
} from 'kubernetes-types/apps/v1.js';
export type { CronJob, Job } from 'kubernetes-types/batch/v1.js';
export type { Lease } from 'kubernetes-types/coordination/v1.js';
export type {
  Binding,
  ConfigMap,
  Container,
  ContainerState,
  ContainerStatus,
  EndpointAddress,
  EndpointPort as CoreEndpointPort,
  EndpointSubset,
  Endpoints,
  EnvVar,
  Event as CoreEvent,
  LimitRange,
  Namespace,
  Node,
  NodeAddress,
  NodeCondition,
  NodeSpec,
  NodeStatus,
  ObjectReference,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  PodCondition,
  PodIP,
  PodSpec,
  PodStatus,
  PodTemplateSpec,
  Probe,
  ReplicationController,
  ResourceQuota,
  ResourceRequirements,
  Secret,
  Service,
  ServiceAccount,
  ServicePort,
  ServiceSpec,
  Taint,
  Toleration,
  Volume,
  VolumeMount,
} from 'kubernetes-types/core/v1.js';
export type {
  Endpoint,
  EndpointConditions,
  EndpointPort,
  EndpointSlice,
} from 'kubernetes-types/discovery/v1.js';
export type {
  LabelSelector,
  ListMeta,
  ObjectMeta,
  OwnerReference,
  Status,
} from 'kubernetes-types/meta/v1.js';

import type { ObjectMeta } from 'kubernetes-types/meta/v1.js';

/** What every object has before it is stored. */
export interface KubeObject {
  apiVersion?: string;
  kind?: string;
  metadata?: ObjectMeta;
}

/** An object as the API server gives it out: named, identified, versioned. */
export type Stored<T extends KubeObject> = T & {
  metadata: ObjectMeta & { name: string; uid: string; resourceVersion: string };
};

/** A list as the API server gives it out. */
export interface KubeList<T extends KubeObject> {
  apiVersion: string;
  kind: string;
  metadata: { resourceVersion: string; continue?: string; remainingItemCount?: number };
  items: Stored<T>[];
}

/** Where a kind lives: `/apis/<group>/<version>/namespaces/<ns>/<plural>`, or `/api/v1/...` for the empty group. */
export interface ResourceRef {
  group: string;
  version: string;
  plural: string;
  namespaced: boolean;
}
