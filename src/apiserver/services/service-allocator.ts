// Cluster IPs, IP families and node ports of Services (core/v1 ServiceSpec; KEP-563 dual stack). All numbers come from
// pools in this process, so two requests can never get the same one; a number goes back when the store says that the
// Service has let it go, whichever way that came about.
import type { Service, ServicePort, ServiceSpec } from '../../api/types.ts';
import type { StatusCause } from '../../lib/errors.ts';
import { canonicalIp, ipFamily } from '../../lib/ip.ts';
import { ClusterIps } from './cluster-ips.ts';
import { NodePorts } from './node-ports.ts';

type Family = 'IPv4' | 'IPv6';
const NONE = 'None';

/** What a request reserved: kept when the write succeeds, given back when it does not. */
export interface Allocation {
  causes: StatusCause[];
  rollback(): void;
}

export class ServiceAllocator {
  readonly ranges: readonly ClusterIps[];
  readonly #nodePorts: NodePorts;

  constructor(serviceCidrs: readonly string[], nodePortRange?: string) {
    this.ranges = serviceCidrs.map(cidr => new ClusterIps(cidr));
    this.#nodePorts = new NodePorts(nodePortRange);
    if (
      this.ranges.length === 0 ||
      this.ranges.length > 2 ||
      this.ranges[0]?.family === this.ranges[1]?.family
    )
      throw new Error(`service CIDRs ${serviceCidrs.join(', ')}: expected one, or one of each IP family`);
  }

  /** Takes what an existing Service holds. Says what somebody else holds already. */
  adopt(service: Service): StatusCause[] {
    const owner = ownerOf(service);
    const causes: StatusCause[] = [];
    for (const address of heldIps(service))
      pushCause(causes, 'spec.clusterIPs', address, this.#rangeOf(address)?.reserve(address, owner));
    for (const port of heldPorts(service))
      pushCause(causes, 'spec.ports', port, this.#nodePorts.reserve(port, owner));
    return causes;
  }

  /** Gives back what `before` held and `after` does not. */
  release(before: Service, after: Service | undefined): void {
    const owner = ownerOf(before);
    const keptIps = new Set(after ? heldIps(after) : []);
    const keptPorts = new Set(after ? heldPorts(after) : []);
    for (const address of heldIps(before))
      if (!keptIps.has(address)) this.#rangeOf(address)?.release(address, owner);
    for (const port of heldPorts(before)) if (!keptPorts.has(port)) this.#nodePorts.release(port, owner);
  }

  /** Completes the spec of a Service that is about to be written. Changes `service` in place. */
  allocate(service: Service, old?: Service): Allocation {
    const spec = service.spec;
    const causes: StatusCause[] = [];
    const undo: (() => void)[] = [];
    if (spec) {
      if (old?.spec) inherit(spec, old.spec);
      if (spec.type === 'ExternalName') clearAddresses(spec);
      else this.#allocateAddresses(service, spec, old, causes, undo);
      this.#allocatePorts(service, spec, old, causes, undo);
    }
    const rollback = () => {
      for (const step of undo.splice(0)) step();
    };
    if (causes.length > 0) rollback();
    return { causes, rollback };
  }

  #allocateAddresses(
    service: Service,
    spec: ServiceSpec,
    old: Service | undefined,
    causes: StatusCause[],
    undo: (() => void)[],
  ): void {
    const families = this.#families(spec, causes);
    if (causes.length > 0) return;
    spec.ipFamilies = families;
    spec.ipFamilyPolicy ??= 'SingleStack';
    if (spec.clusterIP === NONE || spec.clusterIPs?.[0] === NONE) {
      spec.clusterIP = NONE;
      spec.clusterIPs = [NONE];
      return;
    }
    const owner = ownerOf(service);
    const held = new Set(old ? heldIps(old) : []);
    const wanted = spec.clusterIPs?.length ? [...spec.clusterIPs] : spec.clusterIP ? [spec.clusterIP] : [];
    if (spec.clusterIP && wanted[0] !== spec.clusterIP)
      pushCause(causes, 'spec.clusterIPs', wanted, 'first value must match `clusterIP`');
    spec.clusterIPs = families.map((family, index) => {
      const range = this.ranges.find(each => each.family === family)!;
      const asked = wanted[index];
      if (asked !== undefined && held.has(asked)) return asked;
      if (asked === undefined) {
        const address = range.take(owner);
        if (address === undefined) {
          pushCause(causes, 'spec.clusterIPs', '', 'failed to allocate IP: range is full');
          return '';
        }
        undo.push(() => range.release(address, owner));
        return address;
      }
      const canonical = canonicalIp(asked);
      const refusal =
        canonical === undefined ? 'must be a valid IP address' : range.reserve(canonical, owner);
      if (refusal) pushCause(causes, `spec.clusterIPs[${index}]`, asked, refusal);
      else undo.push(() => range.release(canonical!, owner));
      return canonical ?? asked;
    });
    spec.clusterIP = spec.clusterIPs[0];
  }

  /** KEP-563: families from what was asked, the addresses given, and what the cluster has. */
  #families(spec: ServiceSpec, causes: StatusCause[]): Family[] {
    const cluster = this.ranges.map(range => range.family);
    const given = (spec.clusterIPs?.length ? spec.clusterIPs : spec.clusterIP ? [spec.clusterIP] : [])
      .filter(address => address !== NONE)
      .map(address => (ipFamily(address) === 6 ? 'IPv6' : 'IPv4') as Family);
    const families = [...((spec.ipFamilies as Family[] | undefined) ?? [])];
    for (const [index, family] of given.entries()) {
      families[index] ??= family;
      if (families[index] !== family)
        pushCause(
          causes,
          `spec.clusterIPs[${index}]`,
          spec.clusterIPs?.[index] ?? spec.clusterIP,
          `expected an ${families[index]} value as indicated by \`ipFamilies[${index}]\``,
        );
    }
    if (families.length === 0) {
      families.push(cluster[0]!);
      // A headless Service without selector may be backed by anything: it gets both families (KEP-563).
      const open = spec.clusterIP === NONE && Object.keys(spec.selector ?? {}).length === 0;
      if (open && spec.ipFamilyPolicy === undefined) {
        spec.ipFamilyPolicy = cluster.length > 1 ? 'RequireDualStack' : 'SingleStack';
      }
    }
    if (families.length === 2) spec.ipFamilyPolicy ??= 'RequireDualStack';
    const policy = spec.ipFamilyPolicy ?? 'SingleStack';
    for (const [index, family] of families.entries())
      if (!cluster.includes(family))
        pushCause(causes, `spec.ipFamilies[${index}]`, family, 'not configured on this cluster');
    if (policy === 'RequireDualStack' && cluster.length < 2)
      pushCause(
        causes,
        'spec.ipFamilyPolicy',
        policy,
        'this cluster is not configured for dual-stack services',
      );
    if (policy === 'SingleStack') {
      if (families.length > 1 && spec.ipFamilyPolicy === 'SingleStack')
        pushCause(causes, 'spec.ipFamilyPolicy', policy, 'may only hold up to 1 value');
      return families.slice(0, 1);
    }
    for (const family of cluster) if (!families.includes(family)) families.push(family);
    return families;
  }

