// The other way round: a rule of iptables-nft, found in the kernel, as an entry of a legacy table, so that it can be
// compared with one that is wanted. Knows what iptables-nft writes for the rules podwire has to do with, in
// either of its forms (`tcp dport` may be nf_tables' own or x_tables'); anything else is no entry.
import { attributeString, attributes, u32be } from '../netlink/message.ts';
import { NFTA_DATA, NFTA_EXPR, NFTA_IMMEDIATE_DATA } from '../nft/constants.ts';
import { NFTA_EXTENSION } from '../nft/expression/compat.ts';
import { decodeVerdict } from '../nft/verdict.ts';
import {
  align8,
  EXTENSION_HEADER,
  EXTENSION_NAME,
  EXTENSION_REVISION,
  IFNAMSIZ,
  INVERSE,
  IP6T_F_PROTO,
  LAYOUT,
  STANDARD_TARGET_SIZE,
  VERDICT,
  type XtablesFamily,
} from './layout.ts';
import { MATCHES } from './matches.ts';
import type { Piece } from './rule.ts';

/** What the register holds. */
type Loaded = 'saddr' | 'daddr' | 'iifname' | 'oifname' | 'l4proto' | 'sport' | 'dport' | 'mark';

/** enum nft_meta_keys */
const META: Readonly<Record<number, Loaded>> = { 3: 'mark', 6: 'iifname', 7: 'oifname', 16: 'l4proto' };
const NETWORK: Readonly<Record<XtablesFamily, Readonly<Record<number, Loaded>>>> = {
  4: { 9: 'l4proto', 12: 'saddr', 16: 'daddr' },
  6: { 6: 'l4proto', 8: 'saddr', 24: 'daddr' },
};
const TRANSPORT: Readonly<Record<number, Loaded>> = { 0: 'sport', 2: 'dport' };
const BASE = { NETWORK: 1, TRANSPORT: 2 } as const;
const PORT_MATCHES: Readonly<Record<number, 'tcp' | 'udp'>> = { 6: 'tcp', 17: 'udp' };

type Parts = (type: number) => Buffer | undefined;

/** Undefined when the rule is not one that this knows. `comment` is what some releases keep in the rule's user data. */
export function decodeNftRule(
  family: XtablesFamily,
  expressions: Buffer,
  comment?: string,
): Piece | undefined {
  const reader = new RuleReader(family);
  if (comment !== undefined) reader.addComment(comment);
  for (const { value } of attributes(expressions, 0)) {
    const parts = attributes(value, 0);
    const name = parts.find(part => part.type === NFTA_EXPR.NAME);
    const data = parts.find(part => part.type === NFTA_EXPR.DATA);
    if (name === undefined) return undefined;
    const held = data === undefined ? [] : attributes(data.value, 0);
    const get: Parts = type => held.find(part => part.type === type)?.value;
    if (!reader.read(attributeString(name.value), get)) return undefined;
  }
  return reader.finish();
}

function numberOf(value: Buffer | undefined): number {
  return value === undefined ? -1 : u32be(value, 'expression');
}

/** NFTA_DATA_VALUE inside an attribute. */
function dataValue(data: Buffer | undefined): Buffer {
  const value = data && attributes(data, 0).find(one => one.type === NFTA_DATA.VALUE)?.value;
  return value ?? Buffer.alloc(0);
}

class RuleReader {
  readonly #family: XtablesFamily;
  readonly #entry: Buffer;
  readonly #matches: Buffer[] = [];
  #target: Buffer | undefined;
  #jump: string | undefined = '';
  #loaded: Loaded | undefined;
  #loadedBytes = 0;
  #mask: Buffer | undefined;
  /** The match that ports without one were put into. */
  #ports: { name: string; bytes: Buffer } | undefined;

  constructor(family: XtablesFamily) {
    this.#family = family;
    this.#entry = Buffer.alloc(LAYOUT[family].entrySize);
  }

  addComment(text: string): void {
    const info = Buffer.alloc(MATCHES.comment!.size);
    info.write(text.slice(0, info.length - 1));
    this.#matches.push(packExtension('comment', 0, info));
  }

