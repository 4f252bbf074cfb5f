// The matches of ports, as matches.ts does the others.
import type { ExtensionCodec, ExtensionSite } from './extension.ts';
import { type OptionReader, parseFlags, parsePort, parsePortRange, unsupported } from './option-reader.ts';

/** struct xt_tcp and xt_udp begin alike: u16 spts[2], dpts[2]. */
function ports(
  site: ExtensionSite,
  option: string,
  values: OptionReader,
): 'source' | 'destination' | undefined {
  const { bytes, at } = site;
  const isSource = option === '--sport' || option === '--source-port';
  if (!isSource && option !== '--dport' && option !== '--destination-port') return undefined;
  const [low, high] = parsePortRange(values.next());
  bytes.writeUInt16LE(low, at + (isSource ? 0 : 4));
  bytes.writeUInt16LE(high, at + (isSource ? 2 : 6));
  return isSource ? 'source' : 'destination';
}

function allPorts({ bytes, at }: ExtensionSite): void {
  bytes.writeUInt16LE(0xffff, at + 2);
  bytes.writeUInt16LE(0xffff, at + 6);
}

const TCP_FLAGS = { FIN: 1, SYN: 2, RST: 4, PSH: 8, ACK: 16, URG: 32, ALL: 63, NONE: 0 };

/** struct xt_tcp: ports, u8 option, flg_mask, flg_cmp, invflags. */
export const tcp: ExtensionCodec = {
  revision: 0,
  size: 12,
  start: allPorts,
  option(site, name, negated, values) {
    const { bytes, at } = site;
    const which = ports(site, name, values);
    if (which !== undefined) bytes[at + 11]! |= negated ? (which === 'source' ? 1 : 2) : 0;
    else if (name === '--syn' || name === '--tcp-flags') {
      const isSyn = name === '--syn';
      bytes[at + 9] = isSyn ? 0x17 : parseFlags(values.next(), TCP_FLAGS);
      bytes[at + 10] = isSyn ? 0x02 : parseFlags(values.next(), TCP_FLAGS);
      if (negated) bytes[at + 11]! |= 4;
    } else return false;
    return true;
  },
};

/** struct xt_udp: ports, u8 invflags. */
export const udp: ExtensionCodec = {
  revision: 0,
  size: 10,
  start: allPorts,
  option(site, name, negated, values) {
    const which = ports(site, name, values);
    if (which === undefined) return false;
    if (negated) site.bytes[site.at + 8]! |= which === 'source' ? 1 : 2;
    return true;
  },
};

/** struct xt_sctp_info: u16 dpts[2], spts[2], … u32 chunkmap[64], chunk_match_type; three bytes each flag_info[4]; u32 flag_count, flags, invflags. */
export const sctp: ExtensionCodec = {
  revision: 0,
  size: 292,
  start({ bytes, at }) {
    for (let i = 0; i < 4; i++) bytes[at + 268 + 3 * i] = 0xff;
  },
  option({ bytes, at }, name, negated, values) {
    const isSource = name === '--sport' || name === '--source-port';
    if (!isSource && name !== '--dport' && name !== '--destination-port') return false;
    const [low, high] = parsePortRange(values.next());
    bytes.writeUInt16LE(low, at + (isSource ? 4 : 0));
    bytes.writeUInt16LE(high, at + (isSource ? 6 : 2));
    bytes[at + 284]! |= isSource ? 1 : 2;
    if (negated) bytes[at + 288]! |= isSource ? 1 : 2;
    return true;
  },
};

const MULTIPORT: Readonly<Record<string, number>> = {
  '--sports': 0,
  '--source-ports': 0,
  '--dports': 1,
  '--destination-ports': 1,
  '--ports': 2,
};
const MULTIPORT_PROTOCOLS = new Set([6, 17, 33, 132, 136]);

/** struct xt_multiport_v1: u8 flags, count; u16 ports[15]; u8 pflags[15], invert. */
export const multiport: ExtensionCodec = {
  revision: 1,
  size: 48,
  needsOption: true,
  option({ bytes, at, protocol }, name, negated, values) {
    const which = MULTIPORT[name];
    if (which === undefined) return false;
    if (!MULTIPORT_PROTOCOLS.has(protocol)) unsupported('-m multiport before a protocol with ports');
    if (bytes[at + 1] !== 0) unsupported('two lists of ports');
    const list: [port: number, begins: boolean][] = [];
    for (const text of values.next().split(',')) {
      const [low, high] = text.includes(':') ? parsePortRange(text) : [parsePort(text), -1];
      list.push([low, high >= 0]);
      if (high >= 0) list.push([high, false]);
    }
    if (list.length > 15) unsupported('more than 15 ports');
    bytes[at] = which;
    bytes[at + 1] = list.length;
    for (const [i, [port, begins]] of list.entries()) {
      bytes.writeUInt16LE(port, at + 2 + 2 * i);
      bytes[at + 32 + i] = begins ? 1 : 0;
    }
    if (negated) bytes[at + 47] = 1;
    return true;
  },
  finish({ bytes, at }) {
    if (bytes[at + 1] === 0) unsupported('-m multiport without ports');
  },
};
