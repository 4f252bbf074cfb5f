// Services, Endpoints, EndpointSlices (pkg/apis/core/validation, pkg/apis/discovery/validation).
import { parseCidr } from '../../lib/cidr.ts';
import { ipFamily, isLinkLocal, isLoopback, isUnspecified, parseIp } from '../../lib/ip.ts';
import { checkDns1123Label, checkDns1123Subdomain, checkPortName } from '../names.ts';
import type { EndpointSlice, Endpoints, Service, ServiceSpec } from '../types.ts';
import { PROTOCOLS, validatePortOrName } from './container.ts';
import type { FieldPath } from './field.ts';
import { validateLabels } from './metadata.ts';

const SERVICE_TYPES = ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'];
const TRAFFIC_POLICIES = ['Cluster', 'Local'];
const ADDRESS_TYPES = ['FQDN', 'IPv4', 'IPv6'];
const MAX_ENDPOINTS = 1000;
const MAX_ADDRESSES = 100;
const MAX_PORTS = 100;
const IP_HINT = 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)';

export function validateService(service: Service, old: Service | undefined, root: FieldPath): void {
  const path = root.child('spec');
  const spec = service.spec ?? {};
  const headless = spec.clusterIP === 'None';
  path.child('type').oneOf(spec.type, SERVICE_TYPES);
  if (!spec.ports?.length && !headless && spec.type !== 'ExternalName') path.child('ports').required();
  validateServicePorts(spec, path.child('ports'));
  validateLabels(spec.selector, path.child('selector'));
  if (spec.type === 'ExternalName') {
    if (!spec.externalName) path.child('externalName').required();
    else
      path
        .child('externalName')
        .check(spec.externalName, checkDns1123Subdomain(spec.externalName.replace(/\.$/, '')));
    if (spec.clusterIP) path.child('clusterIPs').forbidden('may not be set for ExternalName services');
  }
  if (spec.type === 'LoadBalancer' && headless)
    path.child('clusterIPs').index(0).invalid('None', "may not be set to 'None' for LoadBalancer services");
  if (spec.type === 'NodePort' && headless)
    path.child('clusterIPs').index(0).invalid('None', "may not be set to 'None' for NodePort services");
  validateAddresses(spec, path);
  path.child('sessionAffinity').oneOf(spec.sessionAffinity, ['ClientIP', 'None']);
  const timeout = spec.sessionAffinityConfig?.clientIP?.timeoutSeconds;
  if (timeout !== undefined && (timeout < 1 || timeout > 86_400))
    path
      .child('sessionAffinityConfig', 'clientIP', 'timeoutSeconds')
      .invalid(timeout, 'must be greater than 0 and less than or equal to 86400');
  if (spec.internalTrafficPolicy)
    path.child('internalTrafficPolicy').oneOf(spec.internalTrafficPolicy, TRAFFIC_POLICIES);
  validateExternal(spec, path);
  if (old) validateServiceUpdate(spec, old.spec ?? {}, path);
}

function validateServicePorts(spec: ServiceSpec, path: FieldPath): void {
  const ports = spec.ports ?? [];
  const [names, keys, nodePorts] = [new Set<string>(), new Set<string>(), new Set<string>()];
  for (const [index, port] of ports.entries()) {
    const at = path.index(index);
    if (!port.name) {
      if (ports.length > 1) at.child('name').required();
    } else {
      at.child('name').check(port.name, checkDns1123Label(port.name));
      if (names.has(port.name)) at.child('name').duplicate(port.name);
      names.add(port.name);
    }
    at.child('port').port(port.port ?? 0);
    at.child('protocol').oneOf(port.protocol, PROTOCOLS);
    if (port.targetPort !== undefined) validatePortOrName(port.targetPort, at.child('targetPort'));
    const key = `${port.protocol}/${port.port}`;
    if (keys.has(key)) at.duplicate({ port: port.port, protocol: port.protocol });
    keys.add(key);
    if (!port.nodePort) continue;
    if (spec.type === 'ClusterIP' || spec.type === 'ExternalName')
      at.child('nodePort').forbidden(`may not be used when \`type\` is '${spec.type}'`);
    const nodeKey = `${port.protocol}/${port.nodePort}`;
    if (nodePorts.has(nodeKey)) at.child('nodePort').duplicate(port.nodePort);
    nodePorts.add(nodeKey);
  }
}

function validateAddresses(spec: ServiceSpec, path: FieldPath): void {
  const ips = spec.clusterIPs ?? [];
  if (spec.clusterIP && ips.length > 0 && ips[0] !== spec.clusterIP)
    path.child('clusterIPs').invalid(ips, 'first value must match `clusterIP`');
  if (spec.clusterIP && spec.clusterIP !== 'None' && !ipFamily(spec.clusterIP))
    path.child('clusterIPs').index(0).invalid(spec.clusterIP, IP_HINT);
  for (const [index, ip] of ips.entries())
    if (ip !== 'None' && ip !== '' && !ipFamily(ip) && ip !== spec.clusterIP)
      path.child('clusterIPs').index(index).invalid(ip, IP_HINT);
  if (ips.length > 2) path.child('clusterIPs').invalid(ips, 'may only hold up to 2 values');
  for (const [index, ip] of (spec.externalIPs ?? []).entries()) {
    const at = path.child('externalIPs').index(index);
    const bytes = parseIp(ip);
    if (!bytes) at.invalid(ip, IP_HINT);
    else if (isLoopback(bytes) || isLinkLocal(bytes) || isUnspecified(bytes))
      at.invalid(
        ip,
        'may not be unspecified, loopback or link-local (127.0.0.0/8, 169.254.0.0/16, ::1/128, fe80::/10)',
      );
  }
  for (const [index, family] of (spec.ipFamilies ?? []).entries())
    if (family !== 'IPv4' && family !== 'IPv6')
      path.child('ipFamilies').index(index).unsupported(family, ['IPv4', 'IPv6']);
  if (spec.ipFamilyPolicy)
    path
      .child('ipFamilyPolicy')
      .oneOf(spec.ipFamilyPolicy, ['SingleStack', 'PreferDualStack', 'RequireDualStack']);
}

