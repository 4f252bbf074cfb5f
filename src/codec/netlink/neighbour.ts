// Neighbours (ARP, NDP) and bridge or VXLAN forwarding entries: RTM_NEWNEIGH and its relatives. Pure.
//
//   struct ndmsg: | family u8 | pad u8 | pad u16 | ifindex i32 | state u16 | flags u8 | type u8 |
import { ByteReader } from '../../lib/bytes.ts';
import { formatIp, type IpBytes } from '../../lib/ip.ts';
import { formatMac } from '../../lib/mac.ts';
import {
  AF_BRIDGE,
  AF_INET,
  AF_INET6,
  NDA,
  NLM_F_APPEND,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  NTF_MASTER,
  NTF_PROXY,
  NTF_SELF,
  NUD,
  RTM,
} from './constants.ts';
import { attributes, type MessageWriter, type NetlinkMessage, u8, u16, u16be, u32 } from './message.ts';

export interface Neighbour {
  family: 4 | 6;
  linkIndex: number;
  address: string;
  /** Absent while unresolved. */
  mac?: string;
  /** NUD_* bits. */
  state: number;
  flags: number;
  /** NDA_PROTOCOL, who made it; 0 when nobody said. */
  protocol: number;
}

export interface FdbEntry {
  linkIndex: number;
  mac: string;
  /** The remote VTEP, of a VXLAN device's own table. */
  destination?: string;
  /** In the device's own table (NTF_SELF), not the bridge's. */
  self: boolean;
  permanent: boolean;
  masterIndex?: number;
  vlan?: number;
  port?: number;
  vni?: number;
  state: number;
  flags: number;
}

export interface NeighbourRequest {
  linkIndex: number;
  address: IpBytes;
  mac?: Uint8Array;
  state?: number;
  flags?: number;
  protocol?: number;
}

export interface FdbRequest {
  linkIndex: number;
  mac: Uint8Array;
  destination?: IpBytes;
  /** The bridge's table of this port instead of the device's own. */
  master?: boolean;
  vlan?: number;
  port?: number;
  vni?: number;
}

export type NeighbourMode = 'add' | 'replace' | 'append';

const MODE_FLAGS: Record<NeighbourMode, number> = {
  add: NLM_F_CREATE | NLM_F_EXCL,
  replace: NLM_F_CREATE | NLM_F_REPLACE,
  append: NLM_F_CREATE | NLM_F_APPEND,
};

function ndmsg(w: MessageWriter, family: number, linkIndex: number, state: number, flags: number): void {
  w.u8(family).u8(0).u16le(0).i32le(linkIndex).u16le(state).u8(flags).u8(0);
}

const familyNumber = (address: IpBytes): number => (address.length === 4 ? AF_INET : AF_INET6);

export function encodeGetNeighbours(
  w: MessageWriter,
  family: 0 | 4 | 6,
  linkIndex: number,
  flags: number,
): void {
  w.begin(RTM.GETNEIGH, NLM_F_REQUEST | flags);
  ndmsg(w, family === 4 ? AF_INET : family === 6 ? AF_INET6 : 0, 0, 0, 0);
  if (linkIndex !== 0) w.attrU32(NDA.IFINDEX, linkIndex);
  w.end();
}

/** Same as `bridge fdb show [dev NAME]`: the header's ifindex selects a device. */
export function encodeGetFdb(w: MessageWriter, linkIndex: number, flags: number): void {
  w.begin(RTM.GETNEIGH, NLM_F_REQUEST | flags);
  ndmsg(w, AF_BRIDGE, linkIndex, 0, 0);
  w.end();
}

/** Same as `ip neighbour replace ADDRESS lladdr MAC nud permanent dev LINK`. */
export function encodeNewNeighbour(
  w: MessageWriter,
  n: NeighbourRequest,
  mode: NeighbourMode = 'replace',
): void {
  w.begin(RTM.NEWNEIGH, NLM_F_REQUEST | MODE_FLAGS[mode]);
  ndmsg(w, familyNumber(n.address), n.linkIndex, n.state ?? NUD.PERMANENT, n.flags ?? 0);
  w.attr(NDA.DST, n.address);
  if (n.mac !== undefined) w.attr(NDA.LLADDR, n.mac);
  if (n.protocol !== undefined) w.attrU8(NDA.PROTOCOL, n.protocol);
  w.end();
}

