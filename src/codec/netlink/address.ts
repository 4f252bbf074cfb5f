// Addresses of links: RTM_NEWADDR and its relatives. Pure.
//
//   struct ifaddrmsg: | family u8 | prefixlen u8 | flags u8 | scope u8 | index u32 |
import { ByteReader } from '../../lib/bytes.ts';
import type { Cidr } from '../../lib/cidr.ts';
import { formatIp, type IpBytes } from '../../lib/ip.ts';
import {
  AF_INET,
  AF_INET6,
  IFA,
  IFA_F_DADFAILED,
  IFA_F_NODAD,
  IFA_F_NOPREFIXROUTE,
  IFA_F_PERMANENT,
  IFA_F_TENTATIVE,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  RT_SCOPE,
  RTM,
} from './constants.ts';
import { attributes, type MessageWriter, type NetlinkMessage, u8, u32 } from './message.ts';

export type ScopeName = 'global' | 'link' | 'host';

export interface Address {
  linkIndex: number;
  family: 4 | 6;
  /** With prefix length, host bits kept, canonical: `10.0.0.7/24`. */
  address: string;
  scope: number;
  broadcast?: string;
  /** The other end, of point-to-point addresses. */
  peer?: string;
  permanent: boolean;
  tentative: boolean;
  dadFailed: boolean;
  noPrefixRoute: boolean;
  /** IFA_PROTO, who made it (Linux 5.18); 0 when nobody said. */
  protocol: number;
}

export interface AddressRequest {
  linkIndex: number;
  address: Cidr;
  scope?: ScopeName;
  /** No duplicate address detection: usable at once. IPv6 only. */
  noDad?: boolean;
  noPrefixRoute?: boolean;
  broadcast?: IpBytes;
  protocol?: number;
}

export function scopeNumber(scope: ScopeName): number {
  if (scope === 'link') return RT_SCOPE.LINK;
  return scope === 'host' ? RT_SCOPE.HOST : RT_SCOPE.UNIVERSE;
}

export function scopeName(scope: number): ScopeName {
  if (scope === RT_SCOPE.LINK) return 'link';
  return scope === RT_SCOPE.HOST ? 'host' : 'global';
}

export function encodeGetAddresses(
  w: MessageWriter,
  family: 0 | 4 | 6,
  linkIndex: number,
  flags: number,
): void {
  w.begin(RTM.GETADDR, NLM_F_REQUEST | flags);
  w.u8(family === 4 ? AF_INET : family === 6 ? AF_INET6 : 0)
    .u8(0)
    .u8(0)
    .u8(0)
    .u32le(linkIndex);
  w.end();
}

/** Same as `ip address add ADDRESS dev LINK`, or `replace`. */
export function encodeNewAddress(w: MessageWriter, request: AddressRequest, replace = false): void {
  w.begin(RTM.NEWADDR, NLM_F_REQUEST | NLM_F_CREATE | (replace ? NLM_F_REPLACE : NLM_F_EXCL));
  encodeAddress(w, request);
  const flags = (request.noDad ? IFA_F_NODAD : 0) | (request.noPrefixRoute ? IFA_F_NOPREFIXROUTE : 0);
  if (flags !== 0) w.attrU32(IFA.FLAGS, flags);
  if (request.broadcast !== undefined) w.attr(IFA.BROADCAST, request.broadcast);
  if (request.protocol !== undefined) w.attrU8(IFA.PROTO, request.protocol);
  w.end();
}

/** Same as `ip address delete ADDRESS dev LINK`. */
export function encodeDelAddress(w: MessageWriter, request: AddressRequest): void {
  w.begin(RTM.DELADDR, NLM_F_REQUEST);
  encodeAddress(w, request);
  w.end();
}

function encodeAddress(w: MessageWriter, { linkIndex, address, scope }: AddressRequest): void {
  w.u8(address.family === 4 ? AF_INET : AF_INET6)
    .u8(address.prefixLength)
    .u8(0);
  w.u8(scopeNumber(scope ?? 'global')).u32le(linkIndex);
  w.attr(IFA.LOCAL, address.address);
  w.attr(IFA.ADDRESS, address.address);
}

/** RTM_NEWADDR or RTM_DELADDR. */
export function decodeAddress(message: NetlinkMessage): Address {
  const reader = new ByteReader(message.payload, 'ifaddrmsg');
  const family = reader.u8('ifa_family') === AF_INET6 ? 6 : 4;
  const prefixLength = reader.u8('ifa_prefixlen');
  let flags = reader.u8('ifa_flags');
  const scope = reader.u8('ifa_scope');
  const linkIndex = reader.u32le('ifa_index');
  let local: string | undefined;
  let address = '';
  let broadcast: string | undefined;
  let protocol = 0;
  for (const { type, value } of attributes(message.payload, 8)) {
    if (type === IFA.LOCAL) local = formatIp(value);
    else if (type === IFA.ADDRESS) address = formatIp(value);
    else if (type === IFA.BROADCAST) broadcast = formatIp(value);
    else if (type === IFA.FLAGS) flags = u32(value, 'IFA_FLAGS');
    else if (type === IFA.PROTO) protocol = u8(value, 'IFA_PROTO');
  }
  const decoded: Address = {
    linkIndex,
    family,
    address: `${local ?? address}/${prefixLength}`,
    scope,
    permanent: (flags & IFA_F_PERMANENT) !== 0,
    tentative: (flags & IFA_F_TENTATIVE) !== 0,
    dadFailed: (flags & IFA_F_DADFAILED) !== 0,
    noPrefixRoute: (flags & IFA_F_NOPREFIXROUTE) !== 0,
    protocol,
  };
  if (broadcast !== undefined) decoded.broadcast = broadcast;
  if (local !== undefined && local !== address && address !== '') decoded.peer = address;
  return decoded;
}
