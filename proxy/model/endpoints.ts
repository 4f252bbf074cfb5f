// EndpointSlices to endpoints (Kubernetes pkg/proxy/endpointslicecache.go). All slices of a Service together give its
// endpoints; a port is found by its name. Pure.
import type { EndpointSlice } from '../../src/api/types.ts';
import type { Problem } from '../../src/lib/problem.ts';
import { HEADLESS_LABEL, isPortNumber, PROXY_NAME_LABEL, serviceKey, usableAddress } from './services.ts';
import { type Endpoint, type Family, joinHostPort, type Protocol } from './types.ts';

const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';

interface SliceEndpoint {
  ip: string;
  nodeName: string | undefined;
  ready: boolean;
  serving: boolean;
  terminating: boolean;
  zoneHints: readonly string[];
  nodeHints: readonly string[];
}

/** One slice, checked. */
export interface ParsedSlice {
  service: string;
  family: Family;
  ports: { name: string; protocol: Protocol; port: number }[];
  endpoints: SliceEndpoint[];
  problems: Problem[];
}

const NO_HINTS: readonly string[] = [];

function names(list: unknown): readonly string[] {
  if (!Array.isArray(list) || list.length === 0) return NO_HINTS;
  return list.flatMap(entry => (typeof entry?.name === 'string' ? [entry.name as string] : []));
}

/** The slice's service, ports and endpoints; undefined when it is not for this proxy. */
export function parseSlice(slice: EndpointSlice): ParsedSlice | undefined {
  const labels = slice.metadata?.labels ?? {};
  const serviceName = labels[SERVICE_NAME_LABEL];
  const { namespace, name = '' } = slice.metadata ?? {};
  if (!serviceName || HEADLESS_LABEL in labels || PROXY_NAME_LABEL in labels) return undefined;
  if (slice.addressType !== 'IPv4' && slice.addressType !== 'IPv6') return undefined;
  const family: Family = slice.addressType === 'IPv4' ? 4 : 6;
  const problems: Problem[] = [];
  const bad: string[] = [];
  const ports = (slice.ports ?? []).flatMap(({ name: portName, port, protocol }) => {
    // A port without a number means "all ports", which a proxy cannot serve.
    if (port === undefined || port === null) return [];
    if (isPortNumber(port))
      return [{ name: portName ?? '', protocol: (protocol ?? 'TCP') as Protocol, port }];
    bad.push(`port ${port}`);
    return [];
  });
  const endpoints: SliceEndpoint[] = [];
  for (const endpoint of slice.endpoints ?? []) {
    const address = usableAddress(endpoint.addresses?.[0]);
    if (address?.family !== family) {
      bad.push(`address ${JSON.stringify(endpoint.addresses?.[0])}`);
      continue;
    }
    const conditions = endpoint.conditions ?? {};
    const ready = conditions.ready ?? true;
    const hints = endpoint.hints as { forZones?: unknown; forNodes?: unknown } | undefined;
    endpoints.push({
      ip: address.ip,
      nodeName: endpoint.nodeName,
      ready,
      serving: conditions.serving ?? ready,
      terminating: conditions.terminating ?? false,
      zoneHints: names(hints?.forZones),
      nodeHints: names(hints?.forNodes),
    });
  }
  if (bad.length > 0)
    problems.push({
      kind: 'EndpointSlice',
      namespace,
      name,
      reason: 'BadEndpoint',
      message: `${bad.slice(0, 3).join(', ')}${bad.length > 3 ? ` and ${bad.length - 3} more` : ''}: no ${slice.addressType} endpoint can have that; ignored`,
    });
  return { service: serviceKey(namespace, serviceName), family, ports, endpoints, problems };
}

/** The endpoints of one named port from all slices of a Service, each once, in one order. */
export function endpointsOf(
  slices: Iterable<ParsedSlice>,
  family: Family,
  portName: string,
  protocol: Protocol,
  nodeName: string,
): Endpoint[] {
  const found = new Map<string, Endpoint>();
  for (const slice of slices) {
    if (slice.family !== family) continue;
    const port = slice.ports.find(
      candidate => candidate.name === portName && candidate.protocol === protocol,
    );
    if (!port) continue;
    for (const { nodeName: on, ...endpoint } of slice.endpoints) {
      const key = joinHostPort(endpoint.ip, port.port);
      const other = found.get(key);
      // While a pod moves between slices it may be in two of them: the better condition counts.
      if (other && (other.ready || (other.serving && !endpoint.ready))) continue;
      found.set(key, { ...endpoint, port: port.port, local: on !== undefined && on === nodeName });
    }
  }
  return [...found].sort(([left], [right]) => (left < right ? -1 : 1)).map(([, endpoint]) => endpoint);
}
