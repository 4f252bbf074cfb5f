// The configuration of a speaker, in native form: what calico/ or a file is turned into.
import type { Cidr } from '../../../src/lib/cidr.ts';
import type { Family } from '../packet/context.ts';
import type { Changes } from '../policy/policy.ts';
import type { PeerConfig } from '../session/peer-config.ts';

/** A prefix podwire announces itself. */
export interface OriginatedRoute {
  readonly cidr: Cidr;
  readonly set?: Changes;
  /** Why it is announced: `block`, `service`, … For the looking glass and policy. */
  readonly origin: string;
  /** Put into the kernel as a blackhole, so that what is not more specific goes nowhere. */
  readonly blackhole?: boolean;
}

/** Neighbours that are not configured one by one: whoever connects from `cidr` gets a copy of `template`. */
export interface DynamicPeers {
  readonly name: string;
  readonly cidr: Cidr;
  readonly template: Omit<PeerConfig, 'name' | 'address'>;
  /** At most so many at a time. */
  readonly limit: number;
}

export interface SpeakerConfig {
  readonly asn: number;
  /** BGP Identifier, dotted. */
  readonly routerId: string;
  /** RFC 4456; the router id when absent. */
  readonly clusterId?: string;
  readonly listen: readonly { readonly address: string; readonly port: number }[];
  /** Our next hop for a family whose sessions run over the other one. */
  readonly nextHops?: Partial<Record<Family, string>>;
  readonly peers: readonly PeerConfig[];
  readonly dynamicPeers?: readonly DynamicPeers[];
  readonly originate: readonly OriginatedRoute[];
  /** Equal paths put into the kernel together; 1 turns ECMP off. */
  readonly multipath?: number;
}

export const DEFAULT_MULTIPATH = 16;
