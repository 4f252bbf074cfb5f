// IPv4 and IPv6 addresses: strict parsing and canonical text (RFC 5952), fast enough for hot paths.
// Strict means: dotted quads without leading zeros (010.0.0.1 is refused, not octal), no zone index, no short forms.
// An address is a Uint8Array of 4 or 16 bytes in network order; the parse functions answer undefined for bad text.
import { PodwireError } from './errors.ts';

export type IpFamily = 4 | 6;

/** An address as bytes in network order: 4 of them, or 16. */
export type IpBytes = Uint8Array;

const DOT = 46;
const COLON = 58;

/** The IPv4 address in `text[start, end)` as an unsigned 32-bit number, or -1. */
function scanIpv4(text: string, start: number, end: number): number {
  let value = 0;
  let octet = 0;
  let digits = 0;
  let dots = 0;
  for (let i = start; i < end; i++) {
    const c = text.charCodeAt(i);
    if (c >= 48 && c <= 57) {
      if (digits > 0 && octet === 0) return -1;
      octet = octet * 10 + (c - 48);
      if (++digits > 3 || octet > 255) return -1;
    } else if (c === DOT) {
      if (digits === 0 || ++dots > 3) return -1;
      value = value * 256 + octet;
      octet = 0;
      digits = 0;
    } else return -1;
  }
  return dots === 3 && digits > 0 ? value * 256 + octet : -1;
}

/** `10.0.0.1` as an unsigned 32-bit number; undefined when the text is no IPv4 address. */
export function parseIpv4Number(text: string): number | undefined {
  const value = scanIpv4(text, 0, text.length);
  return value < 0 ? undefined : value;
}

