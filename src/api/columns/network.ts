// Columns of Services and what is behind them.
import type { Ingress, IngressClass, NetworkPolicy } from 'kubernetes-types/networking/v1.js';
import type { TableColumn } from '../resource-definition.ts';
import { formatLabelSelector, labelSelectorFromObject } from '../selectors.ts';
import type { EndpointSlice, Endpoints, Service } from '../types.ts';
import { AGE, column, joined, labelsText, NAME, NONE } from './column.ts';

/** Of endpoints, so many are shown. */
const MAX_SHOWN = 3;

function externalAddresses({ spec, status }: Service): string {
  const own = spec?.externalIPs ?? [];
  switch (spec?.type) {
    case 'ExternalName':
      return spec.externalName ?? NONE;
    case 'LoadBalancer': {
      const given = (status?.loadBalancer?.ingress ?? []).map(i => i.ip || i.hostname || '').filter(Boolean);
      return [...given, ...own].join(',') || '<pending>';
    }
    default:
      return joined(own);
  }
}

function servicePorts({ spec }: Service): string {
  return joined(
    (spec?.ports ?? []).map(p => `${p.port}${p.nodePort ? `:${p.nodePort}` : ''}/${p.protocol ?? 'TCP'}`),
  );
}

export const SERVICE_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<Service>('Type', 'How the Service is reached.', s => s.spec?.type),
  column<Service>(
    'Cluster-IP',
    'Its address in the cluster.',
    s => s.spec?.clusterIPs?.[0] || s.spec?.clusterIP || NONE,
  ),
  column<Service>('External-IP', 'Its addresses outside.', externalAddresses),
  column<Service>('Port(s)', 'Ports, node ports, protocols.', servicePorts),
  AGE,
  column<Service>('Selector', 'Which pods it sends to.', s => labelsText(s.spec?.selector), { wide: true }),
];

function shownFew(all: readonly string[]): string {
  if (all.length === 0) return NONE;
  const rest = all.length - MAX_SHOWN;
  return `${all.slice(0, MAX_SHOWN).join(',')}${rest > 0 ? ` + ${rest} more...` : ''}`;
}

/** IPv6 addresses in brackets before a port. */
function hostPort(ip: string, port: number): string {
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}

function endpointsText({ subsets }: Endpoints): string {
  return shownFew(
    (subsets ?? []).flatMap(({ addresses = [], ports = [] }) =>
      ports.length === 0
        ? addresses.map(a => a.ip)
        : ports.flatMap(port => addresses.map(a => hostPort(a.ip, port.port))),
    ),
  );
}

export const ENDPOINTS_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<Endpoints>('Endpoints', 'Ready addresses and ports.', endpointsText),
  AGE,
];

function slicePorts({ ports }: EndpointSlice): string {
  if (!ports || ports.length === 0) return '<unset>';
  return shownFew(ports.map(p => (p.port === undefined ? '*' : String(p.port))));
}

export const ENDPOINT_SLICE_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<EndpointSlice>('AddressType', 'What its addresses are.', s => s.addressType),
  column<EndpointSlice>('Ports', 'Ports of every endpoint.', slicePorts),
  column<EndpointSlice>('Endpoints', 'Addresses.', s => {
    const addresses = (s.endpoints ?? []).flatMap(e => e.addresses ?? []);
    return addresses.length === 0 ? '<unset>' : shownFew(addresses);
  }),
  AGE,
];

export const INGRESS_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<Ingress>('Class', 'Who serves it.', i => i.spec?.ingressClassName ?? NONE),
  column<Ingress>('Hosts', 'Host names of the rules.', i => {
    const hosts = (i.spec?.rules ?? []).map(r => r.host).filter((host): host is string => Boolean(host));
    return hosts.length === 0 ? '*' : shownFew(hosts);
  }),
  column<Ingress>('Address', 'Where it is served.', i =>
    (i.status?.loadBalancer?.ingress ?? []).map(a => a.ip || a.hostname || '').join(','),
  ),
  column<Ingress>('Ports', 'Ports it is served on.', i => (i.spec?.tls?.length ? '80, 443' : '80')),
  AGE,
];

export const INGRESS_CLASS_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<IngressClass>('Controller', 'Who handles this class.', i => i.spec?.controller),
  column<IngressClass>('Parameters', 'Where its settings are.', i => {
    const parameters = i.spec?.parameters;
    if (!parameters) return NONE;
    return `${parameters.kind}${parameters.apiGroup ? `.${parameters.apiGroup}` : ''}/${parameters.name}`;
  }),
  AGE,
];

export const NETWORK_POLICY_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<NetworkPolicy>(
    'Pod-Selector',
    'Which pods it is about.',
    p => formatLabelSelector(labelSelectorFromObject(p.spec?.podSelector ?? {})) || NONE,
  ),
  AGE,
];
