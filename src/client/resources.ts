// The resources podwire's own components use, each with the type of its objects.
// A ref is plain data: `{ group: 'example.com', version: 'v1', plural: 'things', namespaced: true }` works as well.
import type {
  Binding,
  ConfigMap,
  CoreEvent,
  CronJob,
  DaemonSet,
  Deployment,
  EndpointSlice,
  Endpoints,
  Job,
  KubeObject,
  Lease,
  Namespace,
  Node,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  ReplicaSet,
  ReplicationController,
  ResourceRef,
  Secret,
  Service,
  ServiceAccount,
  StatefulSet,
} from '../api/types.ts';

/** A ResourceRef that knows the kind and the type of its objects. */
export interface TypedRef<T extends KubeObject> extends ResourceRef {
  readonly kind?: string;
  /** Never present: it carries the type only. */
  readonly object?: T;
}

function ref<T extends KubeObject>(
  groupVersion: string,
  plural: string,
  kind: string,
  namespaced = true,
): TypedRef<T> {
  const [group, version] = groupVersion.includes('/') ? groupVersion.split('/') : ['', groupVersion];
  return Object.freeze({ group: group as string, version: version as string, plural, kind, namespaced });
}

export const RESOURCE = Object.freeze({
  bindings: ref<Binding>('v1', 'bindings', 'Binding'),
  configMaps: ref<ConfigMap>('v1', 'configmaps', 'ConfigMap'),
  endpoints: ref<Endpoints>('v1', 'endpoints', 'Endpoints'),
  events: ref<CoreEvent>('v1', 'events', 'Event'),
  namespaces: ref<Namespace>('v1', 'namespaces', 'Namespace', false),
  nodes: ref<Node>('v1', 'nodes', 'Node', false),
  persistentVolumeClaims: ref<PersistentVolumeClaim>('v1', 'persistentvolumeclaims', 'PersistentVolumeClaim'),
  persistentVolumes: ref<PersistentVolume>('v1', 'persistentvolumes', 'PersistentVolume', false),
  pods: ref<Pod>('v1', 'pods', 'Pod'),
  replicationControllers: ref<ReplicationController>('v1', 'replicationcontrollers', 'ReplicationController'),
  secrets: ref<Secret>('v1', 'secrets', 'Secret'),
  serviceAccounts: ref<ServiceAccount>('v1', 'serviceaccounts', 'ServiceAccount'),
  services: ref<Service>('v1', 'services', 'Service'),
  daemonSets: ref<DaemonSet>('apps/v1', 'daemonsets', 'DaemonSet'),
  deployments: ref<Deployment>('apps/v1', 'deployments', 'Deployment'),
  replicaSets: ref<ReplicaSet>('apps/v1', 'replicasets', 'ReplicaSet'),
  statefulSets: ref<StatefulSet>('apps/v1', 'statefulsets', 'StatefulSet'),
  cronJobs: ref<CronJob>('batch/v1', 'cronjobs', 'CronJob'),
  jobs: ref<Job>('batch/v1', 'jobs', 'Job'),
  leases: ref<Lease>('coordination.k8s.io/v1', 'leases', 'Lease'),
  endpointSlices: ref<EndpointSlice>('discovery.k8s.io/v1', 'endpointslices', 'EndpointSlice'),
});

/** `v1`, `apps/v1`. */
export function groupVersionOf(resource: ResourceRef): string {
  return resource.group === '' ? resource.version : `${resource.group}/${resource.version}`;
}

/** `/api/v1/namespaces/<ns>/pods/<name>/<subresource>`; without a namespace, the collection of all namespaces. */
export function resourcePath(
  resource: ResourceRef,
  where: { namespace?: string; name?: string; subresource?: string } = {},
): string {
  const root = resource.group === '' ? `/api/${resource.version}` : `/apis/${groupVersionOf(resource)}`;
  let path = root;
  if (resource.namespaced && where.namespace) path += `/namespaces/${encodeURIComponent(where.namespace)}`;
  path += `/${resource.plural}`;
  if (where.name) path += `/${encodeURIComponent(where.name)}`;
  if (where.subresource) path += `/${where.subresource}`;
  return path;
}

/** `namespace/name`, or `name` for objects of the cluster: the key of caches and queues. */
export function keyOf(object: KubeObject): string {
  const name = object.metadata?.name ?? '';
  const namespace = object.metadata?.namespace;
  return namespace ? `${namespace}/${name}` : name;
}

/** The reverse of keyOf. */
export function splitKey(key: string): { namespace: string | undefined; name: string } {
  const slash = key.indexOf('/');
  return slash < 0
    ? { namespace: undefined, name: key }
    : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}
