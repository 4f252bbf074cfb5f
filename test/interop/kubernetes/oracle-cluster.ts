// Random Services and EndpointSlices as kube-apiserver 1.20 accepts them, for the comparison of proxies.
import fc from 'fast-check';
import type { EndpointSlice, Service } from '../../../src/api/types.ts';
import { endpoint, service, slice } from '../../unit/proxy/object-fixtures.ts';

export const NAMESPACE = 'oracle';
export const POD_NAMES = new Map([
  ['10.244.1.2', 'pod1'],
  ['10.244.1.3', 'pod2'],
  ['10.244.1.4', 'pod3'],
  ['10.244.2.2', 'far1'],
  ['10.244.2.3', 'far2'],
  ['10.244.2.4', 'far3'],
]);
const PORT = { name: 'web', port: 80, protocol: 'TCP' };

export type TargetKind = 'clusterIP' | 'unknownPort' | 'externalIP' | 'loadBalancer' | 'nodePort';

export interface Target {
  kind: TargetKind;
  /** `oracle/s0` */
  service: string;
  address: string;
  port: number;
}

export interface OracleCluster {
  services: Service[];
  slices: EndpointSlice[];
  targets: Target[];
}

const arbitraryEndpoint = fc
  .record({
    ip: fc.constantFrom(...POD_NAMES.keys()),
    state: fc.constantFrom('ready', 'ready', 'ready', 'not ready', 'terminating'),
  })
  .map(({ ip, state }) =>
    endpoint(ip, {
      ready: state === 'ready',
      serving: state !== 'not ready',
      terminating: state === 'terminating',
      node: ip.startsWith('10.244.1.') ? 'node' : 'far',
    }),
  );

const arbitraryService = fc.record({
  type: fc.constantFrom('ClusterIP', 'NodePort', 'LoadBalancer', 'LoadBalancer'),
  externalTrafficPolicy: fc.constantFrom('Cluster', 'Local'),
  sessionAffinity: fc.constantFrom('None', 'None', 'ClientIP'),
  externalIPs: fc.boolean(),
  ranges: fc.constantFrom([], [], ['10.7.0.0/24'], ['10.9.0.0/24'], ['10.244.0.0/16'], ['192.0.2.0/24']),
  endpoints: fc.uniqueArray(arbitraryEndpoint, { maxLength: 4, selector: one => one.addresses[0] }),
});

export function randomCluster(seed: number, nodeAddress: string): OracleCluster {
  const cluster: OracleCluster = { services: [], slices: [], targets: [] };
  const specs = fc.sample(arbitraryService, { numRuns: 7, seed });
  for (const [n, { externalIPs, ranges, endpoints, externalTrafficPolicy, ...spec }] of specs.entries()) {
    const key = `${NAMESPACE}/s${seed}-${n}`;
    const clusterIP = `10.96.7.${n + 1}`;
    const external = `198.51.100.${n + 1}`;
    const balancer = `198.51.100.${n + 101}`;
    // Of its own: 1.20 cannot take a node port over from a Service that goes in the same moment.
    const nodePort = 31_000 + (seed % 80) * 10 + n;
    const exposed = spec.type !== 'ClusterIP';
    const balanced = spec.type === 'LoadBalancer';
    cluster.services.push(
      service(key, {
        ...spec,
        clusterIP,
        ports: [{ ...PORT, ...(exposed ? { nodePort } : {}) }],
        externalIPs: externalIPs ? [external] : [],
        ...(exposed ? { externalTrafficPolicy } : {}),
        ...(balanced ? { loadBalancer: [{ ip: balancer }], loadBalancerSourceRanges: [...ranges] } : {}),
      }),
    );
    cluster.slices.push({ ...slice(key, endpoints, [PORT]), addressType: 'IPv4' });
    const add = (kind: TargetKind, address: string, port: number): void =>
      void cluster.targets.push({ kind, service: key, address, port });
    add('clusterIP', clusterIP, 80);
    add('unknownPort', clusterIP, 81);
    if (externalIPs) add('externalIP', external, 80);
    if (balanced) add('loadBalancer', balancer, 80);
    if (exposed) add('nodePort', nodeAddress, nodePort);
  }
  return cluster;
}
