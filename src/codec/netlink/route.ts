// Routes: RTM_NEWROUTE and its relatives, with next hops, ECMP and next-hop objects. Pure.
//
//   struct rtmsg: | family | dst_len | src_len | tos | table | protocol | scope | type | (u8 each) | flags u32 |
//   struct rtnexthop: | len u16 | flags u8 | hops u8 | ifindex i32 | attributes |
import { ByteReader } from '../../lib/bytes.ts';
import { type Cidr, formatCidr } from '../../lib/cidr.ts';
import { formatIp, type IpBytes } from '../../lib/ip.ts';
import {
  AF_INET,
  AF_INET6,
  NLM_F_APPEND,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  RT_SCOPE,
  RT_TABLE_MAIN,
  RTA,
  RTAX_ADVMSS,
  RTAX_MTU,
  RTM,
  RTM_F_CLONED,
  RTN,
  RTNH_F_ONLINK,
  RTPROT_BOOT,
} from './constants.ts';
import { attributes, type MessageWriter, type NetlinkMessage, u32 } from './message.ts';

export type RouteType =
  | 'unicast'
  | 'local'
  | 'broadcast'
  | 'blackhole'
  | 'unreachable'
  | 'prohibit'
  | 'throw'
  | 'other';

const TYPE_NUMBERS: Record<Exclude<RouteType, 'other'>, number> = {
  unicast: RTN.UNICAST,
  local: RTN.LOCAL,
  broadcast: RTN.BROADCAST,
  blackhole: RTN.BLACKHOLE,
  unreachable: RTN.UNREACHABLE,
  prohibit: RTN.PROHIBIT,
  throw: RTN.THROW,
};
const TYPE_NAMES = new Map<number, RouteType>(
  Object.entries(TYPE_NUMBERS).map(([name, value]) => [value, name as RouteType]),
);

export interface RouteNexthop {
  gateway?: string;
  linkIndex?: number;
  /** 1 to 256. */
  weight: number;
  onlink: boolean;
}

export interface Route {
  family: 4 | 6;
  /** Canonical CIDR, `0.0.0.0/0` and `::/0` for the default routes. */
  destination: string;
  type: RouteType;
  gateway?: string;
  linkIndex?: number;
  onlink: boolean;
  nexthops?: RouteNexthop[];
  /** A next-hop object (linux/nexthop.h) instead of a gateway. */
  nexthopId?: number;
  source?: string;
  metric?: number;
  table: number;
  protocol: number;
  scope: number;
  tos: number;
  mtuBytes?: number;
  advMss?: number;
  /** An exception the kernel learned, not an entry of the table. */
  cloned: boolean;
}

export interface RouteRequest {
  destination: Cidr;
  type?: Exclude<RouteType, 'other'>;
  gateway?: IpBytes;
  linkIndex?: number;
  onlink?: boolean;
  nexthops?: { gateway?: IpBytes; linkIndex?: number; weight?: number; onlink?: boolean }[];
  nexthopId?: number;
  source?: IpBytes;
  metric?: number;
  table?: number;
  protocol?: number;
  scope?: number;
  mtuBytes?: number;
  advMss?: number;
}

export type RouteMode = 'add' | 'replace' | 'append';

const MODE_FLAGS: Record<RouteMode, number> = {
  add: NLM_F_CREATE | NLM_F_EXCL,
  replace: NLM_F_CREATE | NLM_F_REPLACE,
  append: NLM_F_CREATE | NLM_F_APPEND,
};

export interface RouteFilter {
  family?: 4 | 6;
  table?: number;
  protocol?: number;
  linkIndex?: number;
}

/** A dump; with strict checking on, the kernel applies the filter. */
export function encodeGetRoutes(w: MessageWriter, filter: RouteFilter, flags: number): void {
  w.begin(RTM.GETROUTE, NLM_F_REQUEST | flags);
  const table = filter.table ?? 0;
  w.u8(filter.family === 6 ? AF_INET6 : filter.family === 4 ? AF_INET : 0);
  w.u8(0).u8(0).u8(0);
  w.u8(table > 255 ? 0 : table)
    .u8(filter.protocol ?? 0)
    .u8(0)
    .u8(0)
    .u32le(0);
  if (table > 255) w.attrU32(RTA.TABLE, table);
  if (filter.linkIndex !== undefined) w.attrU32(RTA.OIF, filter.linkIndex);
  w.end();
}

