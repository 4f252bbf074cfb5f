// CIDR prefixes (`10.0.0.0/8`, `fd00::/64`): parse, canonical text, contains, overlaps, nth address, subnets.
// A Cidr keeps the address as it was written; `network` has the host bits cleared. Bad text answers undefined.
import { PodwireError } from './errors.ts';
import {
  addToIp,
  bigIntToIp,
  compareIp,
  familyOf,
  formatIp,
  type IpBytes,
  type IpFamily,
  ipToBigInt,
  parseIp,
} from './ip.ts';

export interface Cidr {
  readonly family: IpFamily;
  /** As written, host bits kept: 10.0.0.7 of `10.0.0.7/24`. */
  readonly address: IpBytes;
  /** Host bits cleared. */
  readonly network: IpBytes;
  readonly prefixLength: number;
}

/** `address` with all bits after the first `prefixLength` cleared. */
export function maskIp(address: IpBytes, prefixLength: number): IpBytes {
  const out = new Uint8Array(address);
  const whole = prefixLength >> 3;
  if (whole < out.length) {
    out[whole]! &= (0xff00 >> (prefixLength & 7)) & 255;
    out.fill(0, whole + 1);
  }
  return out;
}

export function makeCidr(address: IpBytes, prefixLength: number): Cidr {
  if (!Number.isInteger(prefixLength) || prefixLength < 0 || prefixLength > address.length * 8)
    throw new PodwireError('INVALID_CIDR', `prefix length ${prefixLength} does not fit ${formatIp(address)}`);
  return { family: familyOf(address), address, network: maskIp(address, prefixLength), prefixLength };
}

/** `ADDRESS/LENGTH` only; a bare address, a netmask or a length with leading zeros is refused. */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf('/');
  if (slash < 0) return undefined;
  const address = parseIp(text.slice(0, slash));
  const digits = text.slice(slash + 1);
  if (address === undefined || !/^(0|[1-9][0-9]{0,2})$/.test(digits)) return undefined;
  const prefixLength = Number(digits);
  return prefixLength > address.length * 8 ? undefined : makeCidr(address, prefixLength);
}

/** Like parseCidr, but throws; `what` names the field in the message. */
export function requireCidr(text: string, what = 'CIDR'): Cidr {
  const cidr = parseCidr(text);
  if (cidr === undefined)
    throw new PodwireError('INVALID_CIDR', `${what} ${JSON.stringify(text)} is not ADDRESS/LENGTH`);
  return cidr;
}

/** A CIDR, or a bare address as /32 or /128. */
export function parseCidrOrIp(text: string): Cidr | undefined {
  if (text.includes('/')) return parseCidr(text);
  const address = parseIp(text);
  return address === undefined ? undefined : makeCidr(address, address.length * 8);
}

/** Canonical text of the network: `10.0.0.0/24`. */
export function formatCidr(cidr: Cidr): string {
  return `${formatIp(cidr.network)}/${cidr.prefixLength}`;
}

/** Canonical text that keeps the host bits: `10.0.0.7/24`. */
export function formatAddressWithPrefix(cidr: Cidr): string {
  return `${formatIp(cidr.address)}/${cidr.prefixLength}`;
}

/** The one spelling of a prefix, host bits cleared; undefined when the text is none. */
export function canonicalCidr(text: string): string | undefined {
  const cidr = parseCidr(text);
  return cidr === undefined ? undefined : formatCidr(cidr);
}

/** True when the text has bits set after its prefix length, such as `10.0.0.7/24`. */
export function hasHostBits(cidr: Cidr): boolean {
  return compareIp(cidr.address, cidr.network) !== 0;
}

/** True when `address` is inside `cidr`; addresses of the other family never are. */
export function cidrContains(cidr: Cidr, address: IpBytes): boolean {
  if (address.length !== cidr.network.length) return false;
  const whole = cidr.prefixLength >> 3;
  for (let i = 0; i < whole; i++) if (address[i] !== cidr.network[i]) return false;
  const rest = cidr.prefixLength & 7;
  return rest === 0 || ((address[whole]! ^ cidr.network[whole]!) & (0xff00 >> rest) & 255) === 0;
}

/** True when every address of `inner` is in `outer`. */
export function cidrContainsCidr(outer: Cidr, inner: Cidr): boolean {
  return inner.prefixLength >= outer.prefixLength && cidrContains(outer, inner.network);
}

export function cidrsOverlap(a: Cidr, b: Cidr): boolean {
  return cidrContains(a, b.network) || cidrContains(b, a.network);
}

/** IPv4 before IPv6, then by network, then the shorter prefix first. */
export function compareCidr(a: Cidr, b: Cidr): number {
  return compareIp(a.network, b.network) || a.prefixLength - b.prefixLength;
}

/** How many addresses the prefix spans, network and broadcast included. */
export function cidrSize(cidr: Cidr): bigint {
  return 1n << BigInt(cidr.network.length * 8 - cidr.prefixLength);
}

/** Address number `n`: 0 is the network address, -1 the last one; undefined when outside. */
export function nthAddress(cidr: Cidr, n: number | bigint): IpBytes | undefined {
  const size = cidrSize(cidr);
  const offset = BigInt(n) < 0n ? size + BigInt(n) : BigInt(n);
  return offset < 0n || offset >= size ? undefined : addToIp(cidr.network, offset);
}

/** The last address; for IPv4 the broadcast address. */
export function lastAddress(cidr: Cidr): IpBytes {
  return bigIntToIp(ipToBigInt(cidr.network) + cidrSize(cidr) - 1n, cidr.family);
}

/** How far `address` is into the prefix; undefined when it is not inside. */
export function addressOffset(cidr: Cidr, address: IpBytes): bigint | undefined {
  return cidrContains(cidr, address) ? ipToBigInt(address) - ipToBigInt(cidr.network) : undefined;
}

/** The number `n` of the subnets with `prefixLength`; undefined when there are not so many. */
export function nthSubnet(cidr: Cidr, prefixLength: number, n: number | bigint): Cidr | undefined {
  const bits = cidr.network.length * 8;
  if (prefixLength < cidr.prefixLength || prefixLength > bits) return undefined;
  if (BigInt(n) < 0n || BigInt(n) >= 1n << BigInt(prefixLength - cidr.prefixLength)) return undefined;
  const network = addToIp(cidr.network, BigInt(n) << BigInt(bits - prefixLength));
  return network === undefined ? undefined : makeCidr(network, prefixLength);
}

/** `255.255.255.0` for 24, or its IPv6 counterpart. */
export function netmask(prefixLength: number, family: IpFamily): IpBytes {
  return maskIp(new Uint8Array(family === 4 ? 4 : 16).fill(255), prefixLength);
}
