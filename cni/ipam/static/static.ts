// The static IPAM plugin: addresses, routes and DNS exactly as configured. It keeps nothing, so DEL and GC have nothing
// to do. Precedence as in the reference: the `ips` capability, then args.cni.ips, then CNI_ARGS, then the configuration.
import { formatAddressWithPrefix, parseCidr, parseCidrOrIp } from '../../../src/lib/cidr.ts';
import { canonicalIp, parseIp } from '../../../src/lib/ip.ts';
import { configError } from '../../runtime/errors.ts';
import { argsCni, type Call, type Plugin, prevResult, runtimeConfig } from '../../runtime/plugin.ts';
import type { Result, ResultIp } from '../../runtime/result.ts';
import { decodeDns, decodeRoute } from '../../runtime/result-versions.ts';
import { atLeast, CNI_VERSIONS } from '../../runtime/versions.ts';

export const staticIpam: Plugin = {
  name: 'static',
  versions: CNI_VERSIONS,

  async add(call: Call): Promise<Result> {
    return readStatic(call);
  },

  async del(): Promise<void> {},

  /** Every address must be in the result that the network was made with. */
  async check(call: Call): Promise<void> {
    const { ips } = readStatic(call);
    const before = prevResult(call)?.ips ?? [];
    const missing = ips.find(ip => !before.some(one => one.address === ip.address));
    if (missing !== undefined)
      throw configError(`static: failed to find address ${missing.address} in prevResult`);
  },

  async status(call: Call): Promise<void> {
    readStatic(call);
  },

  async gc(): Promise<void> {},
};

function readStatic(call: Call): Result {
  const ipam = call.config.fields('ipam');
  if (ipam === undefined) throw configError("IPAM config missing 'ipam' key");
  call.args.refuseUnknown(['IP', 'MAC', 'GATEWAY']);
  const ips = readAddresses(call);
  if (!atLeast(call.cniVersion, '0.3.0'))
    for (const family of [4, 6])
      if (ips.filter(ip => parseIp(ip.address.split('/')[0]!)!.length === (family === 4 ? 4 : 16)).length > 1)
        throw configError(`CNI version ${call.cniVersion} does not support more than 1 address per family`);
  return {
    interfaces: [],
    ips,
    routes: ipam.fieldsList('routes').map(decodeRoute),
    dns: decodeDns(ipam.fields('dns')),
  };
}

function readAddresses(call: Call): ResultIp[] {
  const capability = runtimeConfig(call).strings('ips');
  if (capability.length > 0) return capability.map(text => address(text, undefined));
  const args = argsCni(call).strings('ips');
  if (args.length > 0) return args.map(text => address(text, undefined));
  const environment = call.args.get('IP');
  if (environment !== undefined) {
    const gateways = (call.args.get('GATEWAY') ?? '').split(',').filter(text => text !== '');
    return environment.split(',').map(text => {
      const family = text.includes(':');
      return address(
        text,
        gateways.find(gateway => gateway.includes(':') === family),
      );
    });
  }
  const listed = call.config.fields('ipam')?.fieldsList('addresses') ?? [];
  return listed.map(one => address(one.string('address') ?? '', one.string('gateway') || undefined));
}

/** Without a prefix length an address stands for itself alone, as in the reference. */
function address(text: string, gateway: string | undefined): ResultIp {
  const cidr = text.includes('/') ? parseCidr(text) : parseCidrOrIp(text);
  if (cidr === undefined)
    throw configError(`the address field should be in CIDR notation: ${JSON.stringify(text)}`);
  const via = gateway === undefined ? undefined : canonicalIp(gateway);
  if (gateway !== undefined && via === undefined)
    throw configError(`gateway ${JSON.stringify(gateway)} is not an IP address`);
  return { address: formatAddressWithPrefix(cidr), ...(via === undefined ? {} : { gateway: via }) };
}
