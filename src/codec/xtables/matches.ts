// The matches that our rules are made of, from the options of iptables to the structures of linux/netfilter/xt_*.h. One
// entry per match: its revision (the highest that libxtables uses), the size of its structure, and its options. The
// bytes must be the ones iptables writes, for rules are compared by them; fields that the kernel keeps for itself stay
// zero, and GET_ENTRIES shows them as zero.

import type { ExtensionCodec } from './extension.ts';
import type { XtablesFamily } from './layout.ts';
import { multiport, sctp, tcp, udp } from './match-ports.ts';
import {
  parseFlags,
  parseMark,
  parseNumber,
  parsePortRange,
  unsupported,
  writeInterface,
  writeNetwork,
} from './option-reader.ts';

const comment: ExtensionCodec = {
  revision: 0,
  size: 256,
  needsOption: true,
  option({ bytes, at }, name, negated, values) {
    if (name !== '--comment' || negated) return false;
    const text = values.next();
    if (Buffer.byteLength(text) > 255) unsupported('a comment of more than 255 bytes');
    bytes.write(text, at);
    return true;
  },
};

/** XT_CONNTRACK_STATE_* */
const STATES = {
  INVALID: 1,
  ESTABLISHED: 2,
  RELATED: 4,
  NEW: 8,
  SNAT: 64,
  DNAT: 128,
  UNTRACKED: 256,
};
const STATUSES = { EXPECTED: 1, SEEN_REPLY: 2, ASSURED: 4, CONFIRMED: 8 };
const PROTOCOLS: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132 };
/** XT_CONNTRACK_*, where the address, or the port (its upper end 14 to 16 bytes further), stands. */
const CT_ADDRESSES: Readonly<Record<string, [flag: number, at: number]>> = {
  '--ctorigsrc': [1 << 2, 0],
  '--ctorigdst': [1 << 3, 32],
  '--ctreplsrc': [1 << 4, 64],
  '--ctrepldst': [1 << 5, 96],
};
const CT_PORTS: Readonly<Record<string, [flag: number, at: number, high: number]>> = {
  '--ctorigsrcport': [1 << 8, 138, 154],
  '--ctorigdstport': [1 << 9, 140, 156],
  '--ctreplsrcport': [1 << 10, 142, 158],
  '--ctrepldstport': [1 << 11, 144, 160],
};
const CT = { STATE: 1 << 0, PROTO: 1 << 1, STATUS: 1 << 6, DIRECTION: 1 << 12, STATE_ALIAS: 1 << 13 };

/** struct xt_conntrack_mtinfo3. */
const conntrack: ExtensionCodec = {
  revision: 3,
  size: 164,
  needsOption: true,
  option({ bytes, at, family }, name, negated, values) {
    let flag: number;
    let inverted = negated;
    const address = CT_ADDRESSES[name];
    const port = CT_PORTS[name];
    if (name === '--ctstate' || name === '--state') {
      flag = CT.STATE | (name === '--state' ? CT.STATE_ALIAS : 0);
      bytes.writeUInt16LE(parseFlags(values.next(), STATES), at + 150);
    } else if (name === '--ctstatus') {
      flag = CT.STATUS;
      bytes.writeUInt16LE(parseFlags(values.next(), STATUSES), at + 152);
    } else if (name === '--ctproto') {
      flag = CT.PROTO;
      const text = values.next();
      bytes.writeUInt16LE(PROTOCOLS[text] ?? unsupported(`the protocol ${text}`), at + 136);
    } else if (address !== undefined) {
      flag = address[0];
      writeNetwork(bytes, values.next(), family, at + address[1], at + address[1] + 16);
    } else if (port !== undefined) {
      flag = port[0];
      const [low, high] = parsePortRange(values.next());
      bytes.writeUInt16LE(low, at + port[1]);
      bytes.writeUInt16LE(high, at + port[2]);
    } else if (name === '--ctdir') {
      flag = CT.DIRECTION;
      const text = values.next();
      if (negated || (text !== 'ORIGINAL' && text !== 'REPLY')) unsupported(`--ctdir ${text}`);
      // "Not the original direction" is how iptables writes the reply's.
      inverted = text === 'REPLY';
    } else return false;
    bytes.writeUInt16LE(bytes.readUInt16LE(at + 146) | flag, at + 146);
    if (inverted) bytes.writeUInt16LE(bytes.readUInt16LE(at + 148) | (flag & ~CT.STATE_ALIAS), at + 148);
    return true;
  },
};

