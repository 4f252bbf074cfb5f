// The targets of our rules, as matches.ts does matches. Verdicts and jumps are not here: rule.ts writes them.

import type { ExtensionCodec, ExtensionSite } from './extension.ts';
import type { XtablesFamily } from './layout.ts';
import {
  type OptionReader,
  parseAddress,
  parseMark,
  parseNumber,
  parsePort,
  unsupported,
} from './option-reader.ts';

/** struct xt_mark_tginfo2: u32 mark, mask; the new mark is (old & ~mask) ^ mark. */
const mark: ExtensionCodec = {
  revision: 2,
  size: 8,
  needsOption: true,
  option({ bytes, at }, name, negated, values) {
    if (negated) return false;
    const put = (value: number, mask: number): true => {
      bytes.writeUInt32LE(value >>> 0, at);
      bytes.writeUInt32LE(mask >>> 0, at + 4);
      return true;
    };
    if (name === '--set-xmark') return put(...parseMark(values.next()));
    if (name === '--set-mark') {
      const [value, mask] = parseMark(values.next());
      return put(value, value | mask);
    }
    if (name !== '--or-mark' && name !== '--and-mark' && name !== '--xor-mark') return false;
    const bits = parseNumber(values.next(), 0xffffffff);
    if (name === '--or-mark') return put(bits, bits);
    return name === '--and-mark' ? put(0, ~bits) : put(bits, 0);
  },
};

/** NF_NAT_RANGE_* */
const NAT = { MAP_IPS: 1, PROTO_SPECIFIED: 2, PROTO_RANDOM: 4, PERSISTENT: 8, RANDOM_FULLY: 16 } as const;
const PROTOCOLS_WITH_PORTS = new Set([6, 17, 33, 132]);

/** Where the fields of a NAT target's structure are. */
interface NatShape {
  revision: number;
  size: number;
  flags: number;
  min: number;
  max: number;
  minPort: number;
  maxPort: number;
  /** struct nf_nat_ipv4_multi_range_compat begins with a count, always 1. */
  counted: boolean;
}

/** struct nf_nat_ipv4_multi_range_compat with one range. */
const V4_RANGE: NatShape = {
  revision: 0,
  size: 20,
  flags: 4,
  min: 8,
  max: 12,
  minPort: 16,
  maxPort: 18,
  counted: true,
};
/** struct nf_nat_range; nf_nat_range2 has two bytes more, that only port shifting uses. */
const RANGE: NatShape = {
  revision: 0,
  size: 40,
  flags: 0,
  min: 4,
  max: 20,
  minPort: 36,
  maxPort: 38,
  counted: false,
};

function setFlag({ bytes, at }: ExtensionSite, shape: NatShape, flag: number): true {
  bytes[at + shape.flags]! |= flag;
  return true;
}

function writePorts(site: ExtensionSite, shape: NatShape, text: string): void {
  const { bytes, at, protocol } = site;
  if (!PROTOCOLS_WITH_PORTS.has(protocol)) unsupported('ports without a protocol that has them');
  const [low = '', high = low, more] = text.split('-');
  if (more !== undefined || parsePort(low) > parsePort(high) || parsePort(low) === 0)
    unsupported(`the ports ${text}`);
  bytes.writeUInt16BE(parsePort(low), at + shape.minPort);
  bytes.writeUInt16BE(parsePort(high), at + shape.maxPort);
  setFlag(site, shape, NAT.PROTO_SPECIFIED);
}

/** `10.0.0.1`, `10.0.0.1-10.0.0.9:80-90`, `[2001:db8::1]:80`, `:80`. */
function writeRange(site: ExtensionSite, shape: NatShape, text: string): void {
  const { bytes, at, family } = site;
  if ((bytes[at + shape.flags]! & (NAT.MAP_IPS | NAT.PROTO_SPECIFIED)) !== 0) unsupported('two ranges');
  const colon = family === 4 || text.startsWith('[') || text.startsWith(':') ? portColon(text) : -1;
  let addresses = colon < 0 ? text : text.slice(0, colon);
  if (colon >= 0) writePorts(site, shape, text.slice(colon + 1));
  if (addresses === '') return;
  if (addresses.startsWith('[') && addresses.endsWith(']')) addresses = addresses.slice(1, -1);
  const [low = '', high = low, more] = addresses.split('-');
  if (more !== undefined) unsupported(`the range ${text}`);
  bytes.set(parseAddress(low, family), at + shape.min);
  bytes.set(parseAddress(high, family), at + shape.max);
  setFlag(site, shape, NAT.MAP_IPS);
}

