// Which pods stand behind a Service, with which ports: the part EndpointSlice and Endpoints share.
// Source: k8s.io/kubernetes pkg/controller/{endpoint,endpointslice}, endpointslice utils.
import type { Pod, Service, ServicePort, Stored } from '../api/types.ts';
import type { Informer } from '../client/informer.ts';
import { keyOf, RESOURCE } from '../client/resources.ts';
import { ipFamily } from '../lib/ip.ts';
import { jsonEqual } from '../lib/json.ts';
import type { ControllerContext } from './controller.ts';
import { isPodFinished, isPodReady, podCondition } from './pod-state.ts';

export const LAST_CHANGE_TRIGGER_TIME = 'endpoints.kubernetes.io/last-change-trigger-time';
export const HEADLESS_LABEL = 'service.kubernetes.io/headless';

/** A port of a Service as one pod serves it. */
export interface BackendPort {
  name: string;
  protocol: string;
  port: number;
  appProtocol?: string;
}

const BY_NAMESPACE = 'namespace';

/** A Service whose endpoints are ours to keep: it has a selector and is no mere DNS alias. */
export function hasManagedEndpoints(service: Service): boolean {
  return Object.keys(service.spec?.selector ?? {}).length > 0 && service.spec?.type !== 'ExternalName';
}

export function isHeadless(service: Service): boolean {
  return service.spec?.clusterIP === 'None';
}

/** Families a Service has endpoints in, the primary one first. */
export function familiesOf(service: Service): (4 | 6)[] {
  const named = (service.spec?.ipFamilies ?? []).map(family => (family === 'IPv6' ? 6 : 4));
  if (named.length > 0) return named;
  const clusterIp = service.spec?.clusterIP;
  return [clusterIp && clusterIp !== 'None' ? (ipFamily(clusterIp) ?? 4) : 4];
}

/** The pod's address in one family. */
export function podAddress(pod: Pod, family: 4 | 6): string | undefined {
  const all = pod.status?.podIPs?.map(entry => entry.ip) ?? [pod.status?.podIP];
  return all.find(ip => ip !== undefined && ip !== '' && ipFamily(ip) === family);
}

/** Pods the Service selects that have, or may get, traffic: placed, with an address, not ended. */
export function selectBackends(service: Service, pods: readonly Stored<Pod>[]): Stored<Pod>[] {
  return pods.filter(
    pod => !isPodFinished(pod) && Boolean(pod.status?.podIP) && selects(service, pod.metadata.labels),
  );
}

export function selects(service: Service, labels: Record<string, string> | undefined): boolean {
  return (
    hasManagedEndpoints(service) &&
    Object.entries(service.spec?.selector ?? {}).every(([key, value]) => labels?.[key] === value)
  );
}

/** The Service's ports on this pod; a named targetPort the pod does not have is left out. */
export function resolvePorts(service: Service, pod: Pod): BackendPort[] {
  const ports: BackendPort[] = [];
  for (const port of service.spec?.ports ?? []) {
    const number = targetPort(port, pod);
    if (number === undefined) continue;
    ports.push({
      name: port.name ?? '',
      protocol: port.protocol ?? 'TCP',
      port: number,
      ...(port.appProtocol ? { appProtocol: port.appProtocol } : {}),
    });
  }
  return ports;
}

function targetPort(port: ServicePort, pod: Pod): number | undefined {
  const target = port.targetPort ?? port.port;
  if (typeof target === 'number') return target === 0 ? port.port : target;
  if (/^\d+$/.test(target)) return Number(target);
  const containers = [
    ...(pod.spec?.containers ?? []),
    ...(pod.spec?.initContainers ?? []).filter(container => container.restartPolicy === 'Always'),
  ];
  for (const container of containers)
    for (const candidate of container.ports ?? [])
      if (candidate.name === target && (candidate.protocol ?? 'TCP') === (port.protocol ?? 'TCP'))
        return candidate.containerPort;
  return undefined;
}

/** The pod's own DNS name below a headless Service. */
export function hostnameFor(service: Service, pod: Pod): string | undefined {
  const { hostname, subdomain } = pod.spec ?? {};
  return hostname && subdomain === service.metadata?.name ? hostname : undefined;
}

/** What of a pod its endpoints depend on. */
function backendInput(pod: Stored<Pod>): unknown {
  return [
    pod.metadata.labels,
    pod.metadata.deletionTimestamp,
    pod.status?.podIPs ?? pod.status?.podIP,
    isPodReady(pod),
    isPodFinished(pod),
    pod.spec?.nodeName,
  ];
}

/** Calls `enqueue` with the keys of Services whose endpoints may have changed. Answers how to find a Service's pods. */
export function watchBackends(
  context: ControllerContext,
  enqueue: (serviceKey: string) => void,
): { services: Informer<Service>; podsIn: (namespace: string) => Stored<Pod>[] } {
  const services = context.informers.of(RESOURCE.services);
  const pods = context.informers.of(RESOURCE.pods);
  services.addIndex(BY_NAMESPACE, service => [service.metadata.namespace ?? '']);
  pods.addIndex(BY_NAMESPACE, pod => [pod.metadata.namespace ?? '']);
  services.onChange(({ object }) => enqueue(keyOf(object)));
  pods.onChange(({ type, object, previous }) => {
    if (type === 'modified' && previous && jsonEqual(backendInput(previous), backendInput(object))) return;
    for (const service of services.byIndex(BY_NAMESPACE, object.metadata.namespace ?? ''))
      if (
        selects(service, object.metadata.labels) ||
        (previous && selects(service, previous.metadata.labels))
      )
        enqueue(keyOf(service));
  });
  return { services, podsIn: namespace => pods.byIndex(BY_NAMESPACE, namespace) };
}

/**
 * When the change happened that the next write of endpoints answers to: the network programming SLI counts from there.
 * Only what moved since the last call counts; a pod that disappeared left no time behind.
 */
export class TriggerTimes {
  readonly #seen = new Map<string, { service: string; pods: Map<string, string> }>();

  /** The earliest new time, RFC 3339; undefined when nothing tells it. */
  next(service: Stored<Service>, backends: readonly Stored<Pod>[]): string | undefined {
    const key = keyOf(service);
    const before = this.#seen.get(key);
    const created = service.metadata.creationTimestamp ?? '';
    const pods = new Map<string, string>();
    const news: string[] = before?.service === created ? [] : [created];
    for (const pod of backends) {
      const time = podCondition(pod, 'Ready')?.lastTransitionTime;
      if (!time) continue;
      pods.set(pod.metadata.uid, time);
      const known = before?.pods.get(pod.metadata.uid) ?? '';
      if (before && time > known) news.push(time);
    }
    this.#seen.set(key, { service: created, pods });
    return news.filter(time => time !== '').sort()[0];
  }

  forget(serviceKey: string): void {
    this.#seen.delete(serviceKey);
  }
}
