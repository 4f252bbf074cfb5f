// Links (network devices): RTM_NEWLINK and its relatives. Pure.
//
//   struct ifinfomsg: | family u8 | pad u8 | type u16 | index i32 | flags u32 | change u32 |

import { ByteReader } from '../../lib/bytes.ts';
import { formatMac, requireMac } from '../../lib/mac.ts';
import {
  AF_BRIDGE,
  IFF_ALLMULTI,
  IFF_LOWER_UP,
  IFF_PROMISC,
  IFF_UP,
  IFLA,
  IFLA_BRPORT,
  IFLA_INFO,
  type IPVLAN_MODE,
  type MACVLAN_MODE,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REQUEST,
  RTEXT_FILTER_SKIP_STATS,
  RTM,
} from './constants.ts';
import { decodeLinkInfo, encodeInfoData, hasInfoData } from './link-info.ts';
import {
  attributeString,
  attributes,
  i32,
  type MessageWriter,
  type NetlinkMessage,
  u8,
  u32,
} from './message.ts';

export type MacvlanMode = keyof typeof MACVLAN_MODE;
export type IpvlanMode = keyof typeof IPVLAN_MODE;

/** Of a VXLAN device, linux/if_link.h IFLA_VXLAN_*. */
export interface VxlanInfo {
  vni: number;
  port: number;
  local?: string;
  group?: string;
  /** Index of the underlay device. */
  linkIndex?: number;
  learning: boolean;
  gbp: boolean;
}

export interface BridgeInfo {
  vlanFiltering: boolean;
  stp: boolean;
  ageingTimeCs: number;
  /** The VLAN that new ports are in; absent where the kernel has no VLAN filtering. */
  defaultVlan?: number;
}

export interface Link {
  index: number;
  name: string;
  altNames?: string[];
  kind?: string;
  /** ARPHRD_*: 1 Ethernet, 772 loopback, 768 IPIP. */
  type: number;
  flags: number;
  /** Lower case with colons; empty where the device has none. */
  mac: string;
  mtuBytes: number;
  up: boolean;
  lowerUp: boolean;
  promiscuous: boolean;
  /** RFC 2863: 0 unknown, 2 down, 6 up. */
  operState: number;
  txQueueLength?: number;
  masterIndex?: number;
  alias?: string;
  /** The lower device, or the peer of a veth: an index in the namespace linkNetnsId when that is there. */
  linkIndex?: number;
  linkNetnsId?: number;
  vxlan?: VxlanInfo;
  bridge?: BridgeInfo;
  macvlan?: { mode: MacvlanMode | 'unknown' };
  ipvlan?: { mode: IpvlanMode | 'unknown' };
  /** The routing table of a vrf. */
  vrfTable?: number;
  tunnel?: { local?: string; remote?: string; linkIndex?: number };
  vlanId?: number;
  port?: { hairpin: boolean; isolated: boolean; learning: boolean };
}

/** What to make; names are resolved to indexes by the caller. */
export interface LinkRequest {
  name: string;
  kind: string;
  mac?: string;
  mtuBytes?: number;
  up?: boolean;
  /** Index of the lower device of a macvlan, ipvlan or vlan. */
  linkIndex?: number;
  masterIndex?: number;
  txQueueLength?: number;
  /** Make it in that namespace. */
  netnsFd?: number;
  vxlan?: {
    vni: number;
    port: number;
    local?: string;
    group?: string;
    linkIndex?: number;
    learning?: boolean;
    gbp?: boolean;
    ttl?: number;
  };
  bridge?: { vlanFiltering?: boolean; ageingTimeCs?: number; stp?: boolean; multicastSnooping?: boolean };
  /** The queue is that of broadcast frames, in frames; the kernel's 1000 unless told (Linux 5.11). */
  macvlan?: { mode: MacvlanMode; broadcastQueueLength?: number };
  ipvlan?: { mode: IpvlanMode };
  vrfTable?: number;
  vlanId?: number;
  tunnel?: { local?: string; remote?: string; linkIndex?: number; ttl?: number };
  /** The other end of a veth. */
  peer?: {
    name: string;
    mac?: string;
    mtuBytes?: number;
    netnsFd?: number;
    masterIndex?: number;
  };
}