function portColon(text: string): number {
  return text.startsWith('[') ? text.indexOf(':', text.indexOf(']')) : text.indexOf(':');
}

function nat(
  shape: NatShape,
  flags: Readonly<Record<string, number>>,
  read: (site: ExtensionSite, name: string, values: OptionReader) => boolean,
): ExtensionCodec {
  return {
    revision: shape.revision,
    size: shape.size,
    start({ bytes, at }) {
      if (shape.counted) bytes.writeUInt32LE(1, at);
    },
    option(site, name, negated, values) {
      if (negated) return false;
      const flag = flags[name];
      if (flag !== undefined) return setFlag(site, shape, flag);
      return read(site, name, values);
    },
  };
}

/** DNAT and SNAT need an address or a port. */
function withRange(shape: NatShape, option: string, flags: Readonly<Record<string, number>>): ExtensionCodec {
  return {
    ...nat(shape, flags, (site, name, values) => {
      if (name !== option) return false;
      writeRange(site, shape, values.next());
      return true;
    }),
    finish({ bytes, at }) {
      if ((bytes[at + shape.flags]! & (NAT.MAP_IPS | NAT.PROTO_SPECIFIED)) === 0)
        unsupported(`${option} is missing`);
    },
  };
}

/** MASQUERADE and REDIRECT take ports only. */
function withPorts(shape: NatShape, flags: Readonly<Record<string, number>>): ExtensionCodec {
  return nat(shape, flags, (site, name, values) => {
    if (name !== '--to-ports') return false;
    writePorts(site, shape, values.next());
    return true;
  });
}

const RANDOM = { '--random': NAT.PROTO_RANDOM };
const FULLY = { ...RANDOM, '--random-fully': NAT.RANDOM_FULLY };

function natTargets(range: NatShape, snatRevision: number): Readonly<Record<string, ExtensionCodec>> {
  return {
    DNAT: withRange({ ...RANGE, revision: 2, size: 44 }, '--to-destination', {
      ...RANDOM,
      '--persistent': NAT.PERSISTENT,
    }),
    SNAT: withRange({ ...range, revision: snatRevision }, '--to-source', {
      ...FULLY,
      '--persistent': NAT.PERSISTENT,
    }),
    MASQUERADE: withPorts(range, FULLY),
    REDIRECT: withPorts(range, RANDOM),
  };
}

/** enum ipt_reject_with, ip6t_reject_with; the longer names only, as iptables-save prints them. */
const REJECT_WITH: Readonly<Record<XtablesFamily, Readonly<Record<string, number>>>> = {
  4: {
    'icmp-net-unreachable': 0,
    'icmp-host-unreachable': 1,
    'icmp-proto-unreachable': 2,
    'icmp-port-unreachable': 3,
    'icmp-net-prohibited': 5,
    'icmp-host-prohibited': 6,
    'tcp-reset': 7,
    'icmp-admin-prohibited': 8,
  },
  6: {
    'icmp6-no-route': 0,
    'icmp6-adm-prohibited': 1,
    'icmp6-addr-unreachable': 3,
    'icmp6-port-unreachable': 4,
    'tcp-reset': 6,
    'icmp6-policy-fail': 7,
    'icmp6-reject-route': 8,
  },
};
const IPPROTO_TCP = 6;

/** struct ipt_reject_info: u32 with. */
const reject: ExtensionCodec = {
  revision: 0,
  size: 4,
  start: ({ bytes, at, family }) => bytes.writeUInt32LE(family === 4 ? 3 : 4, at),
  option({ bytes, at, family, protocol }, name, negated, values) {
    if (name !== '--reject-with' || negated) return false;
    const text = values.next();
    if (text === 'tcp-reset' && protocol !== IPPROTO_TCP) unsupported('tcp-reset without -p tcp');
    bytes.writeUInt32LE(REJECT_WITH[family][text] ?? unsupported(`--reject-with ${text}`), at);
    return true;
  },
};

export const TARGETS: Readonly<Record<XtablesFamily, Readonly<Record<string, ExtensionCodec>>>> = {
  4: { MARK: mark, REJECT: reject, ...natTargets(V4_RANGE, 0) },
  6: { MARK: mark, REJECT: reject, ...natTargets(RANGE, 1) },
};