/** Same as `ip route get ADDRESS [from SOURCE] [mark MARK]`. */
export function encodeRouteLookup(
  w: MessageWriter,
  destination: IpBytes,
  options: { source?: IpBytes; mark?: number; iifIndex?: number; oifIndex?: number },
): void {
  w.begin(RTM.GETROUTE, NLM_F_REQUEST);
  const bits = destination.length * 8;
  w.u8(bits === 32 ? AF_INET : AF_INET6)
    .u8(bits)
    .u8(options.source === undefined ? 0 : bits)
    .u8(0);
  w.u8(0).u8(0).u8(0).u8(0).u32le(0);
  w.attr(RTA.DST, destination);
  if (options.source !== undefined) w.attr(RTA.SRC, options.source);
  if (options.iifIndex !== undefined) w.attrU32(RTA.IIF, options.iifIndex);
  if (options.oifIndex !== undefined) w.attrU32(RTA.OIF, options.oifIndex);
  if (options.mark !== undefined) w.attrU32(RTA.MARK, options.mark);
  w.end();
}

/** Same as `ip route add|replace|append`. */
export function encodeNewRoute(w: MessageWriter, route: RouteRequest, mode: RouteMode = 'add'): void {
  w.begin(RTM.NEWROUTE, NLM_F_REQUEST | MODE_FLAGS[mode]);
  encodeRoute(w, route, route.protocol ?? RTPROT_BOOT, route.scope ?? defaultScope(route), RTN.UNICAST);
  w.end();
}

/** Same as `ip route delete`: what is not given matches anything. */
export function encodeDelRoute(w: MessageWriter, route: RouteRequest): void {
  w.begin(RTM.DELROUTE, NLM_F_REQUEST);
  encodeRoute(w, route, route.protocol ?? 0, route.scope ?? RT_SCOPE.NOWHERE, 0);
  w.end();
}

/** iproute2's rule: a unicast route without gateway is for what is on the link. */
function defaultScope(route: RouteRequest): number {
  if (route.destination.family === 6) return RT_SCOPE.UNIVERSE;
  if (route.type === 'local') return RT_SCOPE.HOST;
  const direct =
    (route.type ?? 'unicast') === 'unicast' &&
    route.gateway === undefined &&
    route.nexthopId === undefined &&
    (route.nexthops === undefined || route.nexthops.every(hop => hop.gateway === undefined));
  return direct ? RT_SCOPE.LINK : RT_SCOPE.UNIVERSE;
}

function encodeRoute(w: MessageWriter, r: RouteRequest, protocol: number, scope: number, type: number): void {
  const table = r.table ?? RT_TABLE_MAIN;
  const onlink = r.onlink === true ? RTNH_F_ONLINK : 0;
  w.u8(r.destination.family === 4 ? AF_INET : AF_INET6)
    .u8(r.destination.prefixLength)
    .u8(0)
    .u8(0);
  w.u8(table > 255 ? 0 : table)
    .u8(protocol)
    .u8(scope);
  w.u8(r.type === undefined ? type : TYPE_NUMBERS[r.type]).u32le(onlink);
  if (r.destination.prefixLength > 0) w.attr(RTA.DST, r.destination.network);
  if (table > 255) w.attrU32(RTA.TABLE, table);
  if (r.metric !== undefined) w.attrU32(RTA.PRIORITY, r.metric);
  if (r.source !== undefined) w.attr(RTA.PREFSRC, r.source);
  if (r.nexthopId !== undefined) w.attrU32(RTA.NH_ID, r.nexthopId);
  if (r.linkIndex !== undefined) w.attrU32(RTA.OIF, r.linkIndex);
  if (r.gateway !== undefined) encodeGateway(w, r.gateway, r.destination.family);
  if (r.nexthops !== undefined)
    w.nest(RTA.MULTIPATH, () => {
      for (const hop of r.nexthops ?? []) encodeNexthop(w, hop, r.destination.family);
    });
  if (r.mtuBytes !== undefined || r.advMss !== undefined)
    w.nest(RTA.METRICS, () => {
      if (r.mtuBytes !== undefined) w.attrU32(RTAX_MTU, r.mtuBytes);
      if (r.advMss !== undefined) w.attrU32(RTAX_ADVMSS, r.advMss);
    });
}

/** RTA_VIA carries a gateway of the other family (RFC 8950): `| family u16 | address |`. */
function encodeGateway(w: MessageWriter, gateway: IpBytes, family: 4 | 6): void {
  if (gateway.length === (family === 4 ? 4 : 16)) {
    w.attr(RTA.GATEWAY, gateway);
    return;
  }
  const via = Buffer.alloc(2 + gateway.length);
  via.writeUInt16LE(gateway.length === 4 ? AF_INET : AF_INET6, 0);
  via.set(gateway, 2);
  w.attr(RTA.VIA, via);
}

