// Services and EndpointSlices as an API server gives them, for the proxy's tests.
import type { Endpoint, EndpointSlice, Service, ServiceSpec } from '../../../src/api/types.ts';

export interface ServiceOptions extends Partial<ServiceSpec> {
  labels?: Record<string, string>;
  createdAt?: string;
  loadBalancer?: readonly { ip?: string; hostname?: string; ipMode?: string }[];
}

/** `service('ns1/svc1', { clusterIP: '172.30.0.41', ports: [...] })` */
export function service(key: string, options: ServiceOptions): Service {
  const { labels, createdAt, loadBalancer, ...spec } = options;
  const [namespace, name] = key.split('/');
  return {
    metadata: { namespace, name, labels, creationTimestamp: createdAt ?? '2026-01-01T00:00:00Z' },
    spec: { type: 'ClusterIP', ...spec },
    ...(loadBalancer ? { status: { loadBalancer: { ingress: [...loadBalancer] } } } : {}),
  };
}

export interface EndpointOptions {
  node?: string;
  ready?: boolean;
  serving?: boolean;
  terminating?: boolean;
  zones?: readonly string[];
  nodes?: readonly string[];
}

export function endpoint(ip: string, options: EndpointOptions = {}): Endpoint {
  const { node, ready = true, serving, terminating, zones, nodes } = options;
  const hints = {
    ...(zones ? { forZones: zones.map(name => ({ name })) } : {}),
    ...(nodes ? { forNodes: nodes.map(name => ({ name })) } : {}),
  };
  return {
    addresses: [ip],
    conditions: {
      ready,
      ...(serving === undefined ? {} : { serving }),
      ...(terminating ? { terminating } : {}),
    },
    ...(node ? { nodeName: node } : {}),
    ...(zones || nodes ? { hints } : {}),
  };
}

export interface SlicePort {
  name?: string;
  port?: number;
  protocol?: string;
}

export function slice(
  key: string,
  endpoints: Endpoint[],
  ports: SlicePort[] = [{ name: 'p80', port: 80 }],
  suffix = '1',
): EndpointSlice {
  const [namespace, name] = key.split('/');
  return {
    metadata: {
      namespace,
      name: `${name}-${suffix}`,
      labels: { 'kubernetes.io/service-name': name ?? '' },
    },
    addressType: endpoints[0]?.addresses[0]?.includes(':') ? 'IPv6' : 'IPv4',
    endpoints,
    ports,
  };
}
