// The service model: Services, EndpointSlices and this node in, service ports with chosen endpoints out. It is
// incremental: a change costs what its Service's endpoints cost, never what all Services cost. Pure: no I/O, no clock.
import type { EndpointSlice, Service } from '../../src/api/types.ts';
import type { Problem } from '../../src/lib/problem.ts';
import { Claims } from './claims.ts';
import { endpointsOf, type ParsedSlice, parseSlice, type SlicePort } from './endpoints.ts';
import { parseService, serviceKey } from './services.ts';
import { type NodeTopology, resolvePort } from './topology.ts';
import type { Endpoint, Family, ResolvedPort, ServicePort } from './types.ts';

interface ServiceEntry {
  ports: readonly ServicePort[];
  problems: readonly Problem[];
}

/** Of `namespace/name`. */
function partsOf(key: string): { namespace: string; name: string } {
  const [namespace = '', name = ''] = key.split('/');
  return { namespace, name };
}

/** Lists of ports that are alike are kept once; above so many different ones they are begun anew. */
const SHARED_LISTS = 1000;

/** What one `update()` changed. */
export interface ModelChanges {
  /** By service port id; undefined when it is gone. */
  ports: Map<string, ResolvedPort | undefined>;
  /** Services touched, for metrics and Events. */
  services: Set<string>;
}

export interface HealthCheck {
  namespace: string;
  name: string;
  port: number;
  localEndpoints: number;
}

/** The addresses and ports a service port wants, with the field that names each. */
function claimsOf(port: ServicePort): { claim: string; field: string; address: string | number }[] {
  const at = (ip: string): string => [ip, port.protocol, port.port].join(' ');
  return [
    { claim: at(port.clusterIp), field: 'clusterIP', address: port.clusterIp },
    ...port.externalIps.map(ip => ({ claim: at(ip), field: 'externalIP', address: ip })),
    ...port.loadBalancerIps.map(ip => ({ claim: at(ip), field: 'load balancer IP', address: ip })),
    ...(port.nodePort
      ? [
          {
            claim: `${port.family} ${port.protocol} ${port.nodePort}`,
            field: 'nodePort',
            address: port.nodePort,
          },
        ]
      : []),
  ];
}

function keep(set: Set<string>, key: string, wanted: boolean): void {
  if (wanted) set.add(key);
  else set.delete(key);
}

export class ServiceModel {
  #node: NodeTopology;
  #families: readonly Family[];
  readonly #services = new Map<string, ServiceEntry>();
  readonly #slices = new Map<string, ParsedSlice[]>();
  readonly #serviceOfSlice = new Map<string, string>();
  readonly #portLists = new Map<string, readonly SlicePort[]>();
  readonly #claims = new Claims();
  /** Which Service a service port id belongs to: claims know ids only. */
  readonly #resolved = new Map<string, readonly ResolvedPort[]>();
  readonly #conflicts = new Map<string, Problem[]>();
  // Few among very many, which are asked for after each change.
  readonly #badServices = new Set<string>();
  readonly #badSlices = new Set<string>();
  readonly #healthChecked = new Set<string>();
  readonly #dirty = new Set<string>();

  constructor(node: NodeTopology, families: readonly Family[] = [4, 6]) {
    this.#node = node;
    this.#families = families;
  }

  get serviceCount(): number {
    return this.#services.size;
  }

  /** `namespace/name` of all Services. */
  serviceKeys(): Iterable<string> {
    return this.#services.keys();
  }

  /** `namespace/name` of all slices that belong to a Service of ours. */
  sliceKeys(): Iterable<string> {
    return this.#serviceOfSlice.keys();
  }

