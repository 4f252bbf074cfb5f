// Connection tracking entries: ctnetlink over NETLINK_NETFILTER (linux/netfilter/nfnetlink_conntrack.h). Pure.
//
//   struct nfgenmsg: | family u8 | version u8 | res_id be16 |
//   CTA_TUPLE_ORIG { CTA_TUPLE_IP { src, dst }, CTA_TUPLE_PROTO { number u8, src port be16, dst port be16 } }
import { formatIp, requireIp } from '../../lib/ip.ts';
import { AF_INET, AF_INET6, NLM_F_REQUEST } from './constants.ts';
import { attributes, type MessageWriter, type NetlinkMessage, u8, u16be, u32be } from './message.ts';

const NFNL_SUBSYS_CTNETLINK = 1;
const IPCTNL_MSG_CT_GET = 1;
const IPCTNL_MSG_CT_DELETE = 2;
const CTA = { TUPLE_ORIG: 1, TUPLE_REPLY: 2, STATUS: 3, TIMEOUT: 7, MARK: 8, ID: 12, ZONE: 18 } as const;
const CTA_TUPLE = { IP: 1, PROTO: 2 } as const;
const CTA_IP = { V4_SRC: 1, V4_DST: 2, V6_SRC: 3, V6_DST: 4 } as const;
const CTA_PROTO = {
  NUM: 1,
  SRC_PORT: 2,
  DST_PORT: 3,
  ICMP_ID: 4,
  ICMP_TYPE: 5,
  ICMP_CODE: 6,
  ICMPV6_ID: 7,
  ICMPV6_TYPE: 8,
  ICMPV6_CODE: 9,
} as const;
const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;

/** IPS_* (linux/netfilter/nf_conntrack_common.h). */
export const CONNTRACK_STATUS = {
  SEEN_REPLY: 2,
  ASSURED: 4,
  CONFIRMED: 8,
  SRC_NAT: 16,
  DST_NAT: 32,
  DYING: 512,
} as const;

export interface ConntrackTuple {
  source: string;
  destination: string;
  /** IPPROTO_*: 6 TCP, 17 UDP, 132 SCTP. */
  protocol: number;
  sourcePort?: number;
  destinationPort?: number;
  icmp?: { id: number; type: number; code: number };
}

export interface ConntrackFlow {
  family: 4 | 6;
  original: ConntrackTuple;
  /** What an answer looks like: shows where a translated connection really goes. */
  reply: ConntrackTuple;
  /** CONNTRACK_STATUS bits. */
  status: number;
  timeoutSeconds?: number;
  mark: number;
  id: number;
  zone: number;
}

