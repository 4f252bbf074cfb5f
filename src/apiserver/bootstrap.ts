// What every cluster has from the start: the system's namespaces, and default/kubernetes (Service, Endpoints, EndpointSlice)
// through which pods find the API server. Run at each start: what is missing is made, what moved is corrected.
import { resourceOf } from '../api/resources.ts';
import { hasCode } from '../lib/errors.ts';
import { ipFamily } from '../lib/ip.ts';
import { jsonEqual } from '../lib/json.ts';
import type { User } from './auth/authenticator.ts';
import type { ServerParts } from './handlers/call.ts';
import { changeObject } from './handlers/change.ts';
import { createObject } from './handlers/create.ts';
import type { ServiceAllocator } from './services/service-allocator.ts';
import type { ApiObject } from './storage/api-object.ts';

export const NAMESPACES = ['default', 'kube-system', 'kube-public', 'kube-node-lease'];

/** The server acting for itself. */
export const SELF: User = { name: 'system:apiserver', groups: ['system:masters'] };
const KUBERNETES = 'kubernetes';
const LABELS = { component: 'apiserver', provider: KUBERNETES };

type Parts = Pick<ServerParts, 'storage' | 'admission'>;

export async function ensureNamespaces(server: Parts): Promise<void> {
  await Promise.all(
    NAMESPACES.map(name =>
      ensure(server, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } } as ApiObject),
    ),
  );
}

/** `address` and `port` are where the server itself is reached; without an address there is nothing to publish. */
export async function ensureKubernetesService(
  server: Parts,
  services: ServiceAllocator,
  address: string | undefined,
  port: number,
): Promise<void> {
  const metadata = { name: KUBERNETES, namespace: 'default' };
  const [range] = services.ranges;
  const ports = [{ name: 'https', port, protocol: 'TCP' }];
  await ensure(server, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { ...metadata, labels: LABELS },
    spec: {
      clusterIP: range!.address(1),
      ports: [{ name: 'https', port: 443, targetPort: port, protocol: 'TCP' }],
      sessionAffinity: 'None',
      type: 'ClusterIP',
    },
  });
  if (address === undefined) return;
  await ensure(server, {
    apiVersion: 'v1',
    kind: 'Endpoints',
    metadata: { ...metadata, labels: { 'endpointslice.kubernetes.io/skip-mirror': 'true' } },
    subsets: [{ addresses: [{ ip: address }], ports }],
  });
  await ensure(server, {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { ...metadata, labels: { 'kubernetes.io/service-name': KUBERNETES } },
    addressType: ipFamily(address) === 6 ? 'IPv6' : 'IPv4',
    endpoints: [{ addresses: [address], conditions: { ready: true } }],
    ports,
  });
}

/** Makes the object, or brings the top-level fields given here to these values. */
async function ensure(server: Parts, wanted: ApiObject): Promise<void> {
  const definition = resourceOf(wanted.apiVersion, wanted.kind);
  const { namespace = '', name } = wanted.metadata;
  try {
    await createObject(server, definition, structuredClone(wanted), SELF);
  } catch (error) {
    if (!hasCode(error, 'AlreadyExists')) throw error;
    if (wanted.kind === 'Namespace') return;
    await changeObject(server, {
      definition,
      namespace,
      name,
      subresource: '',
      user: SELF,
      dryRun: false,
      produce: old => {
        const object = structuredClone(old);
        for (const [field, value] of Object.entries(wanted)) {
          if (['apiVersion', 'kind', 'metadata'].includes(field)) continue;
          // A Service's spec has been completed by the server: only what is named here is compared.
          const merged = field === 'spec' ? { ...(object.spec as object), ...(value as object) } : value;
          if (!jsonEqual(object[field], merged)) object[field] = structuredClone(merged);
        }
        return object;
      },
    });
  }
}
