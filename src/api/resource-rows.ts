// The table of kinds. A new kind is a row here (and where it has some, an entry in the tables of columns, defaults and
// validation). Order within a group version is what discovery shows.
import type { Verb } from './resource-definition.ts';

export interface ResourceRow {
  readonly kind: string;
  /** Default: the kind in lower case with an s. */
  readonly plural?: string;
  readonly short?: readonly string[];
  readonly categories?: readonly string[];
  readonly clusterScoped?: true;
  /** Names from SUBRESOURCES in resources.ts. */
  readonly subresources?: readonly string[];
  readonly verbs?: readonly Verb[];
  /** etcd path below /registry/ where it is not the plural. */
  readonly storage?: string;
  /** metadata.generation counts changes of everything but metadata and status. */
  readonly counted?: true;
  /** A client's status is dropped at creation. Default true where there is a status subresource. */
  readonly keepStatus?: true;
  /** Not stored: the API server answers it. */
  readonly virtual?: true;
}

const ALL = ['all'];
const API_EXTENSIONS = ['api-extensions'];
const CREATE: Verb[] = ['create'];
const STATUS = ['status'];
const SCALABLE = ['status', 'scale'];

/** group/version → its kinds. The order of group versions is discovery's. */
export const RESOURCE_ROWS: Record<string, readonly ResourceRow[]> = {
  v1: [
    { kind: 'Binding', virtual: true, verbs: CREATE },
    { kind: 'ConfigMap', short: ['cm'] },
    { kind: 'Endpoints', plural: 'endpoints', short: ['ep'], storage: 'services/endpoints' },
    { kind: 'Event', short: ['ev'] },
    { kind: 'LimitRange', short: ['limits'] },
    {
      kind: 'Namespace',
      short: ['ns'],
      clusterScoped: true,
      subresources: ['status', 'finalize'],
      verbs: ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch'],
    },
    {
      kind: 'Node',
      short: ['no'],
      clusterScoped: true,
      subresources: ['status', 'proxy:Node'],
      storage: 'minions',
      keepStatus: true,
    },
    { kind: 'PersistentVolumeClaim', short: ['pvc'], subresources: STATUS },
    { kind: 'PersistentVolume', short: ['pv'], clusterScoped: true, subresources: STATUS },
    {
      kind: 'Pod',
      short: ['po'],
      categories: ALL,
      subresources: [
        'attach',
        'binding',
        'ephemeralcontainers',
        'eviction',
        'exec',
        'log',
        'portforward',
        'proxy:Pod',
        'status',
      ],
    },
    { kind: 'PodTemplate', counted: true },
    {
      kind: 'ReplicationController',
      short: ['rc'],
      categories: ALL,
      subresources: SCALABLE,
      storage: 'controllers',
      counted: true,
    },
    { kind: 'ResourceQuota', short: ['quota'], subresources: STATUS },
    { kind: 'Secret' },
    { kind: 'ServiceAccount', short: ['sa'], subresources: ['token'] },
    {
      kind: 'Service',
      short: ['svc'],
      categories: ALL,
      subresources: ['status', 'proxy:Service'],
      storage: 'services/specs',
    },
  ],
  'authentication.k8s.io/v1': [
    { kind: 'SelfSubjectReview', clusterScoped: true, virtual: true, verbs: CREATE },
    { kind: 'TokenReview', clusterScoped: true, virtual: true, verbs: CREATE },
  ],
  'authorization.k8s.io/v1': [
    { kind: 'LocalSubjectAccessReview', virtual: true, verbs: CREATE },
    { kind: 'SelfSubjectAccessReview', clusterScoped: true, virtual: true, verbs: CREATE },
    { kind: 'SelfSubjectRulesReview', clusterScoped: true, virtual: true, verbs: CREATE },
    { kind: 'SubjectAccessReview', clusterScoped: true, virtual: true, verbs: CREATE },
  ],
  'apps/v1': [
    { kind: 'ControllerRevision' },
    { kind: 'DaemonSet', short: ['ds'], categories: ALL, subresources: STATUS, counted: true },
    { kind: 'Deployment', short: ['deploy'], categories: ALL, subresources: SCALABLE, counted: true },
    { kind: 'ReplicaSet', short: ['rs'], categories: ALL, subresources: SCALABLE, counted: true },
    { kind: 'StatefulSet', short: ['sts'], categories: ALL, subresources: SCALABLE, counted: true },
  ],
  'autoscaling/v2': [
    { kind: 'HorizontalPodAutoscaler', short: ['hpa'], categories: ALL, subresources: STATUS },
  ],
  'autoscaling/v1': [
    { kind: 'HorizontalPodAutoscaler', short: ['hpa'], categories: ALL, subresources: STATUS },
  ],
  'batch/v1': [
    { kind: 'CronJob', short: ['cj'], categories: ALL, subresources: STATUS, counted: true },
    { kind: 'Job', categories: ALL, subresources: STATUS, counted: true },
  ],
  'coordination.k8s.io/v1': [{ kind: 'Lease' }],
  'discovery.k8s.io/v1': [{ kind: 'EndpointSlice', counted: true }],
  'events.k8s.io/v1': [{ kind: 'Event', short: ['ev'] }],
  'networking.k8s.io/v1': [
    { kind: 'IngressClass', plural: 'ingressclasses', clusterScoped: true, counted: true },
    {
      kind: 'Ingress',
      plural: 'ingresses',
      short: ['ing'],
      subresources: STATUS,
      storage: 'ingress',
      counted: true,
    },
    { kind: 'NetworkPolicy', plural: 'networkpolicies', short: ['netpol'], counted: true },
  ],
  'node.k8s.io/v1': [{ kind: 'RuntimeClass', plural: 'runtimeclasses', clusterScoped: true }],
  'policy/v1': [{ kind: 'PodDisruptionBudget', short: ['pdb'], subresources: STATUS, counted: true }],
  'rbac.authorization.k8s.io/v1': [
    { kind: 'ClusterRoleBinding', clusterScoped: true },
    { kind: 'ClusterRole', clusterScoped: true },
    { kind: 'RoleBinding' },
    { kind: 'Role' },
  ],
  'scheduling.k8s.io/v1': [
    { kind: 'PriorityClass', plural: 'priorityclasses', short: ['pc'], clusterScoped: true, counted: true },
  ],
  'storage.k8s.io/v1': [
    { kind: 'CSIDriver', clusterScoped: true },
    { kind: 'CSINode', clusterScoped: true },
    { kind: 'CSIStorageCapacity', plural: 'csistoragecapacities' },
    { kind: 'StorageClass', plural: 'storageclasses', short: ['sc'], clusterScoped: true },
    { kind: 'VolumeAttachment', clusterScoped: true, subresources: STATUS },
  ],
  'apiextensions.k8s.io/v1': [
    {
      kind: 'CustomResourceDefinition',
      short: ['crd', 'crds'],
      categories: API_EXTENSIONS,
      clusterScoped: true,
      subresources: STATUS,
      storage: 'apiextensions.k8s.io/customresourcedefinitions',
      counted: true,
    },
  ],
};
