// The part of a link that its kind has to itself: IFLA_INFO_DATA of linux/if_link.h, a file of its own because every kind
// adds a few attributes. Pure.
import { formatIp, requireIp } from '../../lib/ip.ts';
import { requireMac } from '../../lib/mac.ts';
import {
  IFLA,
  IFLA_BR,
  IFLA_BRPORT,
  IFLA_INFO,
  IFLA_IPTUN,
  IFLA_IPVLAN,
  IFLA_MACVLAN,
  IFLA_VLAN_ID,
  IFLA_VRF_TABLE,
  IFLA_VXLAN,
  IPVLAN_MODE,
  MACVLAN_MODE,
  VETH_INFO_PEER,
} from './constants.ts';
import type { BridgeInfo, IpvlanMode, Link, LinkRequest, MacvlanMode, VxlanInfo } from './link.ts';
import { attributeString, attributes, type MessageWriter, u8, u16, u16be, u32 } from './message.ts';

/** struct ifinfomsg, which a veth's peer begins with; all of it zero. */
const IFINFOMSG_BYTES = 16;

const bit = (value: boolean): number => (value ? 1 : 0);

/** Whether IFLA_INFO_DATA is needed at all. */
export function hasInfoData(link: LinkRequest): boolean {
  return (
    link.vxlan !== undefined ||
    link.bridge !== undefined ||
    link.macvlan !== undefined ||
    link.ipvlan !== undefined ||
    link.vrfTable !== undefined ||
    link.vlanId !== undefined ||
    link.tunnel !== undefined ||
    link.peer !== undefined
  );
}

/** What goes into IFLA_INFO_DATA. */
export function encodeInfoData(w: MessageWriter, link: LinkRequest): void {
  const { vxlan, bridge, macvlan, tunnel, peer } = link;
  if (vxlan !== undefined) encodeVxlan(w, vxlan);
  if (bridge !== undefined) {
    if (bridge.ageingTimeCs !== undefined) w.attrU32(IFLA_BR.AGEING_TIME, bridge.ageingTimeCs);
    if (bridge.stp !== undefined) w.attrU32(IFLA_BR.STP_STATE, bit(bridge.stp));
    if (bridge.vlanFiltering !== undefined) w.attrU8(IFLA_BR.VLAN_FILTERING, bit(bridge.vlanFiltering));
    if (bridge.multicastSnooping !== undefined)
      w.attrU8(IFLA_BR.MCAST_SNOOPING, bit(bridge.multicastSnooping));
  }
  if (macvlan !== undefined) {
    w.attrU32(IFLA_MACVLAN.MODE, MACVLAN_MODE[macvlan.mode]);
    if (macvlan.broadcastQueueLength !== undefined)
      w.attrU32(IFLA_MACVLAN.BC_QUEUE_LEN, macvlan.broadcastQueueLength);
  }
  if (link.ipvlan !== undefined) w.attrU16(IFLA_IPVLAN.MODE, IPVLAN_MODE[link.ipvlan.mode]);
  if (link.vrfTable !== undefined) w.attrU32(IFLA_VRF_TABLE, link.vrfTable);
  if (link.vlanId !== undefined) w.attrU16(IFLA_VLAN_ID, link.vlanId);
  if (tunnel !== undefined) {
    if (tunnel.linkIndex !== undefined) w.attrU32(IFLA_IPTUN.LINK, tunnel.linkIndex);
    if (tunnel.local !== undefined) w.attr(IFLA_IPTUN.LOCAL, requireIp(tunnel.local));
    if (tunnel.remote !== undefined) w.attr(IFLA_IPTUN.REMOTE, requireIp(tunnel.remote));
    if (tunnel.ttl !== undefined) w.attrU8(IFLA_IPTUN.TTL, tunnel.ttl);
  }
  if (peer !== undefined)
    w.nest(VETH_INFO_PEER, () => {
      w.zero(IFINFOMSG_BYTES);
      w.attrString(IFLA.IFNAME, peer.name);
      if (peer.mac !== undefined) w.attr(IFLA.ADDRESS, requireMac(peer.mac));
      if (peer.mtuBytes !== undefined) w.attrU32(IFLA.MTU, peer.mtuBytes);
      if (peer.masterIndex !== undefined) w.attrU32(IFLA.MASTER, peer.masterIndex);
      if (peer.netnsFd !== undefined) w.attrU32(IFLA.NET_NS_FD, peer.netnsFd);
    });
}

