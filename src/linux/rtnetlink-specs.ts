// What the verbs of rtnetlink take: plain data with names and text, as a person would give it to `ip`.
import type { ScopeName } from '../codec/netlink/address.ts';
import type { LinkRequest, PortChange } from '../codec/netlink/link.ts';

/** A link by name or index. */
export type LinkName = string | number;

export interface LinkSpec
  extends Omit<LinkRequest, 'masterIndex' | 'linkIndex' | 'vxlan' | 'tunnel' | 'peer'> {
  /** The bridge it becomes a port of. */
  master?: LinkName;
  /** The lower device of a macvlan or vlan. */
  link?: LinkName;
  alias?: string;
  port?: PortChange;
  vxlan?: {
    vni: number;
    port: number;
    local?: string;
    group?: string;
    dev?: LinkName;
    learning?: boolean;
    gbp?: boolean;
    ttl?: number;
  };
  tunnel?: { local?: string; remote?: string; dev?: LinkName; ttl?: number };
  /** The other end of a veth; `netnsFd` puts it into that namespace. */
  peer?: { name: string; mac?: string; mtuBytes?: number; up?: boolean; netnsFd?: number; master?: LinkName };
}

export interface LinkSettings extends PortChange {
  up?: boolean;
  name?: string;
  mtuBytes?: number;
  mac?: string;
  /** 0 takes it out of its bridge. */
  master?: LinkName;
  alias?: string;
  netnsFd?: number;
  promiscuous?: boolean;
  allMulticast?: boolean;
  txQueueLength?: number;
}

export interface AddressSpec {
  link: LinkName;
  /** With prefix length. */
  address: string;
  scope?: ScopeName;
  /** Usable at once, without IPv6 duplicate address detection. */
  noDad?: boolean;
  noPrefixRoute?: boolean;
  replace?: boolean;
  /** `auto` is the subnet's last address. */
  broadcast?: string;
  /** IFA_PROTO, our mark; kernels before 5.18 ignore it. */
  protocol?: number;
}

export interface RouteSpec {
  /** CIDR. */
  destination: string;
  type?: 'unicast' | 'local' | 'broadcast' | 'blackhole' | 'unreachable' | 'prohibit' | 'throw';
  gateway?: string;
  link?: LinkName;
  onlink?: boolean;
  nexthops?: { gateway?: string; link?: LinkName; weight?: number; onlink?: boolean }[];
  nexthopId?: number;
  source?: string;
  metric?: number;
  table?: number;
  protocol?: number;
  scope?: ScopeName | number;
  mtuBytes?: number;
  advMss?: number;
}

export interface NeighbourSpec {
  link: LinkName;
  address: string;
  mac?: string;
  /** NUD_* bits, permanent unless told. */
  state?: number;
  flags?: number;
  protocol?: number;
}

export interface FdbSpec {
  link: LinkName;
  mac: string;
  destination?: string;
  /** The bridge's table instead of the device's own. */
  master?: boolean;
  vlan?: number;
  port?: number;
  vni?: number;
}

export interface RuleSpec {
  family: 4 | 6;
  priority: number;
  source?: string;
  destination?: string;
  fwmark?: { value: number; mask: number };
  iif?: string;
  oif?: string;
  table: number;
  protocol?: number;
}

export interface NexthopSpec {
  id: number;
  family: 4 | 6;
  gateway?: string;
  link?: LinkName;
  group?: { id: number; weight?: number }[];
  blackhole?: boolean;
  onlink?: boolean;
  fdb?: boolean;
  protocol?: number;
}
