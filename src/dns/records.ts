// The cluster's DNS names as Kubernetes' DNS specification (kubernetes/dns docs/specification.md, version 1.1.0) has
// them: services, headless services' endpoints, ports as SRV, reverse names. Pure: objects in, answers out.
import type { EndpointSlice, Service } from '../api/types.ts';
import { formatIp, parseIp } from '../lib/ip.ts';

export type RecordType = 'A' | 'AAAA' | 'SRV' | 'PTR' | 'SOA' | 'TXT' | 'NS' | 'CNAME' | 'ANY';

export interface DnsAnswer {
  name: string;
  type: 'A' | 'AAAA' | 'SRV' | 'PTR' | 'TXT' | 'CNAME';
  ttl: number;
  data: string | { port: number; priority: number; weight: number; target: string };
}

/** undefined: not ours, ask upstream. An empty list with `exists`: the name is there, that type is not (NODATA). */
export interface Resolution {
  exists: boolean;
  answers: DnsAnswer[];
}

const TTL_SECONDS = 5;

interface Endpoint {
  address: string;
  family: 4 | 6;
  hostname: string;
  ready: boolean;
  ports: { name: string; protocol: string; port: number }[];
}

export class ServiceRecords {
  readonly #domain: string;
  /** `namespace/name`. */
  readonly #services = new Map<string, Service>();
  /** Service key → slice name → endpoints. */
  readonly #slices = new Map<string, Map<string, Endpoint[]>>();
  /** Address → names for PTR. */
  readonly #clusterIps = new Map<string, string>();

  /** `domain` without a trailing dot, e.g. `cluster.local`. */
  constructor(domain: string) {
    this.#domain = domain.toLowerCase();
  }

  setService(service: Service): void {
    const key = keyOf(service);
    this.deleteService(service);
    this.#services.set(key, service);
    for (const ip of clusterIps(service)) this.#clusterIps.set(ip, key);
  }

  deleteService(service: Service): void {
    const key = keyOf(service);
    for (const ip of clusterIps(this.#services.get(key))) this.#clusterIps.delete(ip);
    this.#services.delete(key);
  }

  setSlice(slice: EndpointSlice): void {
    const service = slice.metadata?.labels?.['kubernetes.io/service-name'];
    if (service === undefined || slice.addressType === 'FQDN') return;
    const key = `${slice.metadata?.namespace}/${service}`;
    const slices = this.#slices.get(key) ?? new Map<string, Endpoint[]>();
    slices.set(slice.metadata?.name ?? '', endpointsOf(slice));
    this.#slices.set(key, slices);
  }

  deleteSlice(slice: EndpointSlice): void {
    const service = slice.metadata?.labels?.['kubernetes.io/service-name'];
    const key = `${slice.metadata?.namespace}/${service}`;
    const slices = this.#slices.get(key);
    slices?.delete(slice.metadata?.name ?? '');
    if (slices?.size === 0) this.#slices.delete(key);
  }

  /** `name` without its trailing dot, in any case. */
  resolve(name: string, type: RecordType): Resolution | undefined {
    const wanted = name.toLowerCase();
    const reverse = parseReverseName(wanted);
    if (reverse !== undefined) return this.#resolveReverse(name, reverse);
    if (wanted !== this.#domain && !wanted.endsWith(`.${this.#domain}`)) return undefined;
    const labels = wanted
      .slice(0, -this.#domain.length - 1)
      .split('.')
      .filter(Boolean)
      .reverse();
    const [kind, namespace, ...rest] = labels;
    if (wanted === `dns-version.${this.#domain}`)
      return {
        exists: true,
        answers: type === 'TXT' ? [{ name, type, ttl: TTL_SECONDS, data: '1.1.0' }] : [],
      };
    if (kind === 'svc' && namespace !== undefined && rest.length > 0)
      return this.#resolveService(name, type, namespace, rest);
    if (kind === 'pod' && namespace !== undefined && rest.length === 1)
      return resolvePod(name, type, rest[0]!);
    // Names that only have others below them exist, but hold nothing (RFC 8020).
    return { exists: kind === undefined || (kind === 'svc' && rest.length === 0), answers: [] };
  }

  /** `rest` is the name below the namespace, from right to left: service, then hostname or _protocol, _port. */
  #resolveService(name: string, type: RecordType, namespace: string, rest: string[]): Resolution {
    const [serviceName, ...below] = rest;
    const key = `${namespace}/${serviceName}`;
    const service = this.#services.get(key);
    if (!service) return { exists: false, answers: [] };
    if (service.spec?.type === 'ExternalName') {
      const data = service.spec.externalName ?? '';
      return {
        exists: true,
        answers: below.length === 0 ? [{ name, type: 'CNAME', ttl: TTL_SECONDS, data }] : [],
      };
    }
    const headless = clusterIps(service).length === 0;
    const endpoints = this.#endpoints(key, service);
    if (below.length === 0) {
      const addresses = headless ? endpoints.map(endpoint => endpoint.address) : clusterIps(service);
      const ports = headless ? endpoints.flatMap(endpoint => endpoint.ports) : servicePorts(service);
      if (type === 'SRV')
        return {
          exists: true,
          answers: this.#srv(
            name,
            key,
            service,
            ports.map(port => port.name),
          ),
        };
      return { exists: addresses.length > 0 || !headless, answers: addressRecords(name, type, addresses) };
    }
    if (below.length === 1 && headless) {
      const hosts = endpoints.filter(endpoint => endpoint.hostname === below[0]);
      return {
        exists: hosts.length > 0,
        answers: addressRecords(
          name,
          type,
          hosts.map(host => host.address),
        ),
      };
    }
    const [protocol, port] = below;
    if (below.length !== 2 || !protocol?.startsWith('_') || !port?.startsWith('_'))
      return { exists: false, answers: [] };
    const answers = this.#srv(name, key, service, [port.slice(1)], protocol.slice(1));
    return { exists: answers.length > 0, answers: type === 'SRV' || type === 'ANY' ? answers : [] };
  }

  /** SRV records of the named ports; targets are the service, or each endpoint of a headless one. */
  #srv(name: string, key: string, service: Service, portNames: string[], protocol?: string): DnsAnswer[] {
    const wanted = new Set(portNames);
    const matches = (port: { name: string; protocol: string }) =>
      port.name !== '' &&
      wanted.has(port.name) &&
      (protocol === undefined || port.protocol.toLowerCase() === protocol);
    const [namespace, serviceName] = key.split('/');
    const zone = `${serviceName}.${namespace}.svc.${this.#domain}`;
    const record = (port: number, target: string): DnsAnswer => ({
      name,
      type: 'SRV',
      ttl: TTL_SECONDS,
      data: { port, priority: 0, weight: 100, target },
    });
    if (clusterIps(service).length > 0)
      return servicePorts(service)
        .filter(matches)
        .map(port => record(port.port, zone));
    return this.#endpoints(key, service).flatMap(endpoint =>
      endpoint.ports.filter(matches).map(port => record(port.port, `${endpoint.hostname}.${zone}`)),
    );
  }