const NO_PACKET = 0xffffffff;

/** struct xt_statistic_info: u16 mode, flags; u32 probability, or every, packet, count; a pointer of the kernel's. */
const statistic: ExtensionCodec = {
  revision: 0,
  size: 24,
  needsOption: true,
  start: ({ bytes, at }) => bytes.writeUInt16LE(0xffff, at),
  option({ bytes, at }, name, negated, values) {
    const mode = bytes.readUInt16LE(at);
    if (name === '--mode') {
      const text = values.next();
      if (negated || (text !== 'random' && text !== 'nth')) unsupported(`--mode ${text}`);
      bytes.writeUInt16LE(text === 'random' ? 0 : 1, at);
      if (text === 'nth') bytes.writeUInt32LE(NO_PACKET, at + 8);
    } else if (name === '--probability' && mode === 0) {
      const text = values.next();
      const chance = /^(0|1|0?\.\d+|[01]\.\d+)$/.test(text) ? Number(text) : Number.NaN;
      if (!(chance >= 0 && chance <= 1)) unsupported(`the probability ${text}`);
      bytes.writeUInt32LE(Math.round(chance * 2 ** 31), at + 4);
      if (negated) bytes[at + 2] = 1;
    } else if (name === '--every' && mode === 1) {
      const every = parseNumber(values.next(), 0xffffffff);
      if (every === 0) unsupported('--every 0');
      bytes.writeUInt32LE(every - 1, at + 4);
      if (negated) bytes[at + 2] = 1;
    } else if (name === '--packet' && mode === 1 && !negated) bytes.writeUInt32LE(values.u32(), at + 8);
    else return false;
    return true;
  },
  finish({ bytes, at }) {
    const mode = bytes.readUInt16LE(at);
    if (mode === 0xffff) unsupported('-m statistic without a mode');
    const packet = bytes.readUInt32LE(at + 8);
    const left = bytes.readUInt32LE(at + 4) - packet;
    if (left < 0)
      unsupported(packet === NO_PACKET ? '--every without --packet' : '--packet of --every or more');
    // iptables writes this for both modes; the probability stands where --every does.
    bytes.writeUInt32LE(left, at + 12);
  },
};

const RECENT: Readonly<Record<string, number>> = { '--rcheck': 1, '--set': 2, '--update': 4, '--remove': 8 };

/** struct xt_recent_mtinfo_v1: u32 seconds, hit_count; u8 check_set, invert; char name[200]; u8 side; mask at 212. */
const recent: ExtensionCodec = {
  revision: 1,
  size: 228,
  needsOption: true,
  start({ bytes, at }) {
    bytes.write('DEFAULT', at + 10, 'latin1');
    bytes.fill(0xff, at + 212, at + 228);
  },
  option({ bytes, at, family }, name, negated, values) {
    const action = RECENT[name];
    if (action !== undefined) {
      if ((bytes[at + 8]! & 15) !== 0) unsupported(`${name} beside another`);
      bytes[at + 8]! |= action;
      if (negated) bytes[at + 9] = 1;
      return true;
    }
    if (negated) return false;
    if (name === '--seconds') bytes.writeUInt32LE(values.u32(), at);
    else if (name === '--hitcount') bytes.writeUInt32LE(values.u32(), at + 4);
    else if (name === '--rttl') bytes[at + 8]! |= 16;
    else if (name === '--reap') bytes[at + 8]! |= 32;
    else if (name === '--rsource') bytes[at + 210] = 0;
    else if (name === '--rdest') bytes[at + 210] = 1;
    else if (name === '--name') {
      const text = values.next();
      if (!/^[\x21-\x7e]{1,199}$/.test(text)) unsupported(`the list ${text}`);
      // Of a shorter name the rest of DEFAULT remains behind the zero, as with iptables.
      bytes.write(`${text}\0`, at + 10, 'latin1');
    } else if (name === '--mask') writeMask(bytes, values.next(), family, at + 212);
    else return false;
    return true;
  },
  finish({ bytes, at }) {
    if ((bytes[at + 8]! & 15) === 0) unsupported('-m recent without an action');
  },
};