/** Same as `conntrack -L [-f ipv6]`. */
export function encodeGetConntrack(w: MessageWriter, family: 4 | 6, flags: number): void {
  w.begin((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET, NLM_F_REQUEST | flags);
  w.u8(family === 4 ? AF_INET : AF_INET6)
    .u8(0)
    .u16be(0);
  w.end();
}

/** Same as `conntrack -D` with the whole tuple; the id guards against a new connection of the same tuple. */
export function encodeDelConntrack(w: MessageWriter, flow: ConntrackFlow): void {
  w.begin((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_DELETE, NLM_F_REQUEST);
  w.u8(flow.family === 4 ? AF_INET : AF_INET6)
    .u8(0)
    .u16be(0);
  encodeTuple(w, flow.original);
  if (flow.zone !== 0) w.attrU16be(CTA.ZONE, flow.zone);
  w.attrU32be(CTA.ID, flow.id);
  w.end();
}

function encodeTuple(w: MessageWriter, tuple: ConntrackTuple): void {
  const source = requireIp(tuple.source);
  const v4 = source.length === 4;
  w.nest(CTA.TUPLE_ORIG, () => {
    w.nest(CTA_TUPLE.IP, () => {
      w.attr(v4 ? CTA_IP.V4_SRC : CTA_IP.V6_SRC, source);
      w.attr(v4 ? CTA_IP.V4_DST : CTA_IP.V6_DST, requireIp(tuple.destination));
    });
    w.nest(CTA_TUPLE.PROTO, () => {
      w.attrU8(CTA_PROTO.NUM, tuple.protocol);
      if (tuple.sourcePort !== undefined) w.attrU16be(CTA_PROTO.SRC_PORT, tuple.sourcePort);
      if (tuple.destinationPort !== undefined) w.attrU16be(CTA_PROTO.DST_PORT, tuple.destinationPort);
      if (tuple.icmp === undefined) return;
      w.attrU16be(v4 ? CTA_PROTO.ICMP_ID : CTA_PROTO.ICMPV6_ID, tuple.icmp.id);
      w.attrU8(v4 ? CTA_PROTO.ICMP_TYPE : CTA_PROTO.ICMPV6_TYPE, tuple.icmp.type);
      w.attrU8(v4 ? CTA_PROTO.ICMP_CODE : CTA_PROTO.ICMPV6_CODE, tuple.icmp.code);
    });
  });
}

/** One entry of a dump; undefined for families other than IPv4 and IPv6. */
export function decodeConntrack(message: NetlinkMessage): ConntrackFlow | undefined {
  const familyNumber = message.payload[0];
  if (familyNumber !== AF_INET && familyNumber !== AF_INET6) return undefined;
  const nothing: ConntrackTuple = { source: '', destination: '', protocol: 0 };
  const flow: ConntrackFlow = {
    family: familyNumber === AF_INET ? 4 : 6,
    original: nothing,
    reply: nothing,
    status: 0,
    mark: 0,
    id: 0,
    zone: 0,
  };
  for (const { type, value } of attributes(message.payload, 4)) {
    if (type === CTA.TUPLE_ORIG) flow.original = decodeTuple(value);
    else if (type === CTA.TUPLE_REPLY) flow.reply = decodeTuple(value);
    else if (type === CTA.STATUS) flow.status = u32be(value, 'CTA_STATUS');
    else if (type === CTA.TIMEOUT) flow.timeoutSeconds = u32be(value, 'CTA_TIMEOUT');
    else if (type === CTA.MARK) flow.mark = u32be(value, 'CTA_MARK');
    else if (type === CTA.ID) flow.id = u32be(value, 'CTA_ID');
    else if (type === CTA.ZONE) flow.zone = u16be(value, 'CTA_ZONE');
  }
  return flow;
}

function decodeTuple(bytes: Buffer): ConntrackTuple {
  const tuple: ConntrackTuple = { source: '', destination: '', protocol: 0 };
  for (const part of attributes(bytes, 0)) {
    if (part.type === CTA_TUPLE.IP)
      for (const { type, value } of attributes(part.value, 0)) {
        if (type === CTA_IP.V4_SRC || type === CTA_IP.V6_SRC) tuple.source = formatIp(value);
        else if (type === CTA_IP.V4_DST || type === CTA_IP.V6_DST) tuple.destination = formatIp(value);
      }
    else if (part.type === CTA_TUPLE.PROTO) decodeProto(tuple, part.value);
  }
  return tuple;
}

function decodeProto(tuple: ConntrackTuple, bytes: Buffer): void {
  const icmp = { id: 0, type: 0, code: 0 };
  for (const { type, value } of attributes(bytes, 0)) {
    if (type === CTA_PROTO.NUM) tuple.protocol = u8(value, 'CTA_PROTO_NUM');
    else if (type === CTA_PROTO.SRC_PORT) tuple.sourcePort = u16be(value, 'CTA_PROTO_SRC_PORT');
    else if (type === CTA_PROTO.DST_PORT) tuple.destinationPort = u16be(value, 'CTA_PROTO_DST_PORT');
    else if (type === CTA_PROTO.ICMP_ID || type === CTA_PROTO.ICMPV6_ID)
      icmp.id = u16be(value, 'CTA_PROTO_ICMP_ID');
    else if (type === CTA_PROTO.ICMP_TYPE || type === CTA_PROTO.ICMPV6_TYPE)
      icmp.type = u8(value, 'CTA_PROTO_ICMP_TYPE');
    else if (type === CTA_PROTO.ICMP_CODE || type === CTA_PROTO.ICMPV6_CODE)
      icmp.code = u8(value, 'CTA_PROTO_ICMP_CODE');
  }
  if (tuple.protocol === IPPROTO_ICMP || tuple.protocol === IPPROTO_ICMPV6) tuple.icmp = icmp;
}