function validateExternal(spec: ServiceSpec, path: FieldPath): void {
  const external =
    spec.type === 'NodePort' || spec.type === 'LoadBalancer' || (spec.externalIPs ?? []).length > 0;
  if (spec.externalTrafficPolicy) {
    if (!external)
      path
        .child('externalTrafficPolicy')
        .invalid(spec.externalTrafficPolicy, 'may only be set for externally-accessible services');
    else path.child('externalTrafficPolicy').oneOf(spec.externalTrafficPolicy, TRAFFIC_POLICIES);
  } else if (external) path.child('externalTrafficPolicy').required();
  const local = spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local';
  if (spec.healthCheckNodePort && !local)
    path
      .child('healthCheckNodePort')
      .invalid(
        spec.healthCheckNodePort,
        "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
      );
  for (const [index, range] of (spec.loadBalancerSourceRanges ?? []).entries()) {
    if (!parseCidr(range.trim()))
      path
        .child('loadBalancerSourceRanges')
        .index(index)
        .invalid(range, 'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)');
  }
  if (spec.loadBalancerSourceRanges?.length && spec.type !== 'LoadBalancer')
    path.child('loadBalancerSourceRanges').forbidden("may only be used when `type` is 'LoadBalancer'");
}

/** A cluster IP stays for as long as the Service has one. */
function validateServiceUpdate(spec: ServiceSpec, old: ServiceSpec, path: FieldPath): void {
  if (spec.type === 'ExternalName' || old.type === 'ExternalName' || !old.clusterIP) return;
  if (spec.clusterIP !== old.clusterIP)
    path
      .child('clusterIPs')
      .index(0)
      .invalid(spec.clusterIPs ?? [spec.clusterIP ?? ''], 'may not change once set');
}

export function validateEndpoints(endpoints: Endpoints, root: FieldPath): void {
  for (const [index, subset] of (endpoints.subsets ?? []).entries()) {
    const path = root.child('subsets').index(index);
    if (!subset.addresses?.length && !subset.notReadyAddresses?.length)
      path.required('must specify `addresses` or `notReadyAddresses`');
    for (const list of ['addresses', 'notReadyAddresses'] as const)
      for (const [at, address] of (subset[list] ?? []).entries())
        if (!ipFamily(address.ip ?? ''))
          path
            .child(list)
            .index(at)
            .child('ip')
            .invalid(address.ip ?? '', IP_HINT);
    const ports = subset.ports ?? [];
    for (const [at, port] of ports.entries()) {
      const here = path.child('ports').index(at);
      if (!port.name && ports.length > 1) here.child('name').required();
      here.child('port').port(port.port ?? 0);
      here.child('protocol').oneOf(port.protocol, PROTOCOLS);
    }
  }
}

export function validateEndpointSlice(
  slice: EndpointSlice,
  old: EndpointSlice | undefined,
  root: FieldPath,
): void {
  if (!slice.addressType) root.child('addressType').required();
  else root.child('addressType').oneOf(slice.addressType, ADDRESS_TYPES);
  if (old) root.child('addressType').unchanged(slice.addressType, old.addressType);
  const endpoints = slice.endpoints ?? [];
  if (endpoints.length > MAX_ENDPOINTS) root.child('endpoints').tooMany(endpoints.length, MAX_ENDPOINTS);
  for (const [index, endpoint] of endpoints.entries()) {
    const path = root.child('endpoints').index(index).child('addresses');
    const addresses = endpoint.addresses ?? [];
    if (addresses.length === 0) path.required('must contain at least 1 address');
    if (addresses.length > MAX_ADDRESSES) path.tooMany(addresses.length, MAX_ADDRESSES);
    for (const [at, address] of addresses.entries()) {
      if (slice.addressType === 'FQDN') path.index(at).check(address, checkDns1123Subdomain(address));
      else if (ipFamily(address) !== (slice.addressType === 'IPv6' ? 6 : 4))
        path.index(at).invalid(address, `must be a valid ${slice.addressType} address`);
    }
  }
  const ports = slice.ports ?? [];
  if (ports.length > MAX_PORTS) root.child('ports').tooMany(ports.length, MAX_PORTS);
  const names = new Set<string>();
  for (const [index, port] of ports.entries()) {
    const at = root.child('ports').index(index);
    const name = port.name ?? '';
    if (name !== '')
      at.child('name').check(name, checkPortName(name).length > 0 ? checkDns1123Label(name) : []);
    if (names.has(name)) at.child('name').duplicate(name);
    names.add(name);
    at.child('protocol').oneOf(port.protocol, PROTOCOLS);
    if (port.port !== undefined) at.child('port').port(port.port);
  }
}
