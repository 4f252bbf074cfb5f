// Services to service ports (Kubernetes pkg/proxy/serviceport.go), with suspicion: what is wrong in one Service is
// reported and left out, the rest of it and all others work on. Pure.
import type { Service } from '../../src/api/types.ts';
import { formatCidr, parseCidr } from '../../src/lib/cidr.ts';
import { formatIp, isLinkLocal, isLoopback, isMulticast, isUnspecified, parseIp } from '../../src/lib/ip.ts';
import type { Problem } from '../../src/lib/problem.ts';
import type { Family, Protocol, ServicePort } from './types.ts';

/** A Service with this label belongs to another proxy. */
export const PROXY_NAME_LABEL = 'service.kubernetes.io/service-proxy-name';
/** Services and EndpointSlices with this label are headless by intent. */
export const HEADLESS_LABEL = 'service.kubernetes.io/headless';

const DEFAULT_AFFINITY_SECONDS = 10_800;
const MAX_AFFINITY_SECONDS = 86_400;

const NONE: readonly string[] = [];
const NO_PROBLEMS: readonly Problem[] = [];

export interface ParsedService {
  ports: readonly ServicePort[];
  problems: readonly Problem[];
}

/** Joined, not concatenated: V8 keeps the parts of what is concatenated, and there are many of these. */
export function serviceKey(namespace: string | undefined, name: string | undefined): string {
  return [namespace ?? '', name ?? ''].join('/');
}

/** True when this proxy has nothing to do with the Service. */
function isIgnored(service: Service): boolean {
  const labels = service.metadata?.labels ?? {};
  const clusterIp = service.spec?.clusterIP;
  return (
    PROXY_NAME_LABEL in labels ||
    HEADLESS_LABEL in labels ||
    service.spec?.type === 'ExternalName' ||
    clusterIp === 'None' ||
    (!clusterIp && !service.spec?.clusterIPs?.length)
  );
}

/** An address that traffic can be sent to, in canonical text, or undefined. */
export function usableAddress(text: unknown): { ip: string; family: Family } | undefined {
  const bytes = typeof text === 'string' ? parseIp(text) : undefined;
  if (!bytes || isLoopback(bytes) || isMulticast(bytes) || isUnspecified(bytes) || isLinkLocal(bytes))
    return undefined;
  const ip = formatIp(bytes);
  // The same text again would only be a second copy of it.
  return { ip: ip === text ? text : ip, family: bytes.length === 4 ? 4 : 6 };
}

export function isPortNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_535;
}

class ServiceReader {
  readonly problems: Problem[] = [];
  readonly #service: Service;
  constructor(service: Service) {
    this.#service = service;
  }

  problem(reason: string, message: string): void {
    const { namespace, name } = this.#service.metadata ?? {};
    this.problems.push({ kind: 'Service', namespace, name: name ?? '', reason, message });
  }

  /** The usable ones of a list of addresses, each once. */
  addresses(field: string, texts: readonly unknown[] | undefined): { ip: string; family: Family }[] {
    const found = new Map<string, { ip: string; family: Family }>();
    for (const text of texts ?? []) {
      const address = usableAddress(text);
      if (address) found.set(address.ip, address);
      else
        this.problem(
          'BadAddress',
          `${field}: ${JSON.stringify(text)} is no address a Service can have; ignored`,
        );
    }
    return [...found.values()];
  }

  loadBalancerIps(): { ip: string; family: Family }[] {
    const ingress = this.#service.status?.loadBalancer?.ingress ?? [];
    return this.addresses(
      'status.loadBalancer.ingress',
      ingress.filter(entry => entry.ip && (entry.ipMode ?? 'VIP') === 'VIP').map(entry => entry.ip),
    );
  }

