// Traffic control: queueing disciplines tbf and ingress, and the u32 filter that redirects everything. Pure.
// linux/pkt_sched.h, linux/pkt_cls.h, linux/tc_act/tc_mirred.h.
//
//   struct tcmsg: | family u8 | pad u8 | pad u16 | ifindex i32 | handle u32 | parent u32 | info u32 |
//   struct tc_ratespec: | cell_log u8 | linklayer u8 | overhead u16 | cell_align i16 | mpu u16 | rate u32 |
//   struct tc_tbf_qopt: | rate | peakrate | limit u32 | buffer u32 (ticks of 64 ns) | mtu u32 |
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST } from '../netlink/constants.ts';
import {
  attributeString,
  attributes,
  type MessageWriter,
  type NetlinkMessage,
  u32,
} from '../netlink/message.ts';

const RTM = { NEWQDISC: 36, DELQDISC: 37, GETQDISC: 38, NEWTFILTER: 44, GETTFILTER: 46 } as const;
const TC_H_ROOT = 0xffffffff;
const TC_H_INGRESS = 0xfffffff1;
const INGRESS_HANDLE = 0xffff0000;
const TBF_HANDLE = 0x00010000;
const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_TBF = { PARMS: 1, RATE64: 4, BURST: 6 } as const;
const TC_LINKLAYER_ETHERNET = 1;
const TCA_U32 = { SEL: 5, ACT: 7 } as const;
const TC_U32_TERMINAL = 1;
const TCA_ACT = { KIND: 1, OPTIONS: 2 } as const;
const TCA_MIRRED_PARMS = 2;
const TCA_EGRESS_REDIR = 1;
const TC_ACT_STOLEN = 4;
const ETH_P_ALL = 0x0003;
const NANOSECONDS_PER_TICK = 64;

/** A token bucket: bytes a second, bytes at once, bytes that may wait. */
export interface TokenBucket {
  rateBytes: number;
  burstBytes: number;
  limitBytes: number;
}

export interface Qdisc {
  linkIndex: number;
  kind: string;
  parent: number;
  tokenBucket?: TokenBucket;
}

function tcmsg(w: MessageWriter, index: number, handle: number, parent: number, info = 0): void {
  w.u8(0).u8(0).u16le(0).i32le(index).u32le(handle).u32le(parent).u32le(info);
}

const cap32 = (value: number): number => Math.min(Math.round(value), 0xffffffff);

/** Same as `tc qdisc replace dev X root handle 1: tbf rate … burst … limit …`. */
export function encodeTokenBucket(w: MessageWriter, index: number, bucket: TokenBucket): void {
  const { rateBytes, burstBytes, limitBytes } = bucket;
  w.begin(RTM.NEWQDISC, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE);
  tcmsg(w, index, TBF_HANDLE, TC_H_ROOT);
  w.attrString(TCA_KIND, 'tbf');
  const parms = Buffer.alloc(36);
  parms[1] = TC_LINKLAYER_ETHERNET;
  parms.writeUInt32LE(cap32(rateBytes), 8);
  parms.writeUInt32LE(cap32(limitBytes), 24);
  parms.writeUInt32LE(cap32((burstBytes * 1e9) / rateBytes / NANOSECONDS_PER_TICK), 28);
  w.nest(TCA_OPTIONS, () => {
    w.attr(TCA_TBF.PARMS, parms).attrU32(TCA_TBF.BURST, cap32(burstBytes));
    if (rateBytes >= 2 ** 32) {
      const rate = Buffer.alloc(8);
      rate.writeBigUInt64LE(BigInt(Math.round(rateBytes)));
      w.attr(TCA_TBF.RATE64, rate);
    }
  });
  w.end();
}

/** Same as `tc qdisc add dev X ingress`. */
export function encodeIngress(w: MessageWriter, index: number): void {
  w.begin(RTM.NEWQDISC, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL);
  tcmsg(w, index, INGRESS_HANDLE, TC_H_INGRESS);
  w.attrString(TCA_KIND, 'ingress');
  w.end();
}

/** Same as `tc qdisc del dev X ingress`. */
export function encodeDelIngress(w: MessageWriter, index: number): void {
  w.begin(RTM.DELQDISC, NLM_F_REQUEST);
  tcmsg(w, index, INGRESS_HANDLE, TC_H_INGRESS);
  w.end();
}