  #endpoints(key: string, service: Service): Endpoint[] {
    const all = [...(this.#slices.get(key)?.values() ?? [])].flat();
    return service.spec?.publishNotReadyAddresses ? all : all.filter(endpoint => endpoint.ready);
  }

  #resolveReverse(name: string, address: string): Resolution | undefined {
    const key = this.#clusterIps.get(address);
    if (key === undefined) return undefined;
    const [namespace, service] = key.split('/');
    const data = `${service}.${namespace}.svc.${this.#domain}`;
    return { exists: true, answers: [{ name, type: 'PTR', ttl: TTL_SECONDS, data }] };
  }
}

function keyOf(service: Service): string {
  return `${service.metadata?.namespace}/${service.metadata?.name}`.toLowerCase();
}

function clusterIps(service: Service | undefined): string[] {
  const ips = service?.spec?.clusterIPs ?? (service?.spec?.clusterIP ? [service.spec.clusterIP] : []);
  return ips.filter(ip => ip !== '' && ip !== 'None');
}

function servicePorts(service: Service) {
  return (service.spec?.ports ?? []).map(port => ({
    name: port.name ?? '',
    protocol: port.protocol ?? 'TCP',
    port: port.port,
  }));
}

function endpointsOf(slice: EndpointSlice): Endpoint[] {
  const ports = (slice.ports ?? []).flatMap(port =>
    port.port === undefined
      ? []
      : [{ name: port.name ?? '', protocol: port.protocol ?? 'TCP', port: port.port }],
  );
  const family = slice.addressType === 'IPv6' ? 6 : 4;
  return (slice.endpoints ?? []).flatMap(endpoint =>
    (endpoint.addresses ?? []).map(address => ({
      address,
      family,
      hostname: (endpoint.hostname ?? address.replace(/[.:]/g, '-')).toLowerCase(),
      ready: endpoint.conditions?.ready ?? true,
      ports,
    })),
  );
}

function addressRecords(name: string, type: RecordType, addresses: string[]): DnsAnswer[] {
  return addresses.flatMap((data): DnsAnswer[] => {
    const own = data.includes(':') ? 'AAAA' : 'A';
    return type === own || type === 'ANY' ? [{ name, type: own, ttl: TTL_SECONDS, data }] : [];
  });
}

/** `10-244-1-5.default.pod.cluster.local`: the address is in the name. */
function resolvePod(name: string, type: RecordType, label: string): Resolution {
  const text = /^\d+-\d+-\d+-\d+$/.test(label) ? label.replaceAll('-', '.') : label.replaceAll('-', ':');
  const address = parseIp(text);
  if (!address) return { exists: false, answers: [] };
  return { exists: true, answers: addressRecords(name, type, [formatIp(address)]) };
}

/** The address of an in-addr.arpa or ip6.arpa name (RFC 1035 section 3.5, RFC 3596 section 2.5). */
export function parseReverseName(name: string): string | undefined {
  const v4 = /^(\d{1,3}(?:\.\d{1,3}){3})\.in-addr\.arpa$/.exec(name);
  if (v4) return v4[1]!.split('.').reverse().join('.');
  const v6 = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(name);
  if (!v6) return undefined;
  const digits = v6[1]!.split('.').reverse().join('');
  const address = parseIp(digits.match(/.{4}/g)!.join(':'));
  return address && formatIp(address);
}