  /** The ranges of each family; [] (nobody) when ranges were given but none could be read. */
  sourceRanges(): (family: Family) => string[] | undefined {
    const texts = this.#service.spec?.loadBalancerSourceRanges;
    if (!texts?.length || this.#service.spec?.type !== 'LoadBalancer') return () => undefined;
    const parsed = texts.flatMap(text => (typeof text === 'string' ? (parseCidr(text.trim()) ?? []) : []));
    if (parsed.length < texts.length)
      this.problem('BadSourceRange', 'loadBalancerSourceRanges: some are no networks; those let nobody in');
    return family => {
      const ours = parsed.filter(cidr => cidr.family === family).map(formatCidr);
      return ours.length > 0 || parsed.length === 0 ? [...new Set(ours)] : undefined;
    };
  }

  affinitySeconds(): number {
    const { sessionAffinity, sessionAffinityConfig } = this.#service.spec ?? {};
    if (sessionAffinity !== 'ClientIP') return 0;
    const seconds = sessionAffinityConfig?.clientIP?.timeoutSeconds ?? DEFAULT_AFFINITY_SECONDS;
    if (Number.isInteger(seconds) && seconds > 0 && seconds <= MAX_AFFINITY_SECONDS) return seconds;
    this.problem('BadAffinity', `sessionAffinityConfig.clientIP.timeoutSeconds: ${seconds}; taken as 10800`);
    return DEFAULT_AFFINITY_SECONDS;
  }
}

/** The service ports of a Service, both families. */
export function parseService(service: Service): ParsedService {
  const spec = service.spec;
  if (!spec || isIgnored(service)) return { ports: [], problems: NO_PROBLEMS };
  const reader = new ServiceReader(service);
  const key = serviceKey(service.metadata?.namespace, service.metadata?.name);
  const clusterIps = reader.addresses(
    'spec.clusterIPs',
    spec.clusterIPs?.length ? spec.clusterIPs : [spec.clusterIP],
  );
  const externalIps = reader.addresses('spec.externalIPs', spec.externalIPs);
  const loadBalancerIps = spec.type === 'LoadBalancer' ? reader.loadBalancerIps() : [];
  const hasNodePorts = spec.type === 'NodePort' || spec.type === 'LoadBalancer';
  const externalPolicyLocal =
    spec.externalTrafficPolicy === 'Local' && (hasNodePorts || externalIps.length > 0);
  const healthCheckNodePort =
    spec.type === 'LoadBalancer' && externalPolicyLocal && isPortNumber(spec.healthCheckNodePort)
      ? spec.healthCheckNodePort
      : 0;
  const affinitySeconds = reader.affinitySeconds();
  const sourceRangesOf = reader.sourceRanges();
  const ports: ServicePort[] = [];
  for (const family of [4, 6] as const) {
    const clusterIp = clusterIps.find(address => address.family === family)?.ip;
    if (!clusterIp) continue;
    const ofFamily = (list: { ip: string; family: Family }[]): readonly string[] =>
      list.length === 0 ? NONE : list.filter(address => address.family === family).map(address => address.ip);
    const sourceRanges = sourceRangesOf(family);
    for (const port of spec.ports ?? []) {
      const protocol = (port.protocol ?? 'TCP') as Protocol;
      if (!isPortNumber(port.port) || !['TCP', 'UDP', 'SCTP'].includes(protocol)) {
        reader.problem(
          'BadPort',
          `port ${JSON.stringify(port.name ?? '')}: ${port.port}/${protocol}; ignored`,
        );
        continue;
      }
      const name = port.name ? [key, port.name].join(':') : key;
      ports.push({
        id: [family, name, protocol].join(' '),
        service: key,
        name,
        family,
        protocol,
        port: port.port,
        clusterIp,
        nodePort: hasNodePorts && isPortNumber(port.nodePort) ? port.nodePort : 0,
        externalIps: ofFamily(externalIps),
        loadBalancerIps: ofFamily(loadBalancerIps),
        ...(sourceRanges ? { sourceRanges } : {}),
        internalPolicyLocal: spec.internalTrafficPolicy === 'Local',
        externalPolicyLocal,
        affinitySeconds,
        healthCheckNodePort,
      });
    }
  }
  const unique = new Map(ports.map(port => [port.id, port]));
  if (unique.size < ports.length)
    reader.problem('DuplicatePort', 'two ports have one name and protocol; the last counts');
  return {
    ports: unique.size < ports.length ? [...unique.values()] : ports,
    problems: reader.problems.length === 0 ? NO_PROBLEMS : reader.problems,
  };
}
