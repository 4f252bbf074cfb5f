// EndpointSlices to endpoints (Kubernetes pkg/proxy/endpointslicecache.go). All slices of a Service together give its
// endpoints; a port is found by its name. Pure.
import type { EndpointSlice } from '../../src/api/types.ts';
import type { Problem } from '../../src/lib/problem.ts';
import { HEADLESS_LABEL, isPortNumber, PROXY_NAME_LABEL, serviceKey, usableAddress } from './services.ts';
import { type Endpoint, type Family, joinHostPort, type Protocol } from './types.ts';

const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';

export interface SlicePort {
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
}

/** One slice, checked. */
export interface ParsedSlice {
  /** Its own namespace and name. */
  id: string;
  service: string;
  family: Family;
  ports: readonly SlicePort[];
  /** With the number of the first port: most slices have no other, and their endpoints are used as they are. */
  endpoints: Endpoint[];
  problems: readonly Problem[];
}

const NO_HINTS: readonly string[] = [];
const NO_PROBLEMS: readonly Problem[] = [];

function names(list: unknown): readonly string[] {
  if (!Array.isArray(list) || list.length === 0) return NO_HINTS;
  return list.flatMap(entry => (typeof entry?.name === 'string' ? [entry.name as string] : []));
}

/** The slice's service, ports and endpoints as `nodeName` sees them; undefined when it is not for this proxy. */
export function parseSlice(slice: EndpointSlice, nodeName: string): ParsedSlice | undefined {
  const labels = slice.metadata?.labels ?? {};
  const serviceName = labels[SERVICE_NAME_LABEL];
  const { namespace, name = '' } = slice.metadata ?? {};
  if (!serviceName || HEADLESS_LABEL in labels || PROXY_NAME_LABEL in labels) return undefined;
  if (slice.addressType !== 'IPv4' && slice.addressType !== 'IPv6') return undefined;
  const family: Family = slice.addressType === 'IPv4' ? 4 : 6;
  let problems = NO_PROBLEMS;
  const bad: string[] = [];
  const ports = (slice.ports ?? []).flatMap(({ name: portName, port, protocol }) => {
    // A port without a number means "all ports", which a proxy cannot serve.
    if (port === undefined || port === null) return [];
    if (isPortNumber(port))
      return [{ name: portName ?? '', protocol: (protocol ?? 'TCP') as Protocol, port }];
    bad.push(`port ${port}`);
    return [];
  });
  const endpoints: Endpoint[] = [];
  const firstPort = ports[0]?.port ?? 0;
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
      port: firstPort,
      local: endpoint.nodeName !== undefined && endpoint.nodeName === nodeName,
      ready,
      serving: conditions.serving ?? ready,
      terminating: conditions.terminating ?? false,
      zoneHints: names(hints?.forZones),
      nodeHints: names(hints?.forNodes),
    });
  }
  if (bad.length > 0)
    problems = [
      {
        kind: 'EndpointSlice',
        namespace,
        name,
        reason: 'BadEndpoint',
        message: `${bad.slice(0, 3).join(', ')}${bad.length > 3 ? ` and ${bad.length - 3} more` : ''}: no ${slice.addressType} endpoint can have that; ignored`,
      },
    ];
  const id = serviceKey(namespace, name);
  return { id, service: serviceKey(namespace, serviceName), family, ports, endpoints, problems };
}

/** The endpoints of one named port from all slices of a Service, each once, in one order. */
export function endpointsOf(
  slices: Iterable<ParsedSlice>,
  family: Family,
  portName: string,
  protocol: Protocol,
): Endpoint[] {
  const found = new Map<string, Endpoint>();
  for (const slice of slices) {
    if (slice.family !== family) continue;
    const port = slice.ports.find(
      candidate => candidate.name === portName && candidate.protocol === protocol,
    );
    if (!port) continue;
    for (const endpoint of slice.endpoints) {
      const key = joinHostPort(endpoint.ip, port.port);
      const other = found.get(key);
      // While a pod moves between slices it may be in two of them: the better condition counts.
      if (other && (other.ready || (other.serving && !endpoint.ready))) continue;
      found.set(key, endpoint.port === port.port ? endpoint : { ...endpoint, port: port.port });
    }
  }
  return [...found].sort(([left], [right]) => (left < right ? -1 : 1)).map(([, endpoint]) => endpoint);
}