export interface LinkChange {
  up?: boolean;
  name?: string;
  mtuBytes?: number;
  mac?: string;
  /** 0 releases. */
  masterIndex?: number;
  alias?: string;
  netnsFd?: number;
  promiscuous?: boolean;
  allMulticast?: boolean;
  txQueueLength?: number;
}

export interface PortChange {
  hairpin?: boolean;
  isolated?: boolean;
  learning?: boolean;
  unicastFlood?: boolean;
}

function ifinfomsg(w: MessageWriter, family: number, index: number, flags: number, change: number): void {
  w.u8(family).u8(0).u16le(0).i32le(index).u32le(flags).u32le(change);
}

const bit = (value: boolean): number => (value ? 1 : 0);

/** Same as `ip link show [NAME]`; without selector a dump. */
export function encodeGetLink(
  w: MessageWriter,
  selector: { index?: number; name?: string },
  flags = 0,
): void {
  w.begin(RTM.GETLINK, NLM_F_REQUEST | flags);
  ifinfomsg(w, 0, selector.index ?? 0, 0, 0);
  w.attrU32(IFLA.EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  if (selector.name !== undefined) w.attrString(IFLA.IFNAME, selector.name);
  w.end();
}

/** Same as `ip link add`. */
export function encodeNewLink(w: MessageWriter, link: LinkRequest, flags = NLM_F_CREATE | NLM_F_EXCL): void {
  w.begin(RTM.NEWLINK, NLM_F_REQUEST | flags);
  const up = link.up === true ? IFF_UP : 0;
  ifinfomsg(w, 0, 0, up, up);
  w.attrString(IFLA.IFNAME, link.name);
  if (link.mac !== undefined) w.attr(IFLA.ADDRESS, requireMac(link.mac));
  if (link.mtuBytes !== undefined) w.attrU32(IFLA.MTU, link.mtuBytes);
  if (link.txQueueLength !== undefined) w.attrU32(IFLA.TXQLEN, link.txQueueLength);
  if (link.linkIndex !== undefined) w.attrU32(IFLA.LINK, link.linkIndex);
  if (link.masterIndex !== undefined) w.attrU32(IFLA.MASTER, link.masterIndex);
  if (link.netnsFd !== undefined) w.attrU32(IFLA.NET_NS_FD, link.netnsFd);
  w.nest(IFLA.LINKINFO, () => {
    w.attrString(IFLA_INFO.KIND, link.kind);
    if (hasInfoData(link)) w.nest(IFLA_INFO.DATA, () => encodeInfoData(w, link));
  });
  w.end();
}

/** Same as `ip link set`. */
export function encodeSetLink(w: MessageWriter, index: number, change: LinkChange): void {
  let flags = 0;
  let mask = 0;
  const flag = (wanted: boolean | undefined, value: number): void => {
    if (wanted === undefined) return;
    mask |= value;
    if (wanted) flags |= value;
  };
  flag(change.up, IFF_UP);
  flag(change.promiscuous, IFF_PROMISC);
  flag(change.allMulticast, IFF_ALLMULTI);
  w.begin(RTM.NEWLINK, NLM_F_REQUEST);
  ifinfomsg(w, 0, index, flags, mask);
  if (change.name !== undefined) w.attrString(IFLA.IFNAME, change.name);
  if (change.mac !== undefined) w.attr(IFLA.ADDRESS, requireMac(change.mac));
  if (change.mtuBytes !== undefined) w.attrU32(IFLA.MTU, change.mtuBytes);
  if (change.txQueueLength !== undefined) w.attrU32(IFLA.TXQLEN, change.txQueueLength);
  if (change.masterIndex !== undefined) w.attrU32(IFLA.MASTER, change.masterIndex);
  if (change.alias !== undefined) w.attr(IFLA.IFALIAS, Buffer.from(change.alias));
  if (change.netnsFd !== undefined) w.attrU32(IFLA.NET_NS_FD, change.netnsFd);
  w.end();
}

/** Same as `bridge link set dev NAME hairpin on isolated on`. */
export function encodeSetBridgePort(w: MessageWriter, index: number, change: PortChange): void {
  w.begin(RTM.SETLINK, NLM_F_REQUEST);
  ifinfomsg(w, AF_BRIDGE, index, 0, 0);
  w.nest(IFLA.PROTINFO, () => {
    if (change.hairpin !== undefined) w.attrU8(IFLA_BRPORT.MODE, bit(change.hairpin));
    if (change.learning !== undefined) w.attrU8(IFLA_BRPORT.LEARNING, bit(change.learning));
    if (change.unicastFlood !== undefined) w.attrU8(IFLA_BRPORT.UNICAST_FLOOD, bit(change.unicastFlood));
    if (change.isolated !== undefined) w.attrU8(IFLA_BRPORT.ISOLATED, bit(change.isolated));
  });
  w.end();
}

/** Same as `ip link delete`. */
export function encodeDelLink(w: MessageWriter, index: number): void {
  w.begin(RTM.DELLINK, NLM_F_REQUEST);
  ifinfomsg(w, 0, index, 0, 0);
  w.end();
}

const DECODED: ReadonlySet<number> = new Set([
  IFLA.IFNAME,
  IFLA.ADDRESS,
  IFLA.MTU,
  IFLA.TXQLEN,
  IFLA.LINK,
  IFLA.MASTER,
  IFLA.OPERSTATE,
  IFLA.IFALIAS,
  IFLA.LINK_NETNSID,
  IFLA.LINKINFO,
]);

/** RTM_NEWLINK or RTM_DELLINK. */
export function decodeLink(message: NetlinkMessage): Link {
  const reader = new ByteReader(message.payload, 'ifinfomsg');
  reader.skip(2);
  const type = reader.u16le('ifi_type');
  const index = reader.i32le('ifi_index');
  const flags = reader.u32le('ifi_flags');
  reader.skip(4, 'ifi_change');
  const link: Link = {
    index,
    name: '',
    type,
    flags,
    mac: '',
    mtuBytes: 0,
    up: (flags & IFF_UP) !== 0,
    lowerUp: (flags & IFF_LOWER_UP) !== 0,
    promiscuous: (flags & IFF_PROMISC) !== 0,
    operState: 0,
  };
  for (const { type: attribute, value } of attributes(message.payload, 16, DECODED)) {
    if (attribute === IFLA.IFNAME) link.name = attributeString(value);
    else if (attribute === IFLA.ADDRESS) link.mac = value.length === 6 ? formatMac(value) : '';
    else if (attribute === IFLA.MTU) link.mtuBytes = u32(value, 'IFLA_MTU');
    else if (attribute === IFLA.TXQLEN) link.txQueueLength = u32(value, 'IFLA_TXQLEN');
    else if (attribute === IFLA.LINK) link.linkIndex = u32(value, 'IFLA_LINK');
    else if (attribute === IFLA.MASTER) link.masterIndex = u32(value, 'IFLA_MASTER');
    else if (attribute === IFLA.OPERSTATE) link.operState = u8(value, 'IFLA_OPERSTATE');
    else if (attribute === IFLA.IFALIAS) link.alias = attributeString(value);
    else if (attribute === IFLA.LINK_NETNSID) link.linkNetnsId = i32(value, 'IFLA_LINK_NETNSID');
    else if (attribute === IFLA.LINKINFO) decodeLinkInfo(link, value);
  }
  return link;
}