/** Same as `ip neighbour delete ADDRESS dev LINK`. */
export function encodeDelNeighbour(w: MessageWriter, n: NeighbourRequest): void {
  w.begin(RTM.DELNEIGH, NLM_F_REQUEST);
  ndmsg(w, familyNumber(n.address), n.linkIndex, 0, (n.flags ?? 0) & NTF_PROXY);
  w.attr(NDA.DST, n.address);
  w.end();
}

/** Same as `bridge fdb add|replace|append MAC dev LINK dst DESTINATION self permanent`. */
export function encodeNewFdb(w: MessageWriter, fdb: FdbRequest, mode: NeighbourMode = 'replace'): void {
  w.begin(RTM.NEWNEIGH, NLM_F_REQUEST | MODE_FLAGS[mode]);
  encodeFdb(w, fdb, NUD.NOARP | NUD.PERMANENT);
  w.end();
}

/** Same as `bridge fdb delete MAC dev LINK dst DESTINATION self`. */
export function encodeDelFdb(w: MessageWriter, fdb: FdbRequest): void {
  w.begin(RTM.DELNEIGH, NLM_F_REQUEST);
  encodeFdb(w, fdb, NUD.NOARP | NUD.PERMANENT);
  w.end();
}

function encodeFdb(w: MessageWriter, fdb: FdbRequest, state: number): void {
  ndmsg(w, AF_BRIDGE, fdb.linkIndex, state, fdb.master === true ? NTF_MASTER : NTF_SELF);
  w.attr(NDA.LLADDR, fdb.mac);
  if (fdb.destination !== undefined) w.attr(NDA.DST, fdb.destination);
  if (fdb.vlan !== undefined) w.attrU16(NDA.VLAN, fdb.vlan);
  if (fdb.port !== undefined) w.attrU16be(NDA.PORT, fdb.port);
  if (fdb.vni !== undefined) w.attrU32(NDA.VNI, fdb.vni);
}

export type DecodedNeighbour =
  | { kind: 'neighbour'; neighbour: Neighbour }
  | { kind: 'fdb'; entry: FdbEntry }
  | undefined;

/** RTM_NEWNEIGH or RTM_DELNEIGH: one message type for both tables, told apart by the family. */
export function decodeNeighbour(message: NetlinkMessage): DecodedNeighbour {
  const reader = new ByteReader(message.payload, 'ndmsg');
  const family = reader.u8('ndm_family');
  reader.skip(3);
  const linkIndex = reader.i32le('ndm_ifindex');
  const state = reader.u16le('ndm_state');
  const flags = reader.u8('ndm_flags');
  const parts = attributes(message.payload, 12);
  if (family === AF_BRIDGE) return { kind: 'fdb', entry: decodeFdb(parts, linkIndex, state, flags) };
  if (family !== AF_INET && family !== AF_INET6) return undefined;
  const neighbour: Neighbour = {
    family: family === AF_INET ? 4 : 6,
    linkIndex,
    address: '',
    state,
    flags,
    protocol: 0,
  };
  for (const { type, value } of parts) {
    if (type === NDA.DST) neighbour.address = formatIp(value);
    else if (type === NDA.LLADDR && value.length === 6) neighbour.mac = formatMac(value);
    else if (type === NDA.PROTOCOL) neighbour.protocol = u8(value, 'NDA_PROTOCOL');
  }
  return { kind: 'neighbour', neighbour };
}

function decodeFdb(
  parts: { type: number; value: Buffer }[],
  linkIndex: number,
  state: number,
  flags: number,
): FdbEntry {
  const entry: FdbEntry = {
    linkIndex,
    mac: '',
    self: (flags & NTF_SELF) !== 0,
    permanent: (state & NUD.PERMANENT) !== 0,
    state,
    flags,
  };
  for (const { type, value } of parts) {
    if (type === NDA.LLADDR) entry.mac = formatMac(value);
    else if (type === NDA.DST) entry.destination = formatIp(value);
    else if (type === NDA.MASTER) entry.masterIndex = u32(value, 'NDA_MASTER');
    else if (type === NDA.VLAN) entry.vlan = u16(value, 'NDA_VLAN');
    else if (type === NDA.PORT) entry.port = u16be(value, 'NDA_PORT');
    else if (type === NDA.VNI) entry.vni = u32(value, 'NDA_VNI');
  }
  return entry;
}