/** The inverse of parseIpv4Number. */
export function formatIpv4Number(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

function ipv4Bytes(value: number): IpBytes {
  const bytes = new Uint8Array(4);
  bytes[0] = value >>> 24;
  bytes[1] = value >>> 16;
  bytes[2] = value >>> 8;
  bytes[3] = value;
  return bytes;
}

function hexDigit(c: number): number {
  if (c >= 48 && c <= 57) return c - 48;
  if (c >= 97 && c <= 102) return c - 87;
  if (c >= 65 && c <= 70) return c - 55;
  return -1;
}

/** RFC 4291 section 2.2: eight groups, one `::` at most, the last 32 bits may be a dotted quad. */
function parseIpv6(text: string): IpBytes | undefined {
  const out = new Uint8Array(16);
  const length = text.length;
  let at = 0;
  let groups = 0;
  let gap = -1;
  if (text.charCodeAt(0) === COLON) {
    if (text.charCodeAt(1) !== COLON) return undefined;
    gap = 0;
    at = 2;
  }
  while (at < length) {
    if (groups === 8) return undefined;
    let value = 0;
    let digits = 0;
    let i = at;
    for (; i < length; i++) {
      const nibble = hexDigit(text.charCodeAt(i));
      if (nibble < 0) break;
      if (++digits > 4) return undefined;
      value = (value << 4) | nibble;
    }
    if (i < length && text.charCodeAt(i) === DOT) {
      const quad = scanIpv4(text, at, length);
      if (quad < 0 || groups > 6) return undefined;
      out.set(ipv4Bytes(quad), groups * 2);
      groups += 2;
      at = length;
      break;
    }
    if (digits === 0) return undefined;
    out[groups * 2] = value >> 8;
    out[groups * 2 + 1] = value & 255;
    groups++;
    at = i;
    if (at === length) break;
    if (text.charCodeAt(at) !== COLON) return undefined;
    at++;
    if (text.charCodeAt(at) === COLON) {
      if (gap >= 0) return undefined;
      gap = groups;
      at++;
    } else if (at === length) return undefined;
  }
  if (gap < 0) return groups === 8 ? out : undefined;
  if (groups === 8) return undefined;
  const tail = (groups - gap) * 2;
  out.copyWithin(16 - tail, gap * 2, gap * 2 + tail);
  out.fill(0, gap * 2, 16 - tail);
  return out;
}

/** The bytes of an address of either family; undefined when the text is none. */
export function parseIp(text: string): IpBytes | undefined {
  if (text.includes(':')) return parseIpv6(text);
  const value = scanIpv4(text, 0, text.length);
  return value < 0 ? undefined : ipv4Bytes(value);
}

/** Like parseIp, but throws; `what` names the field in the message. */
export function requireIp(text: string, what = 'address'): IpBytes {
  const bytes = parseIp(text);
  if (bytes === undefined)
    throw new PodwireError('INVALID_ADDRESS', `${what} ${JSON.stringify(text)} is not an IP address`);
  return bytes;
}

/** Canonical text: dotted quad, or RFC 5952 (lower case, longest run of zero groups as `::`, IPv4-mapped as quad). */
export function formatIp(bytes: IpBytes): string {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`;
  if (bytes.length !== 16)
    throw new PodwireError('INVALID_ADDRESS', `an IP address has 4 or 16 bytes, not ${bytes.length}`);
  if (isIpv4Mapped(bytes)) return `::ffff:${bytes[12]}.${bytes[13]}.${bytes[14]}.${bytes[15]}`;
  let bestStart = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; ) {
    let run = i;
    while (run < 8 && bytes[run * 2] === 0 && bytes[run * 2 + 1] === 0) run++;
    if (run - i > bestLength) {
      bestStart = i;
      bestLength = run - i;
    }
    i = run === i ? i + 1 : run;
  }
  let text = '';
  for (let i = 0; i < 8; i++) {
    if (i === bestStart) {
      text += '::';
      i += bestLength - 1;
      continue;
    }
    if (i > 0 && i !== bestStart + bestLength) text += ':';
    text += ((bytes[i * 2]! << 8) | bytes[i * 2 + 1]!).toString(16);
  }
  return text;
}

/** ::ffff:0:0/96, RFC 4291 section 2.5.5.2. */
export function isIpv4Mapped(bytes: IpBytes): boolean {
  if (bytes.length !== 16 || bytes[10] !== 255 || bytes[11] !== 255) return false;
  for (let i = 0; i < 10; i++) if (bytes[i] !== 0) return false;
  return true;
}

/** 4 or 6, or undefined when the text is no address. */
export function ipFamily(text: string): IpFamily | undefined {
  const bytes = parseIp(text);
  return bytes === undefined ? undefined : familyOf(bytes);
}

export function familyOf(bytes: IpBytes): IpFamily {
  return bytes.length === 4 ? 4 : 6;
}

/** The one spelling of an address; undefined when the text is none. */
export function canonicalIp(text: string): string | undefined {
  const bytes = parseIp(text);
  return bytes === undefined ? undefined : formatIp(bytes);
}

/** IPv4 before IPv6, then by value. */
export function compareIp(a: IpBytes, b: IpBytes): number {
  if (a.length !== b.length) return a.length - b.length;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return 0;
}

export function ipToBigInt(bytes: IpBytes): bigint {
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return value;
}

/** The inverse of ipToBigInt; the value is taken modulo the family's size. */
export function bigIntToIp(value: bigint, family: IpFamily): IpBytes {
  const bytes = new Uint8Array(family === 4 ? 4 : 16);
  let rest = value;
  for (let i = bytes.length - 1; i >= 0; i--) {
    bytes[i] = Number(rest & 255n);
    rest >>= 8n;
  }
  return bytes;
}

/** The address `offset` places on; undefined when that leaves the family's range. */
export function addToIp(bytes: IpBytes, offset: number | bigint): IpBytes | undefined {
  const value = ipToBigInt(bytes) + BigInt(offset);
  if (value < 0n || value >> BigInt(bytes.length * 8) !== 0n) return undefined;
  return bigIntToIp(value, familyOf(bytes));
}

/** 127.0.0.0/8, ::1. */
export function isLoopback(bytes: IpBytes): boolean {
  if (bytes.length === 4) return bytes[0] === 127;
  return bytes[15] === 1 && bytes.subarray(0, 15).every(byte => byte === 0);
}

/** 169.254.0.0/16, fe80::/10. */
export function isLinkLocal(bytes: IpBytes): boolean {
  if (bytes.length === 4) return bytes[0] === 169 && bytes[1] === 254;
  return bytes[0] === 0xfe && (bytes[1]! & 0xc0) === 0x80;
}

/** 224.0.0.0/4, ff00::/8. */
export function isMulticast(bytes: IpBytes): boolean {
  return bytes.length === 4 ? bytes[0]! >> 4 === 14 : bytes[0] === 0xff;
}

export function isUnspecified(bytes: IpBytes): boolean {
  return bytes.every(byte => byte === 0);
}
