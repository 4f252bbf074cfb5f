// What scheduling needs to know of a pod, worked out once when the pod is seen and not once for every node.
import { parseQuantity, quantityMilliValue, quantityValue } from '../api/quantity.ts';
import type { Container, Pod, Stored } from '../api/types.ts';
import { type PodAffinity, parsePodAffinity } from './pod-affinity.ts';

/** Amounts by resource name: cpu in millicores, everything else in its base unit (bytes, pieces). */
export type Amounts = Map<string, number>;

export interface HostPort {
  ip: string;
  protocol: string;
  port: number;
}

export interface PodView {
  pod: Stored<Pod>;
  uid: string;
  /** `namespace/name`. */
  key: string;
  priority: number;
  requests: Amounts;
  /** Requests with a floor, for scoring only: pods that ask for nothing still take something. */
  scoring: { milliCpu: number; memoryBytes: number };
  hostPorts: HostPort[];
  /** `uid` of the controller that owns it: pods of one owner are spread. */
  ownerUid: string | undefined;
  /** To other pods; most have none. */
  affinity: PodAffinity | undefined;
}

/** kube-scheduler util.GetNonzeroRequests: 0.1 core and 200 MB. */
const DEFAULT_MILLI_CPU = 100;
const DEFAULT_MEMORY_BYTES = 200 * 1024 * 1024;

/** One quantity as a number: cpu in millicores, rounded up. */
export function amountOf(resource: string, quantity: string): number {
  const parsed = parseQuantity(quantity);
  return Number(resource === 'cpu' ? quantityMilliValue(parsed) : quantityValue(parsed));
}

export function amountsOf(list: Record<string, string> | undefined): Amounts {
  return new Map(
    Object.entries(list ?? {}).map(([resource, quantity]) => [resource, amountOf(resource, quantity)]),
  );
}

function addTo(sum: Amounts, more: Amounts): void {
  for (const [resource, amount] of more) sum.set(resource, (sum.get(resource) ?? 0) + amount);
}

function raiseTo(floor: Amounts, other: Amounts): void {
  for (const [resource, amount] of other) floor.set(resource, Math.max(floor.get(resource) ?? 0, amount));
}

function containerRequests(container: Container): Amounts {
  const requests = amountsOf(container.resources?.requests);
  for (const [resource, amount] of amountsOf(container.resources?.limits))
    if (!requests.has(resource)) requests.set(resource, amount);
  return requests;
}

/**
 * Effective requests: containers and sidecars (restartable init containers) together, or the largest init container
 * with the sidecars started before it, whichever is more; and the overhead (KEP-753, resource helper PodRequests).
 */
export function podRequests(pod: Pod): Amounts {
  const sum: Amounts = new Map();
  for (const container of pod.spec?.containers ?? []) addTo(sum, containerRequests(container));
  const sidecars: Amounts = new Map();
  const initPeak: Amounts = new Map();
  for (const container of pod.spec?.initContainers ?? []) {
    const requests = containerRequests(container);
    const together = new Map(sidecars);
    addTo(together, requests);
    raiseTo(initPeak, together);
    if (container.restartPolicy === 'Always') {
      addTo(sum, requests);
      addTo(sidecars, requests);
    }
  }
  raiseTo(sum, initPeak);
  addTo(sum, amountsOf(pod.spec?.overhead));
  return sum;
}

function hostPortsOf(pod: Pod): HostPort[] {
  const containers = [
    ...(pod.spec?.containers ?? []),
    ...(pod.spec?.initContainers ?? []).filter(container => container.restartPolicy === 'Always'),
  ];
  return containers.flatMap(container =>
    (container.ports ?? [])
      .filter(port => (port.hostPort ?? 0) > 0)
      .map(port => ({
        ip: port.hostIP || '0.0.0.0',
        protocol: port.protocol ?? 'TCP',
        port: port.hostPort as number,
      })),
  );
}

export function viewPod(pod: Stored<Pod>): PodView {
  const requests = podRequests(pod);
  return {
    pod,
    uid: pod.metadata.uid,
    key: `${pod.metadata.namespace}/${pod.metadata.name}`,
    priority: pod.spec?.priority ?? 0,
    requests,
    scoring: {
      milliCpu: requests.get('cpu') || DEFAULT_MILLI_CPU,
      memoryBytes: requests.get('memory') || DEFAULT_MEMORY_BYTES,
    },
    hostPorts: hostPortsOf(pod),
    ownerUid: pod.metadata.ownerReferences?.find(owner => owner.controller)?.uid,
    affinity: parsePodAffinity(pod),
  };
}
