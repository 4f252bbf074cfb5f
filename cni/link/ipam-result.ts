// From the addresses to the result of a plugin, whose first interfaces are the host's.
import type { Link } from '../../src/linux/rtnetlink.ts';
import type { Call } from '../runtime/plugin.ts';
import { isEmptyDns, type Result } from '../runtime/result.ts';
import { decodeDns } from '../runtime/result-versions.ts';

type Described = Pick<Link, 'name' | 'mac' | 'mtuBytes'>;

/** The pod's interface comes last and has the addresses; `dns` of the configuration comes before the IPAM's. */
export function attachmentResult(
  call: Call,
  pod: Described,
  addresses: Result,
  onHost: readonly Described[] = [],
): Result {
  const dns = decodeDns(call.config.fields('dns'));
  const describe = ({ name, mac, mtuBytes }: Described) => ({ name, mac, mtu: mtuBytes });
  return {
    interfaces: [...onHost.map(describe), { ...describe(pod), sandbox: call.netns }],
    ips: addresses.ips.map(ip => ({ ...ip, interface: onHost.length })),
    routes: [...addresses.routes],
    dns: isEmptyDns(dns) ? addresses.dns : dns,
  };
}
