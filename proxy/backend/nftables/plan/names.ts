// Names in the table. Shared chains and maps are counted or numbered; a service port's own ones are named after it, with a
// hash in front that keeps long names apart. Pure.
import { createHash } from 'node:crypto';
import type { StickySets } from './state.ts';

export const TABLE = 'podwire-proxy';
/** The table's comment: another layout is not repaired but replaced. */
export const LAYOUT = 'podwire proxy layout 1';

export const SET = {
  clusterIps: 'cluster-ips',
  nodePortIps: 'nodeport-ips',
  hairpin: 'hairpin',
  serviceIps: 'service-ips',
  nodePorts: 'service-nodeports',
  noEndpointServices: 'no-endpoint-services',
  noEndpointNodePorts: 'no-endpoint-nodeports',
  firewallIps: 'firewall-ips',
  affinity: 'affinity',
  stickyServices: 'sticky-services',
  stickyNodePorts: 'sticky-nodeports',
} as const;

export const CHAIN = {
  services: 'services',
  markMasquerade: 'mark-for-masquerade',
  masquerading: 'masquerading',
  reject: 'reject-chain',
  serviceEndpointsCheck: 'service-endpoints-check',
  nodePortEndpointsCheck: 'nodeport-endpoints-check',
  clusterIpsCheck: 'cluster-ips-check',
  firewallCheck: 'firewall-check',
} as const;

/** How endpoints are found: by the packet's destination and port, or by a node port; for the Cluster or Local policy. */
export interface Lane {
  nodePort: boolean;
  local: boolean;
}

export function lanePrefix(lane: Lane): string {
  return `${lane.nodePort ? 'np-' : ''}${lane.local ? 'local-' : ''}`;
}

/** The map from destination to endpoint number `slot`. */
export function endpointMap(lane: Lane, slot: number): string {
  return `${lanePrefix(lane)}endpoints-${slot}`;
}

/** The Cluster or Local endpoints of Services with session affinity, by number and by themselves. */
export function stickySets(lane: Lane): StickySets {
  const prefix = lanePrefix({ nodePort: false, local: lane.local });
  return {
    services: lane.nodePort ? SET.stickyNodePorts : SET.stickyServices,
    endpoints: `${prefix}sticky-endpoints`,
    picks: `${prefix}sticky-picks`,
  };
}

/** The kernel takes 255 characters, of which an endpoint needs some 60; names that are valid are shorter. */
const MAX_SUFFIX = 180;

/** The names of one service port's own chains and sets. */
export class OwnNames {
  readonly #suffix: string;

  /** `name` as `default/web:http`. */
  constructor(name: string, protocol: string) {
    const [service = '', port = ''] = name.split(':');
    const hash = createHash('sha256').update(`${name} ${protocol}`).digest('hex').slice(0, 8).toUpperCase();
    this.#suffix = `${hash}-${service}/${protocol}/${port}`.slice(0, MAX_SUFFIX);
  }

  get cluster(): string {
    return `service-${this.#suffix}`;
  }
  get local(): string {
    return `local-${this.#suffix}`;
  }
  get external(): string {
    return `external-${this.#suffix}`;
  }
  get firewall(): string {
    return `firewall-${this.#suffix}`;
  }

  endpoints(local: boolean): string {
    return `${local ? 'local-' : ''}endpoints-${this.#suffix}`;
  }
}
