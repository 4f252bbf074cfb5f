// EndpointSlices of one Service: what there should be, against what there is, with as few writes as possible. Pure.
// Source: KEP-752; k8s.io/endpointslice reconciler.go.
import type { Endpoint, EndpointSlice, Node, Pod, Service, Stored } from '../api/types.ts';
import { jsonEqual } from '../lib/json.ts';
import { controllerReference } from './ownership.ts';
import { isPodReady } from './pod-state.ts';
import {
  type BackendPort,
  familiesOf,
  HEADLESS_LABEL,
  hostnameFor,
  isHeadless,
  LAST_CHANGE_TRIGGER_TIME,
  podAddress,
  resolvePorts,
} from './service-backends.ts';

export const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';
export const MANAGED_BY_LABEL = 'endpointslice.kubernetes.io/managed-by';
export const MANAGED_BY = 'endpointslice-controller.k8s.io';
const MAX_ENDPOINTS = 100;
const ZONE_LABEL = 'topology.kubernetes.io/zone';
const RESERVED_LABELS = new Set([SERVICE_NAME_LABEL, MANAGED_BY_LABEL, HEADLESS_LABEL]);

export interface SlicePlan {
  create: EndpointSlice[];
  update: Stored<EndpointSlice>[];
  delete: Stored<EndpointSlice>[];
}

/** Endpoints that share an address family and a set of ports: these go into slices together. */
interface Group {
  addressType: 'IPv4' | 'IPv6';
  ports: BackendPort[];
  endpoints: Map<string, Endpoint>;
}

export interface SliceInput {
  service: Stored<Service>;
  /** As selectBackends gives them. */
  backends: readonly Stored<Pod>[];
  nodeOf(name: string): Node | undefined;
  /** Ours, of this Service. */
  existing: readonly Stored<EndpointSlice>[];
  triggerTime: string | undefined;
}

export function planEndpointSlices(input: SliceInput): SlicePlan {
  const plan: SlicePlan = { create: [], update: [], delete: [] };
  const groups = groupBackends(input);
  const left = new Set(input.existing);
  for (const group of groups.values()) {
    const mine = [...left].filter(
      slice => slice.addressType === group.addressType && samePorts(slice, group.ports),
    );
    for (const slice of mine) left.delete(slice);
    planGroup(input, group, mine, plan);
  }
  plan.delete.push(...left);
  reuse(plan);
  return plan;
}

/** One empty slice per family where there are no backends, so that a watcher sees "none" and not "not yet". */
function groupBackends(input: SliceInput): Map<string, Group> {
  const groups = new Map<string, Group>();
  for (const family of familiesOf(input.service)) {
    const addressType = family === 6 ? 'IPv6' : 'IPv4';
    let any = false;
    for (const pod of input.backends) {
      const address = podAddress(pod, family);
      if (!address) continue;
      any = true;
      const ports = resolvePorts(input.service, pod);
      const key = `${addressType} ${JSON.stringify(ports)}`;
      const group = groups.get(key) ?? { addressType, ports, endpoints: new Map() };
      groups.set(key, group);
      group.endpoints.set(pod.metadata.uid, endpointFor(input, pod, address));
    }
    if (!any) groups.set(addressType, { addressType, ports: [], endpoints: new Map() });
  }
  return groups;
}

function endpointFor(input: SliceInput, pod: Stored<Pod>, address: string): Endpoint {
  const { service } = input;
  const serving = isPodReady(pod);
  const terminating = Boolean(pod.metadata.deletionTimestamp);
  const ready = service.spec?.publishNotReadyAddresses === true || (serving && !terminating);
  const nodeName = pod.spec?.nodeName;
  const zone = nodeName ? input.nodeOf(nodeName)?.metadata?.labels?.[ZONE_LABEL] : undefined;
  const hostname = hostnameFor(service, pod);
  return {
    addresses: [address],
    conditions: { ready, serving, terminating },
    ...(hostname ? { hostname } : {}),
    ...(nodeName ? { nodeName } : {}),
    ...(zone ? { zone } : {}),
    targetRef: {
      kind: 'Pod',
      namespace: pod.metadata.namespace,
      name: pod.metadata.name,
      uid: pod.metadata.uid,
    },
  };
}

