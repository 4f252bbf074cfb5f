// The `ipam` part of a network configuration as host-local reads it: ranges, requested addresses, routes, DNS.
// Field by field as the reference (plugins/ipam/host-local/backend/allocator/config.go), docs/cni.md lists them.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseCidrOrIp } from '../../../src/lib/cidr.ts';
import { formatIp, type IpBytes } from '../../../src/lib/ip.ts';
import { configError } from '../../runtime/errors.ts';
import { Fields } from '../../runtime/fields.ts';
import { argsCni, type Call, runtimeConfig } from '../../runtime/plugin.ts';
import type { ResultDns, ResultRoute } from '../../runtime/result.ts';
import { decodeRoute } from '../../runtime/result-versions.ts';
import { atLeast } from '../../runtime/versions.ts';
import { checkRangeSet, decodeRange, formatRangeSet, type RangeSet, rangesOverlap } from './range.ts';

const DEFAULT_DATA_DIR = '/var/lib/cni/networks';

export interface HostLocalConfig {
  sets: RangeSet[];
  /** Canonical text; every one must be given, or none is. */
  requested: Map<string, IpBytes>;
  routes: ResultRoute[];
  dns: ResultDns;
}

/** Where this network keeps its reservations. All that DEL and GC need to know. */
export function reservationDirectory(call: Call): string {
  const ipam = call.config.fields('ipam');
  if (ipam === undefined) throw configError("IPAM config missing 'ipam' key");
  return join(ipam.string('dataDir') || DEFAULT_DATA_DIR, call.networkName);
}

export function readHostLocalConfig(call: Call): HostLocalConfig {
  const ipam = call.config.fields('ipam');
  if (ipam === undefined) throw configError("IPAM config missing 'ipam' key");
  const sets = [
    ...decodeRangeSets(runtimeConfig(call), 'ipRanges'),
    ...(ipam.raw('subnet') === undefined ? [] : [[decodeRange(ipam)]]),
    ...decodeRangeSets(ipam, 'ranges'),
  ];
  if (sets.length === 0) throw configError('no IP ranges specified');
  for (const [i, set] of sets.entries()) {
    checkRangeSet(set, `range set ${i}`);
    for (const [j, other] of sets.slice(0, i).entries())
      if (set.some(range => other.some(one => rangesOverlap(range, one))))
        throw configError(
          `range set ${i} overlaps with ${j}`,
          `${formatRangeSet(set)} and ${formatRangeSet(other)}`,
        );
  }
  if (!atLeast(call.cniVersion, '0.3.0'))
    for (const family of [4, 6])
      if (sets.filter(set => set[0]!.subnet.family === family).length > 1)
        throw configError(`CNI version ${call.cniVersion} does not support more than 1 address per family`);
  const resolvConf = ipam.string('resolvConf');
  return {
    sets,
    requested: requestedAddresses(call),
    routes: ipam.fieldsList('routes').map(decodeRoute),
    dns: resolvConf ? parseResolvConf(readFileSync(resolvConf, 'utf8')) : {},
  };
}

/** `[[{subnet, …}, …], …]`: the outer list gives one address each, the inner ones are alternatives. */
function decodeRangeSets(fields: Fields, key: string): RangeSet[] {
  return fields.list(key).map((set, i) => {
    const name = `${fields.at(key)}[${i}]`;
    if (!Array.isArray(set)) throw configError(`${name} must be a list of ranges`);
    return new Fields({ range: set }, name).fieldsList('range').map(decodeRange);
  });
}

/** CNI_ARGS IP=, args.cni.ips and the `ips` capability; each may have a prefix length, which the subnet overrules. */
function requestedAddresses(call: Call): Map<string, IpBytes> {
  call.args.refuseUnknown(['IP', 'MAC', 'GATEWAY']);
  const fromArgs = call.args.get('IP');
  const texts = [
    ...(fromArgs === undefined ? [] : [fromArgs]),
    ...argsCni(call).strings('ips'),
    ...runtimeConfig(call).strings('ips'),
  ];
  const requested = new Map<string, IpBytes>();
  for (const text of texts) {
    const cidr = parseCidrOrIp(text);
    if (cidr === undefined) throw configError(`requested IP ${JSON.stringify(text)} is not an address`);
    requested.set(formatIp(cidr.address), cidr.address);
  }
  return requested;
}

/** resolv.conf(5): nameserver, domain, search, options; what comes last of domain and search counts. */
export function parseResolvConf(text: string): ResultDns {
  const dns: ResultDns = {};
  for (const line of text.split('\n')) {
    const [keyword, ...values] = line.trim().split(/\s+/);
    if (line.startsWith('#') || line.startsWith(';') || values.length === 0) continue;
    if (keyword === 'nameserver') dns.nameservers = [...(dns.nameservers ?? []), values[0]!];
    else if (keyword === 'domain') dns.domain = values[0]!;
    else if (keyword === 'search') dns.search = [...(dns.search ?? []), ...values];
    else if (keyword === 'options') dns.options = [...(dns.options ?? []), ...values];
  }
  return dns;
}
