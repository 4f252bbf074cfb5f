// What a node may do (Kubernetes' Node authorizer, KEP-279): a kubelet writes its own Node and the pods bound to it, and
// reads the secrets and config maps those pods name, so that a broken-in node gives away no more than what runs on it.
// Two deviations: a podwire node agent holds kubelet, proxy and overlay, so it also reads Services and endpoints; and it is
// what calico-node is elsewhere, so it reads Calico's resources and writes those that IPAM keeps (ClusterRole calico-node).
import type { Pod } from '../../api/types.ts';
import type { User } from './authenticator.ts';
import type { ResourceAttributes } from './roles.ts';

const NODES_GROUP = 'system:nodes';
const NODE_USER_PREFIX = 'system:node:';
const READ = new Set(['get', 'list', 'watch']);
const WRITE_STATUS = new Set(['update', 'patch']);

/** `group/resource` that every node may get, list and watch. */
const READABLE = new Set([
  '/nodes',
  '/pods',
  '/services',
  '/endpoints',
  '/namespaces',
  'discovery.k8s.io/endpointslices',
  'node.k8s.io/runtimeclasses',
  'storage.k8s.io/csidrivers',
  'storage.k8s.io/volumeattachments',
  'networking.k8s.io/servicecidrs',
]);

const CALICO_GROUP = 'crd.projectcalico.org';
/** What a node allocates addresses in, and reports its sessions by. */
const CALICO_WRITABLE = new Set(['ipamblocks', 'ipamhandles', 'blockaffinities', 'caliconodestatuses']);
const WRITE = new Set(['create', 'update', 'patch', 'delete']);

/** The name of the node this user is; undefined for anybody else. */
export function nodeNameOf(user: User): string | undefined {
  if (!user.groups.includes(NODES_GROUP) || !user.name.startsWith(NODE_USER_PREFIX)) return undefined;
  return user.name.slice(NODE_USER_PREFIX.length) || undefined;
}

/** What the authorizer looks up: the pods of the moment. */
export interface PodLookup {
  pod(namespace: string, name: string): Promise<Pod | undefined>;
  podsOfNode(nodeName: string): Promise<readonly Pod[]>;
  /** Names of the secrets with passwords of BGP sessions. */
  peeringSecrets(): Promise<ReadonlySet<string>>;
}

export async function nodeMay(node: string, asked: ResourceAttributes, pods: PodLookup): Promise<boolean> {
  const { verb, name, namespace } = asked;
  const resource = `${asked.group}/${asked.resource}`;
  if (READ.has(verb) && (READABLE.has(resource) || asked.group === CALICO_GROUP)) return true;
  if (asked.group === CALICO_GROUP)
    return WRITE.has(verb) && CALICO_WRITABLE.has(asked.resource.replace(/\/status$/, ''));
  switch (resource) {
    case '/nodes':
      // The name of a Node being created is in the body: admission compares it (node-restriction.ts).
      return verb === 'create' || (['update', 'patch', 'delete'].includes(verb) && name === node);
    case '/nodes/status':
      return (WRITE_STATUS.has(verb) || verb === 'get') && name === node;
    case '/pods/status':
      return WRITE_STATUS.has(verb) && (await isBound(pods, namespace, name, node));
    case '/pods':
      return verb === 'delete' && (await isBound(pods, namespace, name, node));
    case '/events':
    case 'events.k8s.io/events':
      return verb === 'create' || WRITE_STATUS.has(verb);
    case 'coordination.k8s.io/leases':
      return namespace === 'kube-node-lease' && (verb === 'create' || (name === node && verb !== 'list'));
    case '/secrets':
      if (verb === 'get' && namespace === 'kube-system' && (await pods.peeringSecrets()).has(name))
        return true;
      return READ.has(verb) && name !== '' && (await isReferenced(pods, node, asked));
    case '/configmaps':
    case '/persistentvolumeclaims':
      return READ.has(verb) && name !== '' && (await isReferenced(pods, node, asked));
    case '/serviceaccounts/token':
      return verb === 'create' && (await isReferenced(pods, node, { ...asked, resource: 'serviceaccounts' }));
    default:
      return false;
  }
}

async function isBound(pods: PodLookup, namespace: string, name: string, node: string): Promise<boolean> {
  const pod = await pods.pod(namespace, name);
  // A pod that is gone reads as "not found" to its old node, not as "forbidden".
  return pod === undefined || pod.spec?.nodeName === node;
}

async function isReferenced(pods: PodLookup, node: string, asked: ResourceAttributes): Promise<boolean> {
  const bound = await pods.podsOfNode(node);
  return bound.some(
    pod =>
      pod.metadata?.namespace === asked.namespace &&
      references(pod).has(`${asked.resource.split('/')[0]}/${asked.name}`),
  );
}

/** `secrets/x`, `configmaps/y`, … named by a pod's spec. */
export function references(pod: Pod): Set<string> {
  const found = new Set<string>();
  const add = (resource: string, name: string | undefined) => {
    if (name) found.add(`${resource}/${name}`);
  };
  const spec = pod.spec;
  if (!spec) return found;
  add('serviceaccounts', spec.serviceAccountName);
  for (const secret of spec.imagePullSecrets ?? []) add('secrets', secret.name);
  for (const volume of spec.volumes ?? []) {
    add('secrets', volume.secret?.secretName);
    add('configmaps', volume.configMap?.name);
    add('persistentvolumeclaims', volume.persistentVolumeClaim?.claimName);
    for (const source of volume.projected?.sources ?? []) {
      add('secrets', source.secret?.name);
      add('configmaps', source.configMap?.name);
    }
  }
  for (const container of [
    ...(spec.initContainers ?? []),
    ...spec.containers,
    ...(spec.ephemeralContainers ?? []),
  ]) {
    for (const from of container.envFrom ?? []) {
      add('secrets', from.secretRef?.name);
      add('configmaps', from.configMapRef?.name);
    }
    for (const variable of container.env ?? []) {
      add('secrets', variable.valueFrom?.secretKeyRef?.name);
      add('configmaps', variable.valueFrom?.configMapKeyRef?.name);
    }
  }
  return found;
}