  #allocatePorts(
    service: Service,
    spec: ServiceSpec,
    old: Service | undefined,
    causes: StatusCause[],
    undo: (() => void)[],
  ): void {
    const owner = ownerOf(service);
    const held = new Set(old ? heldPorts(old) : []);
    const mine = new Map<number, string>();
    const takePort = (): number | undefined => {
      const port = this.#nodePorts.take(owner);
      if (port !== undefined) undo.push(() => this.#nodePorts.release(port, owner));
      return port;
    };
    const reservePort = (port: number, field: string): void => {
      if (held.has(port)) return;
      const refusal = this.#nodePorts.reserve(port, owner);
      if (refusal) pushCause(causes, field, port, refusal);
      else undo.push(() => this.#nodePorts.release(port, owner));
    };
    const ports = spec.ports ?? [];
    for (const [index, port] of ports.entries()) {
      if (!usesNodePorts(spec) || !port.nodePort) continue;
      const field = `spec.ports[${index}].nodePort`;
      const protocol = port.protocol ?? 'TCP';
      if (mine.get(port.nodePort)?.split(' ').includes(protocol))
        pushCause(causes, field, port.nodePort, 'duplicate node port');
      else if (mine.has(port.nodePort)) mine.set(port.nodePort, `${mine.get(port.nodePort)} ${protocol}`);
      else {
        reservePort(port.nodePort, field);
        mine.set(port.nodePort, protocol);
      }
    }
    if (needsNodePorts(spec))
      for (const [index, port] of ports.entries()) {
        if (port.nodePort) continue;
        port.nodePort = sharedPort(ports, port) ?? takePort();
        if (port.nodePort === undefined) {
          delete port.nodePort;
          pushCause(
            causes,
            `spec.ports[${index}].nodePort`,
            0,
            'failed to allocate a nodePort: range is full',
          );
        }
      }
    if (spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local') {
      if (spec.healthCheckNodePort) reservePort(spec.healthCheckNodePort, 'spec.healthCheckNodePort');
      else spec.healthCheckNodePort = takePort();
    } else delete spec.healthCheckNodePort;
  }

  #rangeOf(address: string): ClusterIps | undefined {
    return this.ranges.find(range => range.contains(address));
  }
}