  /** False for an expression that is not understood. */
  read(name: string, get: Parts): boolean {
    switch (name) {
      case 'counter':
        return true;
      case 'meta':
        this.#load(get(1) === undefined ? undefined : META[numberOf(get(2))], 0);
        return this.#loaded !== undefined;
      case 'payload':
        return this.#payload(numberOf(get(2)), numberOf(get(3)), numberOf(get(4)));
      case 'bitwise':
        this.#mask = dataValue(get(4));
        return this.#loaded !== undefined && dataValue(get(5)).every(byte => byte === 0);
      case 'cmp':
        return numberOf(get(2)) <= 1 && this.#compare(numberOf(get(2)) === 1, dataValue(get(3)));
      case 'range':
        return this.#portRange(numberOf(get(2)) === 1, dataValue(get(3)), dataValue(get(4)));
      case 'match':
      case 'target':
        return this.#extension(name, get);
      case 'masq':
        this.#target = packExtension('MASQUERADE', 0, emptyMasquerade(this.#family));
        this.#jump = undefined;
        return [1, 2, 3].every(type => get(type) === undefined);
      case 'immediate':
        return this.#verdict(get(NFTA_IMMEDIATE_DATA));
      default:
        return false;
    }
  }

  finish(): Piece {
    const layout = LAYOUT[this.#family];
    const target = this.#target ?? Buffer.alloc(STANDARD_TARGET_SIZE);
    if (this.#target === undefined) target.writeUInt16LE(STANDARD_TARGET_SIZE, 0);
    const head = [this.#entry, ...this.#matches];
    const bytes = Buffer.concat([...head, target]);
    bytes.writeUInt16LE(bytes.length - target.length, layout.targetOffset);
    bytes.writeUInt16LE(bytes.length, layout.nextOffset);
    return { bytes, at: 0, size: bytes.length, jump: this.#jump, entry: -1 };
  }

  #load(what: Loaded | undefined, bytes: number): void {
    this.#loaded = what;
    this.#loadedBytes = bytes;
    this.#mask = undefined;
  }

  #payload(base: number, offset: number, bytes: number): boolean {
    const fields =
      base === BASE.NETWORK ? NETWORK[this.#family] : base === BASE.TRANSPORT ? TRANSPORT : undefined;
    this.#load(fields?.[offset], bytes);
    if (this.#loaded === 'sport' || this.#loaded === 'dport') return bytes === 2;
    return this.#loaded !== undefined;
  }

  #compare(negated: boolean, value: Buffer): boolean {
    const layout = LAYOUT[this.#family];
    switch (this.#loaded) {
      case 'saddr':
      case 'daddr':
        return this.#address(this.#loaded === 'saddr', negated, value);
      case 'iifname':
      case 'oifname':
        return this.#interface(this.#loaded === 'iifname', negated, value);
      case 'l4proto':
        this.#entry.writeUInt16LE(value[0] ?? 0, layout.protocol);
        if (this.#family === 6) this.#entry[layout.flags]! |= IP6T_F_PROTO;
        if (negated) this.#entry[layout.inverse]! |= INVERSE.PROTO;
        return value.length === 1;
      case 'sport':
      case 'dport':
        return this.#portRange(negated, value, value);
      case 'mark':
        return this.#mark(negated, value);
      default:
        return false;
    }
  }

  #address(isSource: boolean, negated: boolean, value: Buffer): boolean {
    const layout = LAYOUT[this.#family];
    if (value.length !== this.#loadedBytes || value.length > layout.addressSize) return false;
    const mask = this.#mask ?? Buffer.alloc(value.length, 0xff);
    value.copy(this.#entry, isSource ? layout.source : layout.destination);
    mask.copy(this.#entry, isSource ? layout.sourceMask : layout.destinationMask, 0, layout.addressSize);
    if (negated) this.#entry[layout.inverse]! |= isSource ? INVERSE.SRCIP : INVERSE.DSTIP;
    return true;
  }

  #interface(isIn: boolean, negated: boolean, value: Buffer): boolean {
    const layout = LAYOUT[this.#family];
    const end = value.indexOf(0);
    // With its NUL the name is compared whole, without it as a beginning.
    const length = end < 0 ? value.length : end + 1;
    if (length > IFNAMSIZ) return false;
    const [name, mask] = isIn ? [layout.inInterface, layout.inMask] : [layout.outInterface, layout.outMask];
    value.copy(this.#entry, name, 0, length);
    if (end < 0) this.#entry.write('+', name + length);
    this.#entry.fill(0xff, mask, mask + length);
    if (negated) this.#entry[layout.inverse]! |= isIn ? INVERSE.VIA_IN : INVERSE.VIA_OUT;
    return true;
  }

  /** struct xt_tcp and xt_udp begin with u16 spts[2], dpts[2]; the inversions come at 11 and at 8. */
  #portRange(negated: boolean, low: Buffer, high: Buffer): boolean {
    const name = PORT_MATCHES[this.#entry.readUInt16LE(LAYOUT[this.#family].protocol)];
    if (name === undefined || low.length !== 2 || high.length !== 2) return false;
    if (this.#loaded !== 'sport' && this.#loaded !== 'dport') return false;
    if (this.#ports?.name !== name) {
      const info = Buffer.alloc(align8(MATCHES[name]!.size));
      info.writeUInt16LE(0xffff, 2);
      info.writeUInt16LE(0xffff, 6);
      this.#ports = { name, bytes: packExtension(name, 0, info) };
      this.#matches.push(this.#ports.bytes);
    }
    const { bytes } = this.#ports;
    const isSource = this.#loaded === 'sport';
    bytes.writeUInt16LE(low.readUInt16BE(0), EXTENSION_HEADER + (isSource ? 0 : 4));
    bytes.writeUInt16LE(high.readUInt16BE(0), EXTENSION_HEADER + (isSource ? 2 : 6));
    if (negated) bytes[EXTENSION_HEADER + (name === 'tcp' ? 11 : 8)]! |= isSource ? 1 : 2;
    return true;
  }

  #mark(negated: boolean, value: Buffer): boolean {
    if (value.length !== 4) return false;
    const info = Buffer.alloc(MATCHES.mark!.size);
    value.copy(info, 0);
    (this.#mask ?? Buffer.alloc(4, 0xff)).copy(info, 4);
    if (negated) info[8] = 1;
    this.#matches.push(packExtension('mark', 1, info));
    return true;
  }

  #extension(kind: 'match' | 'target', get: Parts): boolean {
    const name = get(NFTA_EXTENSION.NAME);
    const info = get(NFTA_EXTENSION.INFO);
    if (name === undefined || info === undefined) return false;
    const bytes = packExtension(attributeString(name), numberOf(get(NFTA_EXTENSION.REVISION)), info);
    if (kind === 'match') this.#matches.push(bytes);
    else {
      this.#target = bytes;
      this.#jump = undefined;
    }
    return true;
  }

  #verdict(data: Buffer | undefined): boolean {
    const held = data && attributes(data, 0).find(one => one.type === NFTA_DATA.VERDICT);
    if (held === undefined) return false;
    const verdict = decodeVerdict(held.value);
    if (typeof verdict === 'object') {
      this.#jump = 'jump' in verdict ? verdict.jump : verdict.goto;
      const layout = LAYOUT[this.#family];
      if ('goto' in verdict) this.#entry[layout.flags]! |= layout.gotoFlag;
      return true;
    }
    const target = Buffer.alloc(STANDARD_TARGET_SIZE);
    target.writeUInt16LE(STANDARD_TARGET_SIZE, 0);
    target.writeInt32LE(VERDICT[verdict.toUpperCase()]!, EXTENSION_HEADER);
    this.#target = target;
    this.#jump = undefined;
    return true;
  }
}

function packExtension(name: string, revision: number, info: Buffer): Buffer {
  const bytes = Buffer.alloc(EXTENSION_HEADER + align8(info.length));
  bytes.writeUInt16LE(bytes.length, 0);
  bytes.write(name, EXTENSION_NAME, EXTENSION_REVISION - EXTENSION_NAME - 1, 'latin1');
  bytes[EXTENSION_REVISION] = revision;
  info.copy(bytes, EXTENSION_HEADER);
  return bytes;
}

/** Without ports and flags: struct nf_nat_ipv4_multi_range_compat with its count of 1, or struct nf_nat_range. */
function emptyMasquerade(family: XtablesFamily): Buffer {
  const info = Buffer.alloc(family === 4 ? 24 : 40);
  if (family === 4) info.writeUInt32LE(1, 0);
  return info;
}
