// KernelState: the kernel's network configuration of one network namespace as plain, sorted, comparable data.
// Planners (routing, proxy, cni) return fragments of it; diff.ts compares; the reconciler applies and verifies.
// Nothing here opens a socket or reads a clock. Kernel names are kept where the kernel has one.

/** A link we want. `kind: 'existing'` only sets attributes on a link that somebody else made. */
export interface LinkState {
  name: string;
  kind: 'bridge' | 'vxlan' | 'veth' | 'macvlan' | 'ifb' | 'ipip' | 'ip6tnl' | 'existing';
  /**
   * With `existing`: the kernel makes the link with the module of this kind, such as tunl0 with ipip. Where it is not
   * there, asking for one loads the module; where the module makes none (net.core.fb_tunnels_only_for_init_net), it is made.
   */
  fallbackOf?: 'ipip';
  up: boolean;
  mtuBytes?: number;
  /** Lower case, colon separated. */
  mac?: string;
  /** Name of the bridge this link is a port of. */
  master?: string;
  /** IFLA_IFALIAS: podwire marks the links it owns with `podwire:<room>`. */
  alias?: string;
  vxlan?: VxlanAttributes;
  ipip?: { local: string; remote?: string; dev?: string };
}

/** linux/if_link.h IFLA_VXLAN_*; a change of any of these means delete and make again. */
export interface VxlanAttributes {
  vni: number;
  port: number;
  /** Underlay address, either family. */
  local?: string;
  /** Underlay device name. */
  dev?: string;
  learning: boolean;
  gbp?: boolean;
}

export interface AddressState {
  link: string;
  /** With prefix length, canonical text: `10.244.1.0/32`, `fd00::1/64`. */
  address: string;
  scope?: 'global' | 'link' | 'host';
  /** IFA_PROTO, set by the reconciler: the mark of ownership on links that are not ours. */
  protocol?: number;
}

export interface RouteState {
  /** Canonical CIDR; the default routes are `0.0.0.0/0` and `::/0`. */
  destination: string;
  type?: 'unicast' | 'blackhole' | 'unreachable' | 'prohibit';
  gateway?: string;
  link?: string;
  /** ECMP next hops, instead of gateway and link. */
  nexthops?: { gateway?: string; link?: string; weight?: number; onlink?: boolean }[];
  onlink?: boolean;
  /** RTA_NH_ID, instead of gateway, link and nexthops: the number of a NexthopState. */
  nexthopId?: number;
  /** RTA_PREFSRC. */
  source?: string;
  metric?: number;
  /** Routing table, 254 (main) when absent. */
  table?: number;
  /** rtm_protocol: the mark of ownership. See ROUTE_PROTOCOL. */
  protocol: number;
  scope?: 'global' | 'link' | 'host';
}

/** rtm_protocol numbers podwire owns (linux/rtnetlink.h leaves those above 200 to users; see /etc/iproute2/rt_protos). */
export const ROUTE_PROTOCOL = { overlay: 213, bgp: 214, cni: 215, proxy: 216, dns: 217 } as const;

/**
 * A next-hop object (linux/nexthop.h): a gateway with a number that routes refer to. Thousands of routes over distinct
 * gateways of one device load many times faster so. The number is the planner's; it is one for the whole namespace.
 */
export interface NexthopState {
  id: number;
  family: 4 | 6;
  gateway: string;
  link: string;
  onlink?: boolean;
  /** nh_protocol, the mark of ownership; the room's number of ROUTE_PROTOCOL unless given. */
  protocol?: number;
}

export interface NeighbourState {
  link: string;
  address: string;
  mac: string;
  state: 'permanent';
  /** NDA_PROTOCOL, set by the reconciler: the mark of ownership on links that are not ours. */
  protocol?: number;
}

/** An entry of a VXLAN device's own forwarding database (NTF_SELF, permanent). */
export interface FdbState {
  link: string;
  mac: string;
  /** Underlay address of the remote VTEP. */
  destination: string;
}

export interface RuleState {
  family: 4 | 6;
  priority: number;
  source?: string;
  destination?: string;
  fwmark?: { value: number; mask: number };
  table: number;
  /** FRA_PROTOCOL, the mark of ownership; the room's number of ROUTE_PROTOCOL unless given. */
  protocol?: number;
}

export interface SysctlState {
  /** Below /proc/sys, with slashes: `net/ipv4/ip_forward`. */
  path: string;
  value: string;
  /** True when a kernel without this path is fine as it is (IPv6 switched off). */
  optional?: boolean;
}

/** A feature of a network device (`ethtool -k`), such as `tx-checksum-ip-generic`. */
export interface FeatureState {
  link: string;
  name: string;
  on: boolean;
}

/** The chains of one xtables table that we own, and the jumps into them from chains that we do not own. */
export interface XtablesTableState {
  family: 4 | 6;
  table: 'filter' | 'nat' | 'mangle' | 'raw';
  /** Owned whole: whatever else is found in them is removed. Rules are iptables-save arguments without `-A CHAIN`. */
  chains: XtablesChain[];
  /** Single rules kept in built-in chains, found again by their exact text. */
  jumps: { chain: string; rule: string; position: 'first' | 'last' }[];
  /**
   * Beginnings of chain names that belong to the planner alone, such as `KUBE-SVC-`: chains of such names that are not
   * wanted any more are found and removed after a restart too, with the jumps into them from built-in chains.
   */
  ownedPrefixes?: readonly string[];
}

export interface XtablesChain {
  name: string;
  rules: readonly string[];
}

/** What one planner wants. Absent lists mean "nothing of that kind". */
export interface KernelState {
  links?: LinkState[];
  addresses?: AddressState[];
  nexthops?: NexthopState[];
  routes?: RouteState[];
  rules?: RuleState[];
  neighbours?: NeighbourState[];
  fdb?: FdbState[];
  sysctls?: SysctlState[];
  features?: FeatureState[];
  xtables?: XtablesTableState[];
}
