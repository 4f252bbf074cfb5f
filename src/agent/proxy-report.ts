// What a node's service proxy tells people: its state, its Services, and what in the kernel is not as it should be.
// `podwire proxy` asks for it, at the agent of a lab's node or at the stand-alone kube-proxy's metrics address.
import type { Difference } from '../../proxy/backend/backend.ts';
import { type Endpoint, joinHostPort, type ResolvedPort } from '../../proxy/model/types.ts';
import type { ServiceProxy } from '../../proxy/proxy.ts';
import { describeOperation } from '../kernel/diff.ts';
import type { KernelReconciler, Repair } from '../kernel/reconciler.ts';

export interface ProxyStatus {
  node: string;
  mode: string;
  /** By which means the rules get into the kernel, and why. */
  backend: string;
  families: readonly number[];
  /** What was desired first reached the kernel and was compared with it. */
  ready: boolean;
  /** What /healthz answers; absent where nobody serves it. */
  healthz?: number;
  lastSync?: { at: string; full: boolean; durationMs: number; changedPorts: number };
  lastFailure?: { at: string; message: string };
  /** When everything was last compared with the kernel. */
  lastVerified?: string;
  services: number;
  servicePorts: number;
  endpoints: number;
  /** Service ports that refuse traffic, for want of endpoints. */
  withoutEndpoints: number;
  /** Put back after somebody else had changed it, since the start. */
  repairs: { count: number; last?: { at: string; what: string } };
  problems: string[];
}

export interface ReportedEndpoint {
  address: string;
  state: 'ready' | 'terminating' | 'not ready';
  local: boolean;
  /** Whether a policy may choose it on this node. */
  used: boolean;
}

/** One port of one Service in one family. */
export interface ReportedPort {
  service: string;
  name: string;
  protocol: string;
  /** Cluster IP first, then external and load balancer addresses, then the node port. */
  addresses: string[];
  internalPolicy: 'Cluster' | 'Local';
  externalPolicy: 'Cluster' | 'Local';
  affinitySeconds: number;
  sourceRanges?: readonly string[];
  healthCheckNodePort?: number;
  endpoints: ReportedEndpoint[];
  internalRefusal?: string;
  externalRefusal?: string;
  /** Chains, elements or listeners, as the kernel's own tools name them. */
  servedBy: string[];
}

export interface ProxyReportOptions {
  node: string;
  /** Undefined before there is one. */
  proxy: () => ServiceProxy | undefined;
  reconciler: () => KernelReconciler | undefined;
  healthz?: () => number;
}

/** Which Services are asked for: `default/web`, or all of a namespace. */
export interface ServiceFilter {
  service?: string | undefined;
  namespace?: string | undefined;
}

/** `?service=default/web&namespace=default` */
export function serviceFilter(query: URLSearchParams): ServiceFilter {
  return {
    service: query.get('service') ?? undefined,
    namespace: query.get('namespace') ?? undefined,
  };
}

function time(ms: number): string {
  return new Date(ms).toISOString();
}

export class ProxyReport {
  readonly #options: ProxyReportOptions;
  #repairs: ProxyStatus['repairs'] = { count: 0 };

  constructor(options: ProxyReportOptions) {
    this.#options = options;
  }

  repaired(what: string): void {
    this.#repairs = { count: this.#repairs.count + 1, last: { at: time(Date.now()), what } };
  }

  /** As `repaired`, of those repairs that are the proxy's. */
  reconciled({ rooms, text }: Repair): void {
    if (rooms.includes('proxy')) this.repaired(text);
  }

  async status(): Promise<ProxyStatus> {
    const { node, healthz } = this.#options;
    const proxy = this.#options.proxy();
    const services = new Set<string>();
    const counts = { servicePorts: 0, endpoints: 0, withoutEndpoints: 0 };
    for (const { port, reachable, hasEndpoints } of proxy?.ports() ?? []) {
      services.add(port.service);
      counts.servicePorts++;
      counts.endpoints += reachable.length;
      if (!hasEndpoints) counts.withoutEndpoints++;
    }
    const { lastSync, lastFailure } = proxy ?? {};
    const verified = this.#verifiedAt(proxy);
    return {
      node,
      mode: proxy?.mode ?? 'none',
      backend: await this.#backend(proxy),
      families: proxy?.families ?? [],
      ready: proxy?.ready ?? false,
      ...(healthz ? { healthz: healthz() } : {}),
      ...(lastSync
        ? {
            lastSync: {
              at: time(lastSync.at),
              full: lastSync.result.full,
              durationMs: Math.round(lastSync.result.durationMs * 10) / 10,
              changedPorts: lastSync.result.changedPorts,
            },
          }
        : {}),
      ...(lastFailure ? { lastFailure: { at: time(lastFailure.at), message: lastFailure.message } } : {}),
      ...(verified === undefined ? {} : { lastVerified: time(verified) }),
      services: services.size,
      ...counts,
      repairs: this.#repairs,
      problems: (proxy?.problems() ?? []).map(
        ({ kind, namespace, name, message }) => `${kind} ${namespace ?? ''}/${name}: ${message}`,
      ),
    };
  }

