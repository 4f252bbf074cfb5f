// Policy routing rules: RTM_NEWRULE and its relatives. Pure.
//
//   struct fib_rule_hdr: | family | dst_len | src_len | tos | table | res1 | res2 | action | (u8 each) | flags u32 |
import { ByteReader } from '../../lib/bytes.ts';
import { type Cidr, formatCidr } from '../../lib/cidr.ts';
import type { IpBytes } from '../../lib/ip.ts';
import {
  AF_INET,
  AF_INET6,
  FIB_RULE_INVERT,
  FR_ACT_TO_TBL,
  FRA,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REQUEST,
  RTM,
} from './constants.ts';
import { attributeString, attributes, type MessageWriter, type NetlinkMessage, u8, u32 } from './message.ts';

export interface Rule {
  family: 4 | 6;
  priority: number;
  source?: string;
  destination?: string;
  fwmark?: { value: number; mask: number };
  iif?: string;
  oif?: string;
  table: number;
  /** FR_ACT_*; 1 looks into a table. */
  action: number;
  invert: boolean;
  /** FRA_PROTOCOL, who made it; 2 is the kernel. */
  protocol: number;
}

export interface RuleRequest {
  family: 4 | 6;
  priority: number;
  source?: Cidr;
  destination?: Cidr;
  fwmark?: { value: number; mask: number };
  iif?: string;
  oif?: string;
  table: number;
  protocol?: number;
}

export function encodeGetRules(w: MessageWriter, family: 0 | 4 | 6, flags: number): void {
  w.begin(RTM.GETRULE, NLM_F_REQUEST | flags);
  w.u8(family === 4 ? AF_INET : family === 6 ? AF_INET6 : 0).zero(11);
  w.end();
}

/** Same as `ip rule add`. */
export function encodeNewRule(w: MessageWriter, rule: RuleRequest): void {
  w.begin(RTM.NEWRULE, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL);
  encodeRule(w, rule);
  w.end();
}

/** Same as `ip rule delete`. */
export function encodeDelRule(w: MessageWriter, rule: RuleRequest): void {
  w.begin(RTM.DELRULE, NLM_F_REQUEST);
  encodeRule(w, rule);
  w.end();
}

function encodeRule(w: MessageWriter, r: RuleRequest): void {
  w.u8(r.family === 4 ? AF_INET : AF_INET6);
  w.u8(r.destination?.prefixLength ?? 0)
    .u8(r.source?.prefixLength ?? 0)
    .u8(0);
  w.u8(r.table > 255 ? 0 : r.table)
    .u8(0)
    .u8(0)
    .u8(FR_ACT_TO_TBL)
    .u32le(0);
  w.attrU32(FRA.PRIORITY, r.priority);
  w.attrU32(FRA.TABLE, r.table);
  if (r.source !== undefined) w.attr(FRA.SRC, r.source.network);
  if (r.destination !== undefined) w.attr(FRA.DST, r.destination.network);
  if (r.fwmark !== undefined) w.attrU32(FRA.FWMARK, r.fwmark.value).attrU32(FRA.FWMASK, r.fwmark.mask);
  if (r.iif !== undefined) w.attrString(FRA.IIFNAME, r.iif);
  if (r.oif !== undefined) w.attrString(FRA.OIFNAME, r.oif);
  if (r.protocol !== undefined) w.attrU8(FRA.PROTOCOL, r.protocol);
}

/** RTM_NEWRULE or RTM_DELRULE; undefined for families other than IPv4 and IPv6. */
export function decodeRule(message: NetlinkMessage): Rule | undefined {
  const reader = new ByteReader(message.payload, 'fib_rule_hdr');
  const familyNumber = reader.u8('family');
  if (familyNumber !== AF_INET && familyNumber !== AF_INET6) return undefined;
  const family = familyNumber === AF_INET ? 4 : 6;
  const destinationLength = reader.u8('dst_len');
  const sourceLength = reader.u8('src_len');
  reader.skip(1, 'tos');
  const table = reader.u8('table');
  reader.skip(2);
  const action = reader.u8('action');
  const invert = (reader.u32le('flags') & FIB_RULE_INVERT) !== 0;
  const rule: Rule = { family, priority: 0, table, action, invert, protocol: 0 };
  let mark = 0;
  let mask: number | undefined;
  const cidr = (network: IpBytes, prefixLength: number): string =>
    formatCidr({ family, address: network, network, prefixLength });
  for (const { type, value } of attributes(message.payload, 12)) {
    if (type === FRA.PRIORITY) rule.priority = u32(value, 'FRA_PRIORITY');
    else if (type === FRA.SRC) rule.source = cidr(value, sourceLength);
    else if (type === FRA.DST) rule.destination = cidr(value, destinationLength);
    else if (type === FRA.TABLE) rule.table = u32(value, 'FRA_TABLE');
    else if (type === FRA.FWMARK) mark = u32(value, 'FRA_FWMARK');
    else if (type === FRA.FWMASK) mask = u32(value, 'FRA_FWMASK');
    else if (type === FRA.IIFNAME) rule.iif = attributeString(value);
    else if (type === FRA.OIFNAME) rule.oif = attributeString(value);
    else if (type === FRA.PROTOCOL) rule.protocol = u8(value, 'FRA_PROTOCOL');
  }
  if (mask !== undefined) rule.fwmark = { value: mark, mask };
  return rule;
}