function encodeVxlan(w: MessageWriter, vxlan: NonNullable<LinkRequest['vxlan']>): void {
  w.attrU32(IFLA_VXLAN.ID, vxlan.vni);
  w.attrU16be(IFLA_VXLAN.PORT, vxlan.port);
  if (vxlan.local !== undefined) {
    const local = requireIp(vxlan.local);
    w.attr(local.length === 4 ? IFLA_VXLAN.LOCAL : IFLA_VXLAN.LOCAL6, local);
  }
  if (vxlan.group !== undefined) {
    const group = requireIp(vxlan.group);
    w.attr(group.length === 4 ? IFLA_VXLAN.GROUP : IFLA_VXLAN.GROUP6, group);
  }
  if (vxlan.linkIndex !== undefined) w.attrU32(IFLA_VXLAN.LINK, vxlan.linkIndex);
  w.attrU8(IFLA_VXLAN.LEARNING, bit(vxlan.learning ?? false));
  if (vxlan.ttl !== undefined) w.attrU8(IFLA_VXLAN.TTL, vxlan.ttl);
  if (vxlan.gbp === true) w.attrFlag(IFLA_VXLAN.GBP);
}

/** Fills in what IFLA_LINKINFO says of a link's kind and of its part in a bridge. */
export function decodeLinkInfo(link: Link, bytes: Buffer): void {
  let data: Buffer | undefined;
  let slaveKind = '';
  let slaveData: Buffer | undefined;
  for (const { type, value } of attributes(bytes, 0)) {
    if (type === IFLA_INFO.KIND) link.kind = attributeString(value);
    else if (type === IFLA_INFO.DATA) data = value;
    else if (type === IFLA_INFO.SLAVE_KIND) slaveKind = attributeString(value);
    else if (type === IFLA_INFO.SLAVE_DATA) slaveData = value;
  }
  if (slaveKind === 'bridge' && slaveData !== undefined) link.port = decodePort(slaveData);
  if (data === undefined) return;
  if (link.kind === 'vxlan') link.vxlan = decodeVxlan(data);
  else if (link.kind === 'bridge') link.bridge = decodeBridge(data);
  else if (link.kind === 'macvlan') link.macvlan = { mode: decodeMacvlanMode(data) };
  else if (link.kind === 'ipvlan') link.ipvlan = { mode: decodeIpvlanMode(data) };
  else if (link.kind === 'ipip' || link.kind === 'ip6tnl' || link.kind === 'sit')
    link.tunnel = decodeTunnel(data);
  else if (link.kind === 'vrf') {
    for (const { type, value } of attributes(data, 0))
      if (type === IFLA_VRF_TABLE) link.vrfTable = u32(value, 'IFLA_VRF_TABLE');
  } else if (link.kind === 'vlan')
    for (const { type, value } of attributes(data, 0))
      if (type === IFLA_VLAN_ID) link.vlanId = u16(value, 'IFLA_VLAN_ID');
}

function decodeIpvlanMode(bytes: Buffer): IpvlanMode | 'unknown' {
  for (const { type, value } of attributes(bytes, 0))
    if (type === IFLA_IPVLAN.MODE) {
      const mode = u16(value, 'IFLA_IPVLAN_MODE');
      for (const [name, number] of Object.entries(IPVLAN_MODE))
        if (number === mode) return name as IpvlanMode;
    }
  return 'unknown';
}

