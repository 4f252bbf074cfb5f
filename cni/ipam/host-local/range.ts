// Address ranges of host-local: which addresses a set may give out and in what order. Pure.
// Semantics of the reference (plugins/ipam/host-local/backend/allocator/range.go): a set gives one address; its ranges
// are alternatives; the gateway, the network address and the IPv4 broadcast address are never given.
import {
  type Cidr,
  cidrContains,
  formatAddressWithPrefix,
  formatCidr,
  hasHostBits,
  lastAddress,
  makeCidr,
  nthAddress,
  requireCidr,
} from '../../../src/lib/cidr.ts';
import {
  addToIp,
  bigIntToIp,
  compareIp,
  formatIp,
  type IpBytes,
  ipToBigInt,
  requireIp,
} from '../../../src/lib/ip.ts';
import { configError } from '../../runtime/errors.ts';
import type { Fields } from '../../runtime/fields.ts';

export interface AddressRange {
  subnet: Cidr;
  start: IpBytes;
  end: IpBytes;
  gateway: IpBytes;
}

export type RangeSet = readonly AddressRange[];

export interface Candidate {
  /** Canonical text, the name of its reservation. */
  ip: string;
  range: AddressRange;
}

/** Reads one `{subnet, rangeStart, rangeEnd, gateway}` and fills in the defaults. */
export function decodeRange(fields: Fields): AddressRange {
  const text = fields.string('subnet');
  if (text === undefined) throw configError(`${fields.at('subnet')} is missing`);
  const subnet = requireCidr(text, fields.at('subnet'));
  if (subnet.prefixLength > subnet.network.length * 8 - 2)
    throw configError(`network ${text} too small to allocate from`);
  if (hasHostBits(subnet))
    throw configError(
      `network ${text} has host bits set`,
      `for a subnet mask of length ${subnet.prefixLength} the network address is ${formatIp(subnet.network)}`,
    );
  const first = nthAddress(subnet, 1)!;
  const last = subnet.family === 4 ? nthAddress(subnet, -2)! : lastAddress(subnet);
  const start = optionalIp(fields, 'rangeStart') ?? first;
  const end = optionalIp(fields, 'rangeEnd') ?? last;
  if (!cidrContains(subnet, start))
    throw configError(`rangeStart ${formatIp(start)} not in network ${formatCidr(subnet)}`);
  if (!cidrContains(subnet, end))
    throw configError(`rangeEnd ${formatIp(end)} not in network ${formatCidr(subnet)}`);
  if (compareIp(start, end) > 0)
    throw configError(`rangeStart ${formatIp(start)} is after rangeEnd ${formatIp(end)}`);
  return { subnet, start, end, gateway: optionalIp(fields, 'gateway') ?? first };
}

function optionalIp(fields: Fields, key: string): IpBytes | undefined {
  const text = fields.string(key);
  return text === undefined || text === '' ? undefined : requireIp(text, fields.at(key));
}

/** Refuses a set of mixed families or with ranges that overlap. */
export function checkRangeSet(set: RangeSet, name: string): void {
  if (set.length === 0) throw configError(`${name} is empty`);
  for (const [i, range] of set.entries()) {
    if (range.subnet.family !== set[0]!.subnet.family)
      throw configError(`${name} has mixed address families`);
    for (const other of set.slice(0, i))
      if (rangesOverlap(range, other))
        throw configError(`${name}: ${formatRange(range)} overlaps with ${formatRange(other)}`);
  }
}

export function rangesOverlap(a: AddressRange, b: AddressRange): boolean {
  return (
    a.subnet.family === b.subnet.family && compareIp(a.start, b.end) <= 0 && compareIp(b.start, a.end) <= 0
  );
}

export function formatRange(range: AddressRange): string {
  return `${formatIp(range.start)}-${formatIp(range.end)}`;
}

export function formatRangeSet(set: RangeSet): string {
  return set.map(formatRange).join(',');
}

/** The range that may give `ip`; undefined when none may. */
export function rangeFor(set: RangeSet, ip: IpBytes): AddressRange | undefined {
  return set.find(
    range =>
      range.subnet.network.length === ip.length &&
      compareIp(ip, range.start) >= 0 &&
      compareIp(ip, range.end) <= 0,
  );
}

/** The address with the prefix length of its subnet, as it goes on the interface. */
export function withPrefix(ip: IpBytes, range: AddressRange): string {
  return formatAddressWithPrefix(makeCidr(ip, range.subnet.prefixLength));
}

/** Every address the set may give, once, beginning after `last`, from range to range and round to the beginning. */
export function* candidates(set: RangeSet, last: IpBytes | undefined): Generator<Candidate> {
  const at = last === undefined ? -1 : set.findIndex(range => rangeFor([range], last) !== undefined);
  const first = at < 0 ? 0 : at;
  if (at >= 0) {
    const after = addToIp(last!, 1);
    if (after !== undefined) yield* addresses(set[at]!, after, set[at]!.end);
  } else yield* addresses(set[0]!, set[0]!.start, set[0]!.end);
  for (let i = 1; i < set.length; i++) {
    const range = set[(first + i) % set.length]!;
    yield* addresses(range, range.start, range.end);
  }
  if (at >= 0) yield* addresses(set[at]!, set[at]!.start, last!);
}

function* addresses(range: AddressRange, from: IpBytes, to: IpBytes): Generator<Candidate> {
  const family = range.subnet.family;
  const gateway = ipToBigInt(range.gateway);
  const same = range.gateway.length === range.subnet.network.length;
  const end = ipToBigInt(to);
  for (let value = ipToBigInt(from); value <= end; value++)
    if (!same || value !== gateway) yield { ip: formatIp(bigIntToIp(value, family)), range };
}