/** Same as `tc qdisc del dev X root`. */
export function encodeDelRoot(w: MessageWriter, index: number): void {
  w.begin(RTM.DELQDISC, NLM_F_REQUEST);
  tcmsg(w, index, 0, TC_H_ROOT);
  w.end();
}

/** Same as `tc filter add dev X parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev Y`. */
export function encodeRedirectAll(w: MessageWriter, index: number, toIndex: number): void {
  w.begin(RTM.NEWTFILTER, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL);
  // tcm_info: priority above, protocol (in network order) below.
  tcmsg(w, index, 0, INGRESS_HANDLE, (1 << 16) | ((ETH_P_ALL & 0xff) << 8) | (ETH_P_ALL >> 8));
  w.attrString(TCA_KIND, 'u32');
  // One key that matches anything: mask and value are 0.
  const selector = Buffer.alloc(32);
  selector[0] = TC_U32_TERMINAL;
  selector[2] = 1;
  const mirred = Buffer.alloc(28);
  mirred.writeInt32LE(TC_ACT_STOLEN, 8);
  mirred.writeInt32LE(TCA_EGRESS_REDIR, 20);
  mirred.writeUInt32LE(toIndex, 24);
  w.nest(TCA_OPTIONS, () => {
    w.attr(TCA_U32.SEL, selector).nest(TCA_U32.ACT, () => {
      w.nest(1, () => {
        w.attrString(TCA_ACT.KIND, 'mirred').nest(TCA_ACT.OPTIONS, () => w.attr(TCA_MIRRED_PARMS, mirred));
      });
    });
  });
  w.end();
}

/** Same as `tc qdisc show [dev X]`; the kernel may send those of other links too. */
export function encodeGetQdiscs(w: MessageWriter, index: number, flags: number): void {
  w.begin(RTM.GETQDISC, NLM_F_REQUEST | flags);
  tcmsg(w, index, 0, 0);
  w.end();
}

export function decodeQdisc(message: NetlinkMessage): Qdisc {
  const { payload } = message;
  const qdisc: Qdisc = { linkIndex: payload.readInt32LE(4), kind: '', parent: payload.readUInt32LE(12) };
  let options: Buffer | undefined;
  for (const { type, value } of attributes(payload, 20)) {
    if (type === TCA_KIND) qdisc.kind = attributeString(value);
    else if (type === TCA_OPTIONS) options = value;
  }
  if (qdisc.kind === 'tbf' && options !== undefined) qdisc.tokenBucket = decodeTokenBucket(options);
  return qdisc;
}

function decodeTokenBucket(bytes: Buffer): TokenBucket {
  const bucket: TokenBucket = { rateBytes: 0, burstBytes: 0, limitBytes: 0 };
  let ticks = 0;
  for (const { type, value } of attributes(bytes, 0)) {
    if (type === TCA_TBF.PARMS && value.length >= 36) {
      bucket.rateBytes ||= u32(value.subarray(8), 'tc_ratespec.rate');
      bucket.limitBytes = u32(value.subarray(24), 'tc_tbf_qopt.limit');
      ticks = u32(value.subarray(28), 'tc_tbf_qopt.buffer');
    } else if (type === TCA_TBF.RATE64 && value.length === 8)
      bucket.rateBytes = Number(value.readBigUInt64LE(0));
  }
  bucket.burstBytes = Math.round((ticks * NANOSECONDS_PER_TICK * bucket.rateBytes) / 1e9);
  return bucket;
}

/** Same as `tc filter show dev X parent ffff:`. */
export function encodeGetIngressFilters(w: MessageWriter, index: number, flags: number): void {
  w.begin(RTM.GETTFILTER, NLM_F_REQUEST | flags);
  tcmsg(w, index, 0, INGRESS_HANDLE);
  w.end();
}

/** Where a redirecting filter sends packets; undefined for any other. */
export function decodeRedirect(message: NetlinkMessage): number | undefined {
  const find = (bytes: Buffer | undefined, type: number, start = 0): Buffer | undefined =>
    bytes === undefined ? undefined : attributes(bytes, start).find(one => one.type === type)?.value;
  const actions = find(find(message.payload, TCA_OPTIONS, 20), TCA_U32.ACT);
  const mirred = find(find(find(actions, 1), TCA_ACT.OPTIONS), TCA_MIRRED_PARMS);
  return mirred !== undefined && mirred.length >= 28 ? mirred.readUInt32LE(24) : undefined;
}
