// The columns `kubectl get` prints, by type (pkg/printers/internalversion). A type without an entry has name and age.
import {
  CONFIG_MAP_COLUMNS,
  CRD_COLUMNS,
  EVENT_COLUMNS,
  LEASE_COLUMNS,
  NAMESPACE_COLUMNS,
  NODE_COLUMNS,
  PERSISTENT_VOLUME_CLAIM_COLUMNS,
  PERSISTENT_VOLUME_COLUMNS,
  PRIORITY_CLASS_COLUMNS,
  RESOURCE_QUOTA_COLUMNS,
  ROLE_BINDING_COLUMNS,
  ROLE_COLUMNS,
  RUNTIME_CLASS_COLUMNS,
  SECRET_COLUMNS,
  SERVICE_ACCOUNT_COLUMNS,
  STORAGE_CLASS_COLUMNS,
  VOLUME_ATTACHMENT_COLUMNS,
} from './columns/cluster.ts';
import { AGE, NAME } from './columns/column.ts';
import {
  ENDPOINT_SLICE_COLUMNS,
  ENDPOINTS_COLUMNS,
  INGRESS_CLASS_COLUMNS,
  INGRESS_COLUMNS,
  NETWORK_POLICY_COLUMNS,
  SERVICE_COLUMNS,
} from './columns/network.ts';
import { POD_COLUMNS } from './columns/pod.ts';
import {
  CRON_JOB_COLUMNS,
  DAEMON_SET_COLUMNS,
  DEPLOYMENT_COLUMNS,
  HPA_COLUMNS,
  JOB_COLUMNS,
  PDB_COLUMNS,
  REPLICA_SET_COLUMNS,
  REPLICATION_CONTROLLER_COLUMNS,
  STATEFUL_SET_COLUMNS,
} from './columns/workload.ts';
import type { TableColumn } from './resource-definition.ts';

const COLUMNS: Record<string, readonly TableColumn[]> = {
  'core.v1.ConfigMap': CONFIG_MAP_COLUMNS,
  'core.v1.Endpoints': ENDPOINTS_COLUMNS,
  'core.v1.Event': EVENT_COLUMNS,
  'core.v1.Namespace': NAMESPACE_COLUMNS,
  'core.v1.Node': NODE_COLUMNS,
  'core.v1.PersistentVolume': PERSISTENT_VOLUME_COLUMNS,
  'core.v1.PersistentVolumeClaim': PERSISTENT_VOLUME_CLAIM_COLUMNS,
  'core.v1.Pod': POD_COLUMNS,
  'core.v1.ReplicationController': REPLICATION_CONTROLLER_COLUMNS,
  'core.v1.ResourceQuota': RESOURCE_QUOTA_COLUMNS,
  'core.v1.Secret': SECRET_COLUMNS,
  'core.v1.Service': SERVICE_COLUMNS,
  'core.v1.ServiceAccount': SERVICE_ACCOUNT_COLUMNS,
  'apps.v1.DaemonSet': DAEMON_SET_COLUMNS,
  'apps.v1.Deployment': DEPLOYMENT_COLUMNS,
  'apps.v1.ReplicaSet': REPLICA_SET_COLUMNS,
  'apps.v1.StatefulSet': STATEFUL_SET_COLUMNS,
  'autoscaling.v2.HorizontalPodAutoscaler': HPA_COLUMNS,
  'batch.v1.CronJob': CRON_JOB_COLUMNS,
  'batch.v1.Job': JOB_COLUMNS,
  'coordination.v1.Lease': LEASE_COLUMNS,
  'discovery.v1.EndpointSlice': ENDPOINT_SLICE_COLUMNS,
  'events.v1.Event': EVENT_COLUMNS,
  'networking.v1.Ingress': INGRESS_COLUMNS,
  'networking.v1.IngressClass': INGRESS_CLASS_COLUMNS,
  'networking.v1.NetworkPolicy': NETWORK_POLICY_COLUMNS,
  'node.v1.RuntimeClass': RUNTIME_CLASS_COLUMNS,
  'policy.v1.PodDisruptionBudget': PDB_COLUMNS,
  'rbac.v1.ClusterRole': ROLE_COLUMNS,
  'rbac.v1.ClusterRoleBinding': ROLE_BINDING_COLUMNS,
  'rbac.v1.Role': ROLE_COLUMNS,
  'rbac.v1.RoleBinding': ROLE_BINDING_COLUMNS,
  'scheduling.v1.PriorityClass': PRIORITY_CLASS_COLUMNS,
  'storage.v1.StorageClass': STORAGE_CLASS_COLUMNS,
  'storage.v1.VolumeAttachment': VOLUME_ATTACHMENT_COLUMNS,
  'apiextensions.v1.CustomResourceDefinition': CRD_COLUMNS,
};

const NAME_AND_AGE: readonly TableColumn[] = [NAME, AGE];

export function columnsOf(type: string): readonly TableColumn[] {
  return COLUMNS[type] ?? NAME_AND_AGE;
}