function encodeNexthop(
  w: MessageWriter,
  hop: NonNullable<RouteRequest['nexthops']>[number],
  family: 4 | 6,
): void {
  const at = w.reserve(8);
  w.buffer[at + 2] = hop.onlink === true ? RTNH_F_ONLINK : 0;
  w.buffer[at + 3] = (hop.weight ?? 1) - 1;
  w.buffer.writeInt32LE(hop.linkIndex ?? 0, at + 4);
  if (hop.gateway !== undefined) encodeGateway(w, hop.gateway, family);
  w.buffer.writeUInt16LE(w.length - at, at);
}

/** RTM_NEWROUTE or RTM_DELROUTE; undefined for families other than IPv4 and IPv6. */
export function decodeRoute(message: NetlinkMessage): Route | undefined {
  const reader = new ByteReader(message.payload, 'rtmsg');
  const familyNumber = reader.u8('rtm_family');
  if (familyNumber !== AF_INET && familyNumber !== AF_INET6) return undefined;
  const family = familyNumber === AF_INET ? 4 : 6;
  const prefixLength = reader.u8('rtm_dst_len');
  reader.skip(1, 'rtm_src_len');
  const tos = reader.u8('rtm_tos');
  const table = reader.u8('rtm_table');
  const protocol = reader.u8('rtm_protocol');
  const scope = reader.u8('rtm_scope');
  const type = TYPE_NAMES.get(reader.u8('rtm_type')) ?? 'other';
  const flags = reader.u32le('rtm_flags');
  const onlink = (flags & RTNH_F_ONLINK) !== 0;
  const cloned = (flags & RTM_F_CLONED) !== 0;
  const route: Route = { family, destination: '', type, onlink, table, protocol, scope, tos, cloned };
  let destination: IpBytes | undefined;
  for (const { type: attribute, value } of attributes(message.payload, 12)) {
    if (attribute === RTA.DST) destination = value;
    else if (attribute === RTA.OIF) route.linkIndex = u32(value, 'RTA_OIF');
    else if (attribute === RTA.GATEWAY) route.gateway = formatIp(value);
    else if (attribute === RTA.VIA) route.gateway = formatIp(value.subarray(2));
    else if (attribute === RTA.PRIORITY) route.metric = u32(value, 'RTA_PRIORITY');
    else if (attribute === RTA.PREFSRC) route.source = formatIp(value);
    else if (attribute === RTA.TABLE) route.table = u32(value, 'RTA_TABLE');
    else if (attribute === RTA.NH_ID) route.nexthopId = u32(value, 'RTA_NH_ID');
    else if (attribute === RTA.MULTIPATH) route.nexthops = decodeNexthops(value);
    else if (attribute === RTA.METRICS) decodeMetrics(route, value);
  }
  route.destination =
    destination === undefined
      ? `${family === 4 ? '0.0.0.0' : '::'}/${prefixLength}`
      : formatCidr({ family, address: destination, network: destination, prefixLength });
  return route;
}

function decodeMetrics(route: Route, bytes: Buffer): void {
  for (const { type, value } of attributes(bytes, 0)) {
    if (type === RTAX_MTU) route.mtuBytes = u32(value, 'RTAX_MTU');
    else if (type === RTAX_ADVMSS) route.advMss = u32(value, 'RTAX_ADVMSS');
  }
}

function decodeNexthops(bytes: Buffer): RouteNexthop[] {
  const hops: RouteNexthop[] = [];
  for (let at = 0; at + 8 <= bytes.length; ) {
    const reader = new ByteReader(bytes, 'rtnexthop', at);
    const length = reader.u16le('rtnh_len');
    if (length < 8 || at + length > bytes.length) reader.fail('rtnh_len', String(length));
    const flags = reader.u8('rtnh_flags');
    const hop: RouteNexthop = { weight: reader.u8('rtnh_hops') + 1, onlink: (flags & RTNH_F_ONLINK) !== 0 };
    const linkIndex = reader.i32le('rtnh_ifindex');
    if (linkIndex !== 0) hop.linkIndex = linkIndex;
    for (const { type, value } of attributes(bytes.subarray(at, at + length), 8)) {
      if (type === RTA.GATEWAY) hop.gateway = formatIp(value);
      else if (type === RTA.VIA) hop.gateway = formatIp(value.subarray(2));
    }
    hops.push(hop);
    at += (length + 3) & ~3;
  }
  return hops;
}