  services({ service, namespace }: ServiceFilter): ReportedPort[] {
    const proxy = this.#options.proxy();
    if (!proxy) return [];
    const reports: ReportedPort[] = [];
    for (const resolved of proxy.ports()) {
      const key = resolved.port.service;
      if (service !== undefined && key !== service) continue;
      if (namespace !== undefined && !key.startsWith(`${namespace}/`)) continue;
      reports.push(reportPort(resolved, proxy));
    }
    const order = ({ name, addresses }: ReportedPort): string => `${name} ${addresses[0]}`;
    return reports.sort((left, right) => (order(left) < order(right) ? -1 : 1));
  }

  /** What would have to be done to the kernel for the proxy's part; empty when it is as desired. */
  async diff(): Promise<Difference[]> {
    const operations = (await this.#options.reconciler()?.diff('proxy')) ?? [];
    const others = (await this.#options.proxy()?.diff()) ?? [];
    return [...operations.map(operation => ({ what: describeOperation(operation) })), ...others];
  }

  /** The older of the two halves: what the reconciler keeps, and what the mode keeps by itself. */
  #verifiedAt(proxy: ServiceProxy | undefined): number | undefined {
    const reconciler = this.#options.reconciler()?.verifiedAt;
    if (proxy?.mode !== 'nftables') return reconciler;
    const own = proxy.verifiedAt;
    return own === undefined || reconciler === undefined ? undefined : Math.min(own, reconciler);
  }

  async #backend(proxy: ServiceProxy | undefined): Promise<string> {
    if (proxy?.mode === 'nftables') return 'netlink, table podwire-proxy';
    const choice = await this.#options.reconciler()?.iptables();
    const rules = choice ? `iptables-${choice.backend} (${choice.reason})` : 'nothing written yet';
    return proxy?.mode === 'userspace' ? `relay, ${rules}` : rules;
  }
}

function reportPort(resolved: ResolvedPort, proxy: ServiceProxy): ReportedPort {
  const { port, reachable, internalRefusal, externalRefusal } = resolved;
  const used = new Set(reachable.map(({ ip, port: number }) => joinHostPort(ip, number)));
  const outside = [...port.externalIps, ...port.loadBalancerIps].map(ip => joinHostPort(ip, port.port));
  const nodePort = port.nodePort === 0 ? [] : [`*:${port.nodePort}`];
  const policy = (local: boolean) => (local ? 'Local' : 'Cluster');
  return {
    service: port.service,
    name: port.name,
    protocol: port.protocol,
    addresses: [joinHostPort(port.clusterIp, port.port), ...outside, ...nodePort],
    internalPolicy: policy(port.internalPolicyLocal),
    externalPolicy: policy(port.externalPolicyLocal),
    affinitySeconds: port.affinitySeconds,
    ...(port.sourceRanges ? { sourceRanges: port.sourceRanges } : {}),
    ...(port.healthCheckNodePort === 0 ? {} : { healthCheckNodePort: port.healthCheckNodePort }),
    endpoints: proxy.candidates(port).map(endpoint => {
      const address = joinHostPort(endpoint.ip, endpoint.port);
      return { address, state: stateOf(endpoint), local: endpoint.local, used: used.has(address) };
    }),
    ...(internalRefusal ? { internalRefusal } : {}),
    ...(externalRefusal && outside.length + nodePort.length > 0 ? { externalRefusal } : {}),
    servedBy: proxy.placesOf(resolved),
  };
}

function stateOf({ ready, serving, terminating }: Endpoint): ReportedEndpoint['state'] {
  if (ready) return 'ready';
  return serving && terminating ? 'terminating' : 'not ready';
}
