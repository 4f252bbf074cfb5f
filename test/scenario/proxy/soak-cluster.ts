// The Services of the proxy's soak: what is there, what is changed next, and which answers a change allows. One of these
// per node under test, with an API server of its own, so that a slow node delays nobody.
import type { Endpoint, EndpointSlice, Service } from '../../../src/api/types.ts';
import type { KubeClient } from '../../../src/client/client.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { endpoint } from '../../unit/proxy/object-fixtures.ts';

const NAMESPACE = 'default';
/** The pods of ProxyNode that answer TCP 80; those of this node answer UDP 53, too. */
const BACKENDS = [2, 3, 4].flatMap(n => [
  { v4: `10.244.1.${n}`, v6: `fd00:244:1::${n}`, name: `pod${n - 1}`, local: true },
  { v4: `10.244.2.${n}`, v6: `fd00:244:2::${n}`, name: `far${n - 1}`, local: false },
]);
type Backend = (typeof BACKENDS)[number];

const WEB = { name: 'web', port: 80, protocol: 'TCP' };
const DNS = { name: 'dns', port: 53, protocol: 'UDP' };

/** A Service as it is meant to be right now. */
export interface SoakService {
  readonly name: string;
  readonly dualStack: boolean;
  clusterIP: string;
  affinity: boolean;
  nodePort: boolean;
  backends: readonly Backend[];
}

/** The name of who answers at any of the backends, or how the kernel refuses when there are none. */
export function allowedAnswers(of: SoakService): string[] {
  return of.backends.length === 0 ? ['ECONNREFUSED'] : of.backends.map(({ name }) => name);
}

export class SoakCluster {
  readonly services: SoakService[] = [];
  readonly #client: KubeClient;
  readonly #random: () => number;

  constructor(client: KubeClient, random: () => number) {
    this.#client = client;
    this.#random = random;
  }

  async fill(count: number): Promise<void> {
    for (let n = 0; n < count; n++) {
      const made: SoakService = {
        name: `s${n}`,
        dualStack: n % 4 === 0,
        clusterIP: '',
        affinity: n % 7 === 0,
        nodePort: n % 10 === 0,
        backends: this.#pickBackends(),
      };
      this.services.push(made);
      await this.#create(made);
    }
  }

  /** One change at random; what was done, and to which Service. */
  async change(): Promise<{ action: string; service: SoakService }> {
    const service = this.#pick(this.services);
    const dice = this.#random();
    if (dice < 0.7) {
      service.backends = this.#pickBackends();
      for (const slice of this.#slices(service)) await this.#client.update(RESOURCE.endpointSlices, slice);
      return { action: 'endpoints', service };
    }
    if (dice < 0.8) {
      await this.#delete(service);
      await this.#create(service);
      return { action: 'made anew', service };
    }
    if (dice < 0.9) service.affinity = !service.affinity;
    else service.nodePort = !service.nodePort;
    const stored = await this.#client.get(RESOURCE.services, service.name, NAMESPACE);
    const spec = { ...stored.spec, ...this.#spec(service) };
    if (!service.nodePort) spec.ports = [WEB, DNS];
    await this.#client.update(RESOURCE.services, { ...stored, spec });
    return { action: dice < 0.9 ? 'affinity' : 'node port', service };
  }

  #pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.#random() * list.length)]!;
  }

  #pickBackends(): Backend[] {
    return this.#random() < 0.1 ? [] : BACKENDS.filter(() => this.#random() < 0.5);
  }

  #spec({ affinity, nodePort, dualStack }: SoakService): NonNullable<Service['spec']> {
    return {
      type: nodePort ? 'NodePort' : 'ClusterIP',
      ports: [WEB, DNS],
      sessionAffinity: affinity ? 'ClientIP' : 'None',
      ipFamilyPolicy: dualStack ? 'PreferDualStack' : 'SingleStack',
    };
  }

  #slices({ name, backends, dualStack }: SoakService): EndpointSlice[] {
    const make = (family: 'v4' | 'v6'): EndpointSlice => ({
      metadata: {
        name: `${name}-${family}`,
        namespace: NAMESPACE,
        labels: { 'kubernetes.io/service-name': name },
      },
      addressType: family === 'v4' ? 'IPv4' : 'IPv6',
      endpoints: backends.map<Endpoint>(one => endpoint(one[family], { node: one.local ? 'node' : 'far' })),
      ports: [WEB, DNS],
    });
    return dualStack ? [make('v4'), make('v6')] : [make('v4')];
  }

  async #create(service: SoakService): Promise<void> {
    const made = await this.#client.create(RESOURCE.services, {
      metadata: { name: service.name, namespace: NAMESPACE },
      spec: this.#spec(service),
    });
    service.clusterIP = made.spec?.clusterIP ?? '';
    for (const slice of this.#slices(service)) await this.#client.create(RESOURCE.endpointSlices, slice);
  }

  async #delete(service: SoakService): Promise<void> {
    await this.#client.delete(RESOURCE.services, service.name, { namespace: NAMESPACE });
    for (const { metadata } of this.#slices(service))
      await this.#client.delete(RESOURCE.endpointSlices, metadata?.name ?? '', { namespace: NAMESPACE });
  }
}