  /** For another reader of changes, who knows nothing yet: the next `update()` has everything. */
  startAnew(families: readonly Family[]): void {
    this.#families = families;
    this.#resolved.clear();
    for (const key of this.#services.keys()) this.#dirty.add(key);
  }

  /** The zone may change, the name does not. */
  setNode(node: NodeTopology): void {
    if (node.name === this.#node.name && node.zone === this.#node.zone) return;
    this.#node = node;
    for (const key of this.#services.keys()) this.#dirty.add(key);
  }

  upsertService(service: Service): void {
    const { namespace = '', name = '', creationTimestamp = '' } = service.metadata ?? {};
    const key = serviceKey(namespace, name);
    const parsed = parseService(service);
    this.#release(key);
    const since = String(creationTimestamp);
    const { ports } = parsed;
    this.#services.set(key, { ports, problems: parsed.problems });
    keep(this.#badServices, key, parsed.problems.length > 0);
    keep(
      this.#healthChecked,
      key,
      ports.some(port => port.healthCheckNodePort !== 0),
    );
    for (const port of ports) {
      const claimant = { id: port.id, since };
      for (const { claim } of claimsOf(port))
        for (const loser of this.#claims.add(claim, claimant)) this.#dirtyPort(loser);
    }
    this.#dirty.add(key);
  }

  deleteService(namespace: string, name: string): void {
    const key = serviceKey(namespace, name);
    this.#release(key);
    this.#badServices.delete(key);
    this.#healthChecked.delete(key);
    if (this.#services.delete(key)) this.#dirty.add(key);
  }

  upsertSlice(slice: EndpointSlice): void {
    const id = serviceKey(slice.metadata?.namespace, slice.metadata?.name);
    const parsed = parseSlice(slice, this.#node.name);
    const before = this.#serviceOfSlice.get(id);
    if (before !== undefined && before !== parsed?.service) this.#dropSlice(id, before);
    if (!parsed) return;
    const others = (this.#slices.get(parsed.service) ?? []).filter(other => other.id !== id);
    parsed.ports = this.#shared(parsed.ports);
    if (others.length === 0) this.#slices.set(parsed.service, [parsed]);
    else this.#slices.set(parsed.service, [...others, parsed]);
    this.#serviceOfSlice.set(id, parsed.service);
    keep(this.#badSlices, id, parsed.problems.length > 0);
    this.#dirty.add(parsed.service);
  }

  #shared(ports: readonly SlicePort[]): readonly SlicePort[] {
    const text = ports.map(({ name, protocol, port }) => `${name} ${protocol} ${port}`).join();
    const known = this.#portLists.get(text);
    if (known) return known;
    if (this.#portLists.size >= SHARED_LISTS) this.#portLists.clear();
    this.#portLists.set(text, ports);
    return ports;
  }

  deleteSlice(namespace: string, name: string): void {
    const id = serviceKey(namespace, name);
    const service = this.#serviceOfSlice.get(id);
    if (service !== undefined) this.#dropSlice(id, service);
  }

  get hasChanges(): boolean {
    return this.#dirty.size > 0;
  }

  /** Resolves what changed since the last call. An unchanged port keeps its object, so that planners can memoise by it. */
  update(): ModelChanges {
    const changes: ModelChanges = { ports: new Map(), services: new Set(this.#dirty) };
    for (const key of this.#dirty) this.#resolve(key, changes.ports);
    this.#dirty.clear();
    return changes;
  }

  /** All service ports, in no particular order. */
  *ports(): Iterable<ResolvedPort> {
    for (const ports of this.#resolved.values()) yield* ports;
  }

  /** Every endpoint of a service port, also those that no policy may use: for explanations. */
  candidates(port: ServicePort): readonly Endpoint[] {
    const portName = port.name.slice(port.service.length + 1);
    return endpointsOf(this.#slices.get(port.service) ?? [], port.family, portName, port.protocol);
  }

  portsOf(service: string): Iterable<ResolvedPort> {
    return this.#resolved.get(service) ?? [];
  }

  /** Services with a health check port and the number of their local ready endpoints. */
  *healthChecks(): Iterable<HealthCheck> {
    for (const key of this.#healthChecked) {
      const entry = this.#services.get(key);
      if (!entry) continue;
      const port = entry.ports.find(candidate => candidate.healthCheckNodePort !== 0)?.healthCheckNodePort;
      if (!port) continue;
      const local = new Set<string>();
      for (const slice of this.#slices.get(key) ?? [])
        for (const endpoint of slice.endpoints) if (endpoint.ready && endpoint.local) local.add(endpoint.ip);
      yield { ...partsOf(key), port, localEndpoints: local.size };
    }
  }

  /** Everything wrong in what was given so far. */
  problems(): Problem[] {
    const all: Problem[] = [];
    for (const key of this.#badServices) all.push(...(this.#services.get(key)?.problems ?? []));
    for (const id of this.#badSlices) {
      const service = this.#serviceOfSlice.get(id) ?? '';
      all.push(...(this.#slices.get(service)?.find(slice => slice.id === id)?.problems ?? []));
    }
    for (const conflicts of this.#conflicts.values()) all.push(...conflicts);
    return all;
  }

  #release(key: string): void {
    for (const port of this.#services.get(key)?.ports ?? [])
      for (const { claim } of claimsOf(port))
        for (const heir of this.#claims.remove(claim, port.id)) this.#dirtyPort(heir);
  }

  #dirtyPort(id: string): void {
    // An id is `<family> <namespace>/<name>[:<port>] <protocol>`; names have no colon and no space.
    const service = id.split(' ')[1]?.split(':')[0];
    if (service !== undefined) this.#dirty.add(service);
  }

  #dropSlice(id: string, service: string): void {
    this.#serviceOfSlice.delete(id);
    this.#badSlices.delete(id);
    const rest = (this.#slices.get(service) ?? []).filter(slice => slice.id !== id);
    if (rest.length === 0) this.#slices.delete(service);
    else this.#slices.set(service, rest);
    this.#dirty.add(service);
  }

  /** The port without the addresses that an older Service holds; undefined when its cluster IP is among them. */
  #withoutConflicts(port: ServicePort, problems: Problem[]): ServicePort | undefined {
    const lost = claimsOf(port).filter(({ claim }) => this.#claims.owner(claim) !== port.id);
    if (lost.length === 0) return port;
    for (const { claim, field, address } of lost)
      problems.push({
        kind: 'Service',
        ...partsOf(port.service),
        reason: 'ServiceConflict',
        message: `${field} ${address} of port ${port.name} belongs to ${this.#claims.owner(claim)?.split(' ')[1]}, which is older; ignored here`,
      });
    const without = (field: string): Set<string | number> =>
      new Set(lost.filter(entry => entry.field === field).map(entry => entry.address));
    if (without('clusterIP').size > 0) return undefined;
    return {
      ...port,
      nodePort: without('nodePort').size > 0 ? 0 : port.nodePort,
      externalIps: port.externalIps.filter(ip => !without('externalIP').has(ip)),
      loadBalancerIps: port.loadBalancerIps.filter(ip => !without('load balancer IP').has(ip)),
    };
  }

  #resolve(key: string, changed: ModelChanges['ports']): void {
    const before = this.#resolved.get(key) ?? [];
    const after: ResolvedPort[] = [];
    const entry = this.#services.get(key);
    const conflicts: Problem[] = [];
    const slices = this.#slices.get(key) ?? [];
    for (const claimed of entry?.ports ?? []) {
      if (!this.#families.includes(claimed.family)) continue;
      const port = this.#withoutConflicts(claimed, conflicts);
      if (!port) continue;
      const portName = port.name.slice(key.length + 1);
      const endpoints = endpointsOf(slices, port.family, portName, port.protocol);
      const resolved = resolvePort(port, endpoints, this.#node);
      const old = before.find(other => other.port.id === port.id);
      const same = old !== undefined && JSON.stringify(old) === JSON.stringify(resolved);
      after.push(same ? old : resolved);
      if (!same) changed.set(port.id, resolved);
    }
    for (const { port } of before)
      if (!after.some(other => other.port.id === port.id)) changed.set(port.id, undefined);
    if (after.length > 0) this.#resolved.set(key, after);
    else this.#resolved.delete(key);
    if (conflicts.length > 0) this.#conflicts.set(key, conflicts);
    else this.#conflicts.delete(key);
  }
}