function writeMask(bytes: Buffer, text: string, family: XtablesFamily, at: number): void {
  const scratch = Buffer.alloc(32);
  writeNetwork(scratch, text, family, 0, 16);
  bytes.fill(0, at, at + 16);
  scratch.copy(bytes, at, 0, family === 4 ? 4 : 16);
}

/** struct xt_mark_mtinfo1: u32 mark, mask; u8 invert. */
const mark: ExtensionCodec = {
  revision: 1,
  size: 12,
  needsOption: true,
  option({ bytes, at }, name, negated, values) {
    if (name !== '--mark') return false;
    const [value, mask] = parseMark(values.next());
    bytes.writeUInt32LE(value, at);
    bytes.writeUInt32LE(mask, at + 4);
    if (negated) bytes[at + 8] = 1;
    return true;
  },
};

/** XT_ADDRTYPE_* */
const ADDRESS_TYPES = {
  UNSPEC: 1,
  UNICAST: 2,
  LOCAL: 4,
  BROADCAST: 8,
  ANYCAST: 16,
  MULTICAST: 32,
  BLACKHOLE: 64,
  UNREACHABLE: 128,
  PROHIBIT: 256,
};

/** struct xt_addrtype_info_v1: u16 source, dest; u32 flags. */
const addrtype: ExtensionCodec = {
  revision: 1,
  size: 8,
  needsOption: true,
  option({ bytes, at }, name, negated, values) {
    if (name === '--src-type' || name === '--dst-type') {
      const isSource = name === '--src-type';
      bytes.writeUInt16LE(parseFlags(values.next(), ADDRESS_TYPES), at + (isSource ? 0 : 2));
      if (negated) bytes[at + 4]! |= isSource ? 1 : 2;
    } else if (name === '--limit-iface-in' && !negated) bytes[at + 4]! |= 4;
    else if (name === '--limit-iface-out' && !negated) bytes[at + 4]! |= 8;
    else return false;
    return true;
  },
};

/** XT_PHYSDEV_OP_* */
const PHYSDEV_IS: Readonly<Record<string, number>> = {
  '--physdev-is-bridged': 4,
  '--physdev-is-in': 8,
  '--physdev-is-out': 16,
};

/** struct xt_physdev_info: char physindev[16], in_mask[16], physoutdev[16], out_mask[16]; u8 invert, bitmask. */
const physdev: ExtensionCodec = {
  revision: 0,
  size: 66,
  needsOption: true,
  option({ bytes, at }, name, negated, values) {
    const is = PHYSDEV_IS[name];
    let flag: number;
    if (is !== undefined) flag = is;
    else if (name === '--physdev-in' || name === '--physdev-out') {
      const isIn = name === '--physdev-in';
      flag = isIn ? 1 : 2;
      writeInterface(bytes, values.next(), at + (isIn ? 0 : 32), at + (isIn ? 16 : 48));
    } else return false;
    bytes[at + 65]! |= flag;
    if (negated) bytes[at + 64]! |= flag;
    return true;
  },
};

export const MATCHES: Readonly<Record<string, ExtensionCodec>> = {
  comment,
  tcp,
  udp,
  sctp,
  conntrack,
  state: { ...conntrack, name: 'conntrack' },
  statistic,
  recent,
  mark,
  addrtype,
  multiport,
  physdev,
};