function planGroup(
  input: SliceInput,
  group: Group,
  slices: readonly Stored<EndpointSlice>[],
  plan: SlicePlan,
): void {
  const rest = new Map(group.endpoints);
  const contents = slices.map(slice => {
    const kept: Endpoint[] = [];
    for (const endpoint of slice.endpoints ?? []) {
      const uid = endpoint.targetRef?.uid ?? '';
      const wanted = rest.get(uid);
      if (!wanted || kept.length >= MAX_ENDPOINTS) continue;
      rest.delete(uid);
      kept.push(jsonEqual(wanted, withoutHints(endpoint)) ? endpoint : wanted);
    }
    return { slice, kept };
  });
  const added = [...rest.values()];
  // The fullest that still has room takes the new ones: slices fill up instead of many staying half empty.
  for (const content of [...contents].sort((a, b) => b.kept.length - a.kept.length))
    content.kept.push(...added.splice(0, Math.max(0, MAX_ENDPOINTS - content.kept.length)));
  const chunks: Endpoint[][] = [];
  while (added.length > 0) chunks.push(added.splice(0, MAX_ENDPOINTS));
  if (group.endpoints.size === 0 && contents.length === 0) chunks.push([]);
  let placeholder = group.endpoints.size === 0;
  for (const { slice, kept } of contents) {
    if (kept.length === 0 && !placeholder) {
      plan.delete.push(slice);
      continue;
    }
    if (kept.length === 0) placeholder = false;
    const next = sliceWith(input, group, kept, slice);
    if (!sameSlice(slice, next))
      plan.update.push({ ...slice, ...next, metadata: { ...slice.metadata, ...next.metadata } });
  }
  for (const chunk of chunks) plan.create.push(sliceWith(input, group, chunk, undefined));
}

function sliceWith(
  input: SliceInput,
  group: Group,
  endpoints: Endpoint[],
  slice: Stored<EndpointSlice> | undefined,
): EndpointSlice {
  const { service, triggerTime } = input;
  const inherited = Object.entries(service.metadata.labels ?? {}).filter(
    ([key]) => !RESERVED_LABELS.has(key),
  );
  const { [LAST_CHANGE_TRIGGER_TIME]: _, ...annotations } = slice?.metadata.annotations ?? {};
  if (triggerTime) annotations[LAST_CHANGE_TRIGGER_TIME] = triggerTime;
  return {
    addressType: group.addressType,
    metadata: {
      ...(slice ? { name: slice.metadata.name } : { generateName: `${service.metadata.name}-` }),
      namespace: service.metadata.namespace,
      labels: {
        ...Object.fromEntries(inherited),
        ...(isHeadless(service) ? { [HEADLESS_LABEL]: '' } : {}),
        [SERVICE_NAME_LABEL]: service.metadata.name,
        [MANAGED_BY_LABEL]: MANAGED_BY,
      },
      annotations,
      ownerReferences: [{ ...controllerReference(service), apiVersion: 'v1', kind: 'Service' }],
    },
    endpoints,
    ports: group.ports.map(port => ({ ...port })),
  };
}

/** Equal in all that matters; the trigger time alone is no reason to write. */
function sameSlice(present: Stored<EndpointSlice>, next: EndpointSlice): boolean {
  return (
    jsonEqual(present.endpoints ?? [], next.endpoints) &&
    samePorts(present, (next.ports ?? []) as BackendPort[]) &&
    jsonEqual(present.metadata.labels, next.metadata?.labels) &&
    jsonEqual(present.metadata.ownerReferences, next.metadata?.ownerReferences)
  );
}

function samePorts(slice: EndpointSlice, ports: readonly BackendPort[]): boolean {
  const key = (port: { name?: string; protocol?: string; port?: number; appProtocol?: string }): string =>
    JSON.stringify([port.name ?? '', port.protocol ?? 'TCP', port.port, port.appProtocol]);
  const present = (slice.ports ?? []).map(key).sort();
  return jsonEqual(present, ports.map(key).sort());
}

function withoutHints(endpoint: Endpoint): Endpoint {
  const { hints: _, ...rest } = endpoint;
  return rest;
}

/** A slice to delete and one to create of the same family become one update: watchers see no gap. */
function reuse(plan: SlicePlan): void {
  for (const [index, created] of [...plan.create.entries()].reverse()) {
    const at = plan.delete.findIndex(slice => slice.addressType === created.addressType);
    const slice = plan.delete[at];
    if (!slice) continue;
    plan.delete.splice(at, 1);
    plan.create.splice(index, 1);
    const { generateName: _, ...metadata } = created.metadata ?? {};
    plan.update.push({ ...slice, ...created, metadata: { ...slice.metadata, ...metadata } });
  }
}
