// Which subnet a new node takes in etcd mode (flannel pkg/subnet/config.go and etcd/local_manager.go): a random one of
// the first 100 free between SubnetMin and SubnetMax, so that nodes that start together seldom collide. Pure.
import {
  type Cidr,
  cidrContains,
  cidrsOverlap,
  formatCidr,
  lastAddress,
  makeCidr,
  maskIp,
  nthSubnet,
} from '../../../src/lib/cidr.ts';
import { PodwireError } from '../../../src/lib/errors.ts';
import { addToIp, compareIp, formatIp, type IpBytes, type IpFamily, parseIp } from '../../../src/lib/ip.ts';
import { type NetConf, networkOf } from '../net-conf.ts';
import type { SubnetPair } from './keys.ts';

const CANDIDATES = 100;
const IPV6_SUBNET_LEN = 64;

/** Subnets of one family that nodes may have: from `min` to `max` in steps of their size. */
export interface SubnetRange {
  network: Cidr;
  prefixLength: number;
  min: IpBytes;
  max: IpBytes;
}

export interface SubnetRanges {
  v4: SubnetRange;
  v6?: SubnetRange;
}

type Json = Record<string, unknown>;

function fieldsOf(text: string): Map<string, unknown> {
  return new Map(Object.entries(JSON.parse(text) as Json).map(([key, value]) => [key.toLowerCase(), value]));
}

/** flannel: /24 where there is room for several, else a quarter of the network. */
function defaultLength(network: Cidr): number {
  if (network.family === 6) return Math.max(IPV6_SUBNET_LEN, network.prefixLength + 2);
  return network.prefixLength < 23 ? 24 : network.prefixLength + 2;
}

function readRange(fields: Map<string, unknown>, network: Cidr, problems: string[]): SubnetRange | undefined {
  const prefix = network.family === 6 ? 'IPv6' : '';
  const given = fields.get(`${prefix}SubnetLen`.toLowerCase());
  const prefixLength = given === undefined || given === 0 ? defaultLength(network) : given;
  const widest = network.family === 6 ? 126 : 30;
  if (typeof prefixLength !== 'number' || !Number.isInteger(prefixLength)) {
    problems.push(`${prefix}SubnetLen: ${JSON.stringify(given)} is not a number`);
    return undefined;
  }
  if (prefixLength < network.prefixLength + 2 || prefixLength > widest) {
    problems.push(
      `${prefix}SubnetLen: /${prefixLength} does not divide ${formatCidr(network)} into at least four subnets of at most /${widest}`,
    );
    return undefined;
  }
  const bound = (name: string, fallback: IpBytes): IpBytes | undefined => {
    const text = fields.get(name.toLowerCase());
    if (text === undefined || text === '') return fallback;
    const address = typeof text === 'string' ? parseIp(text) : undefined;
    if (!address || !cidrContains(network, address)) {
      problems.push(`${name}: ${JSON.stringify(text)} is not an address in ${formatCidr(network)}`);
      return undefined;
    }
    if (compareIp(maskIp(address, prefixLength), address) !== 0) {
      problems.push(`${name}: ${formatIp(address)} is not the beginning of a /${prefixLength}`);
      return undefined;
    }
    return address;
  };
  // The first subnet is left out: its .0 would be the network's own address.
  const second = nthSubnet(network, prefixLength, 1)!;
  const min = bound(`${prefix}SubnetMin`, second.network);
  const max = bound(`${prefix}SubnetMax`, maskIp(lastAddress(network), prefixLength));
  if (!min || !max) return undefined;
  if (compareIp(min, max) > 0) problems.push(`${prefix}SubnetMin: ${formatIp(min)} lies behind SubnetMax`);
  return { network, prefixLength, min, max };
}

/** The ranges of a net-conf.json that parseNetConf took; throws INVALID_NET_CONF with all that is wrong. */
export function parseSubnetRanges(text: string, config: NetConf): SubnetRanges {
  const fields = fieldsOf(text);
  const problems: string[] = [];
  const of = (family: IpFamily): SubnetRange | undefined => {
    const network = networkOf(config, family);
    return network && readRange(fields, network, problems);
  };
  const v4 = of(4);
  const v6 = of(6);
  // Flannel takes such a configuration, makes keys of `0.0.0.0-0&…` and finds a node's own by its IPv4 address: the
  // second node takes the first one's subnet. There is no working form to be compatible with.
  if (config.network === undefined)
    problems.push(
      'EnableIPv4: in etcd a subnet is named and found by its IPv4 part; IPv6 alone needs --kube-subnet-mgr',
    );
  if (problems.length > 0 || !v4)
    throw new PodwireError('INVALID_NET_CONF', `net-conf.json: ${problems.join('; ')}`);
  return { v4, ...(v6 ? { v6 } : {}) };
}

function inRange(range: SubnetRange, cidr: Cidr): boolean {
  return (
    cidr.prefixLength === range.prefixLength &&
    compareIp(cidr.network, range.min) >= 0 &&
    compareIp(cidr.network, range.max) <= 0
  );
}

/** Whether a node may keep these subnets under the present configuration. */
export function fitsRanges(ranges: SubnetRanges, { v4, v6 }: SubnetPair): boolean {
  if (!inRange(ranges.v4, v4)) return false;
  return ranges.v6 ? v6 !== undefined && inRange(ranges.v6, v6) : v6 === undefined;
}

function freeSubnets(range: SubnetRange, taken: readonly Cidr[]): Cidr[] {
  const free: Cidr[] = [];
  const step = 1n << BigInt(range.network.network.length * 8 - range.prefixLength);
  let at: IpBytes | undefined = range.min;
  while (at && compareIp(at, range.max) <= 0 && free.length < CANDIDATES) {
    const candidate = makeCidr(at, range.prefixLength);
    if (!taken.some(cidr => cidrsOverlap(cidr, candidate))) free.push(candidate);
    at = addToIp(at, step);
  }
  return free;
}

/** A free pair; throws PodwireError('OUT_OF_SUBNETS'). `random` gives [0, 1). */
export function chooseSubnets(
  ranges: SubnetRanges,
  taken: readonly SubnetPair[],
  random: () => number = Math.random,
): SubnetPair {
  const pick = (range: SubnetRange, cidrs: Cidr[]): Cidr => {
    const free = freeSubnets(range, cidrs);
    const chosen = free[Math.floor(random() * free.length)];
    if (!chosen)
      throw new PodwireError(
        'OUT_OF_SUBNETS',
        `no free /${range.prefixLength} is left in ${formatCidr(range.network)} between ${formatIp(range.min)} and ${formatIp(range.max)}`,
      );
    return chosen;
  };
  const v4 = pick(
    ranges.v4,
    taken.map(pair => pair.v4),
  );
  if (!ranges.v6) return { v4 };
  const v6 = pick(
    ranges.v6,
    taken.flatMap(pair => pair.v6 ?? []),
  );
  return { v4, v6 };
}

/** Whether none of these is taken, wholly or in part. */
export function isFree({ v4, v6 }: SubnetPair, taken: readonly SubnetPair[]): boolean {
  return !taken.some(
    other =>
      cidrsOverlap(other.v4, v4) ||
      (v6 !== undefined && other.v6 !== undefined && cidrsOverlap(other.v6, v6)),
  );
}
