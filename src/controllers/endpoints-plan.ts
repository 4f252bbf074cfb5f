// The Endpoints object of a Service: addresses grouped by the ports they serve. Pure.
// Source: k8s.io/kubernetes pkg/controller/endpoint, pkg/api/v1/endpoints RepackSubsets.
import type { EndpointAddress, EndpointSubset, Pod, Service, Stored } from '../api/types.ts';
import { isPodReady } from './pod-state.ts';
import { type BackendPort, familiesOf, hostnameFor, podAddress, resolvePorts } from './service-backends.ts';

/** Beyond this the object says that it is cut; EndpointSlices have no such limit. */
const MAX_ADDRESSES = 1000;
export const OVER_CAPACITY = 'endpoints.kubernetes.io/over-capacity';

interface Subset {
  ports: BackendPort[];
  ready: EndpointAddress[];
  notReady: EndpointAddress[];
}

export function planEndpoints(
  service: Service,
  backends: readonly Stored<Pod>[],
): { subsets: EndpointSubset[]; truncated: boolean } {
  const family = familiesOf(service)[0] ?? 4;
  const publishNotReady = service.spec?.publishNotReadyAddresses === true;
  const subsets = new Map<string, Subset>();
  const sorted = backends
    .filter(pod => publishNotReady || !pod.metadata.deletionTimestamp)
    .map(pod => ({ pod, ip: podAddress(pod, family) }))
    .filter((entry): entry is { pod: Stored<Pod>; ip: string } => entry.ip !== undefined)
    .sort((a, b) => (a.ip < b.ip ? -1 : a.ip > b.ip ? 1 : 0));
  let room = MAX_ADDRESSES;
  // Ready ones first, so that a cut takes those that serve nobody.
  const readyFirst = [
    ...sorted.filter(({ pod }) => isPodReady(pod)),
    ...sorted.filter(({ pod }) => !isPodReady(pod)),
  ];
  for (const { pod, ip } of readyFirst) {
    if (room-- <= 0) break;
    const ports = resolvePorts(service, pod);
    if (ports.length === 0 && (service.spec?.ports ?? []).length > 0) continue;
    const key = JSON.stringify(ports);
    const subset = subsets.get(key) ?? { ports, ready: [], notReady: [] };
    subsets.set(key, subset);
    (isPodReady(pod) || publishNotReady ? subset.ready : subset.notReady).push(addressOf(service, pod, ip));
  }
  const result = [...subsets.entries()]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, { ports, ready, notReady }]) => ({
      ...(ready.length > 0 ? { addresses: ready } : {}),
      ...(notReady.length > 0 ? { notReadyAddresses: notReady } : {}),
      ...(ports.length > 0 ? { ports: ports.map(portOf) } : {}),
    }));
  return { subsets: result, truncated: sorted.length > MAX_ADDRESSES };
}

function addressOf(service: Service, pod: Stored<Pod>, ip: string): EndpointAddress {
  const hostname = hostnameFor(service, pod);
  return {
    ip,
    ...(hostname ? { hostname } : {}),
    ...(pod.spec?.nodeName ? { nodeName: pod.spec.nodeName } : {}),
    targetRef: {
      kind: 'Pod',
      namespace: pod.metadata.namespace,
      name: pod.metadata.name,
      uid: pod.metadata.uid,
    },
  };
}

function portOf({ name, ...rest }: BackendPort): { name?: string; port: number; protocol: string } {
  return { ...(name ? { name } : {}), ...rest };
}