function decodeVxlan(bytes: Buffer): VxlanInfo {
  const info: VxlanInfo = { vni: 0, port: 0, learning: false, gbp: false };
  for (const { type, value } of attributes(bytes, 0)) {
    if (type === IFLA_VXLAN.ID) info.vni = u32(value, 'IFLA_VXLAN_ID');
    else if (type === IFLA_VXLAN.PORT) info.port = u16be(value, 'IFLA_VXLAN_PORT');
    else if (type === IFLA_VXLAN.LOCAL || type === IFLA_VXLAN.LOCAL6) info.local = formatIp(value);
    else if (type === IFLA_VXLAN.GROUP || type === IFLA_VXLAN.GROUP6) info.group = formatIp(value);
    else if (type === IFLA_VXLAN.LINK) info.linkIndex = u32(value, 'IFLA_VXLAN_LINK');
    else if (type === IFLA_VXLAN.LEARNING) info.learning = u8(value, 'IFLA_VXLAN_LEARNING') !== 0;
    else if (type === IFLA_VXLAN.GBP) info.gbp = true;
  }
  return info;
}

const OF_BRIDGE: ReadonlySet<number> = new Set([
  IFLA_BR.VLAN_FILTERING,
  IFLA_BR.VLAN_DEFAULT_PVID,
  IFLA_BR.STP_STATE,
  IFLA_BR.AGEING_TIME,
]);

function decodeBridge(bytes: Buffer): BridgeInfo {
  const info: BridgeInfo = { vlanFiltering: false, stp: false, ageingTimeCs: 0 };
  for (const { type, value } of attributes(bytes, 0, OF_BRIDGE)) {
    if (type === IFLA_BR.VLAN_FILTERING) info.vlanFiltering = u8(value, 'IFLA_BR_VLAN_FILTERING') !== 0;
    else if (type === IFLA_BR.VLAN_DEFAULT_PVID) info.defaultVlan = u16(value, 'IFLA_BR_VLAN_DEFAULT_PVID');
    else if (type === IFLA_BR.STP_STATE) info.stp = u32(value, 'IFLA_BR_STP_STATE') !== 0;
    else if (type === IFLA_BR.AGEING_TIME) info.ageingTimeCs = u32(value, 'IFLA_BR_AGEING_TIME');
  }
  return info;
}

function decodeMacvlanMode(bytes: Buffer): MacvlanMode | 'unknown' {
  for (const { type, value } of attributes(bytes, 0))
    if (type === IFLA_MACVLAN.MODE) {
      const mode = u32(value, 'IFLA_MACVLAN_MODE');
      for (const [name, number] of Object.entries(MACVLAN_MODE))
        if (number === mode) return name as MacvlanMode;
    }
  return 'unknown';
}

function decodeTunnel(bytes: Buffer): NonNullable<Link['tunnel']> {
  const tunnel: NonNullable<Link['tunnel']> = {};
  for (const { type, value } of attributes(bytes, 0)) {
    if (type === IFLA_IPTUN.LINK) {
      const index = u32(value, 'IFLA_IPTUN_LINK');
      if (index !== 0) tunnel.linkIndex = index;
    } else if (type === IFLA_IPTUN.LOCAL && value.some(byte => byte !== 0)) tunnel.local = formatIp(value);
    else if (type === IFLA_IPTUN.REMOTE && value.some(byte => byte !== 0)) tunnel.remote = formatIp(value);
  }
  return tunnel;
}

const OF_PORT: ReadonlySet<number> = new Set([IFLA_BRPORT.MODE, IFLA_BRPORT.ISOLATED, IFLA_BRPORT.LEARNING]);

function decodePort(bytes: Buffer): NonNullable<Link['port']> {
  const port = { hairpin: false, isolated: false, learning: true };
  for (const { type, value } of attributes(bytes, 0, OF_PORT)) {
    if (type === IFLA_BRPORT.MODE) port.hairpin = u8(value, 'IFLA_BRPORT_MODE') !== 0;
    else if (type === IFLA_BRPORT.ISOLATED) port.isolated = u8(value, 'IFLA_BRPORT_ISOLATED') !== 0;
    else if (type === IFLA_BRPORT.LEARNING) port.learning = u8(value, 'IFLA_BRPORT_LEARNING') !== 0;
  }
  return port;
}
