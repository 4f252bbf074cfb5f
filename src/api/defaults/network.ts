// Defaults of Services, Endpoints, EndpointSlices and network policies. Cluster IPs, node ports and IP families are the
// API server's allocators' to fill in.
import type { NetworkPolicy } from 'kubernetes-types/networking/v1.js';
import type { EndpointSlice, Endpoints, Service } from '../types.ts';

const CLIENT_IP_TIMEOUT_SECONDS = 10_800;

export function defaultService(service: Service): void {
  service.spec ??= {};
  const { spec } = service;
  spec.sessionAffinity ||= 'None';
  if (spec.sessionAffinity === 'ClientIP') {
    spec.sessionAffinityConfig ??= {};
    spec.sessionAffinityConfig.clientIP ??= {};
    spec.sessionAffinityConfig.clientIP.timeoutSeconds ??= CLIENT_IP_TIMEOUT_SECONDS;
  } else delete spec.sessionAffinityConfig;
  spec.type ||= 'ClusterIP';
  for (const port of spec.ports ?? []) {
    port.protocol ||= 'TCP';
    if (port.targetPort === undefined || port.targetPort === 0 || port.targetPort === '')
      port.targetPort = port.port;
  }
  if (spec.type === 'NodePort' || spec.type === 'LoadBalancer' || (spec.externalIPs ?? []).length > 0)
    spec.externalTrafficPolicy ||= 'Cluster';
  if (spec.type !== 'ExternalName') spec.internalTrafficPolicy ||= 'Cluster';
  if (spec.type === 'LoadBalancer') spec.allocateLoadBalancerNodePorts ??= true;
  for (const ingress of service.status?.loadBalancer?.ingress ?? [])
    if (spec.type === 'LoadBalancer' && ingress.ip) ingress.ipMode ??= 'VIP';
}

export function defaultEndpoints(endpoints: Endpoints): void {
  for (const { ports } of endpoints.subsets ?? []) for (const port of ports ?? []) port.protocol ||= 'TCP';
}

export function defaultEndpointSlice(slice: EndpointSlice): void {
  for (const port of slice.ports ?? []) {
    port.name ??= '';
    port.protocol ||= 'TCP';
  }
}

export function defaultNetworkPolicy(policy: NetworkPolicy): void {
  if (!policy.spec) return;
  const { ingress, egress } = policy.spec;
  for (const rule of [...(ingress ?? []), ...(egress ?? [])])
    for (const port of rule.ports ?? []) port.protocol ||= 'TCP';
  if (!policy.spec.policyTypes?.length)
    policy.spec.policyTypes = egress && egress.length > 0 ? ['Ingress', 'Egress'] : ['Ingress'];
}