const ownerOf = (service: Service): string => `${service.metadata?.namespace}/${service.metadata?.name}`;

const usesNodePorts = (spec: ServiceSpec): boolean =>
  spec.type === 'NodePort' || spec.type === 'LoadBalancer';

const needsNodePorts = (spec: ServiceSpec): boolean =>
  spec.type === 'NodePort' || (spec.type === 'LoadBalancer' && spec.allocateLoadBalancerNodePorts !== false);

/** The same service port over another protocol may share its node port. */
function sharedPort(ports: readonly ServicePort[], port: ServicePort): number | undefined {
  return ports.find(
    other =>
      other.nodePort && other.port === port.port && (other.protocol ?? 'TCP') !== (port.protocol ?? 'TCP'),
  )?.nodePort;
}

function heldIps(service: Service): string[] {
  const { spec } = service;
  if (!spec || spec.type === 'ExternalName') return [];
  const all = spec.clusterIPs?.length ? spec.clusterIPs : [spec.clusterIP ?? ''];
  return all.filter(address => address !== '' && address !== NONE);
}

function heldPorts(service: Service): number[] {
  const { spec } = service;
  if (!spec) return [];
  const ports = (spec.ports ?? []).flatMap(port => (port.nodePort ? [port.nodePort] : []));
  if (spec.healthCheckNodePort) ports.push(spec.healthCheckNodePort);
  return [...new Set(ports)];
}

/** Fields that only mean something for some types; a change of type drops those that were left as they were. */
function dropForeignFields(spec: ServiceSpec, old: ServiceSpec): void {
  const balanced = spec.type === 'LoadBalancer';
  const external = usesNodePorts(spec) || (spec.externalIPs?.length ?? 0) > 0;
  const keep: Partial<Record<keyof ServiceSpec, boolean>> = {
    externalTrafficPolicy: external,
    allocateLoadBalancerNodePorts: balanced,
    loadBalancerClass: balanced,
    externalName: spec.type === 'ExternalName',
  };
  for (const [name, kept] of Object.entries(keep)) {
    const field = name as keyof ServiceSpec;
    if (!kept && spec[field] === old[field]) delete spec[field];
  }
}

/** An update that says nothing of addresses and ports keeps what the Service has. */
function inherit(spec: ServiceSpec, old: ServiceSpec): void {
  dropForeignFields(spec, old);
  if (spec.type !== 'ExternalName' && old.type !== 'ExternalName') {
    if (!spec.clusterIP && !spec.clusterIPs?.length) {
      spec.clusterIP = old.clusterIP;
      if (old.clusterIPs) spec.clusterIPs = [...old.clusterIPs];
    }
    if (!spec.ipFamilies?.length && old.ipFamilies && spec.ipFamilyPolicy === undefined)
      spec.ipFamilyPolicy = old.ipFamilyPolicy;
    if (!spec.ipFamilies?.length && old.ipFamilies) spec.ipFamilies = [...old.ipFamilies];
    trimFamilies(spec);
  }
  if (usesNodePorts(spec)) {
    if (usesNodePorts(old))
      for (const port of spec.ports ?? []) {
        const before = old.ports?.find(
          each => each.port === port.port && (each.protocol ?? 'TCP') === (port.protocol ?? 'TCP'),
        );
        if (!port.nodePort && before?.nodePort && needsNodePorts(spec)) port.nodePort = before.nodePort;
      }
    if (!spec.healthCheckNodePort && old.healthCheckNodePort)
      spec.healthCheckNodePort = old.healthCheckNodePort;
  } else
    for (const port of spec.ports ?? [])
      if (port.nodePort && old.ports?.some(each => each.nodePort === port.nodePort)) delete port.nodePort;
}

/** Going back to one family drops the second address. */
function trimFamilies(spec: ServiceSpec): void {
  if (spec.ipFamilyPolicy !== 'SingleStack') return;
  spec.ipFamilies = spec.ipFamilies?.slice(0, 1);
  spec.clusterIPs = spec.clusterIPs?.slice(0, 1);
}

function clearAddresses(spec: ServiceSpec): void {
  delete spec.clusterIP;
  delete spec.clusterIPs;
  delete spec.ipFamilies;
  delete spec.ipFamilyPolicy;
}

function pushCause(causes: StatusCause[], field: string, value: unknown, why: string | undefined): void {
  if (why === undefined) return;
  causes.push({
    reason: 'FieldValueInvalid',
    field,
    message: `Invalid value: ${JSON.stringify(value)}: ${why}`,
  });
}
