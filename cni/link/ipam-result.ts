// From IPAM's answer to the result of a plugin with one interface, which is in the pod.
import { CniError } from '../../src/lib/errors.ts';
import type { Link } from '../../src/linux/rtnetlink.ts';
import { CNI_ERROR } from '../runtime/errors.ts';
import type { Call } from '../runtime/plugin.ts';
import { isEmptyDns, type Result } from '../runtime/result.ts';
import { decodeDns } from '../runtime/result-versions.ts';

export function singleInterfaceResult(call: Call, link: Link, ipam: Result, needsAddress: boolean): Result {
  if (needsAddress && ipam.ips.length === 0)
    throw new CniError(CNI_ERROR.INTERNAL, 'IPAM plugin returned missing IP config');
  const dns = decodeDns(call.config.fields('dns'));
  return {
    interfaces: [{ name: link.name, mac: link.mac, mtu: link.mtuBytes, sandbox: call.netns }],
    ips: ipam.ips.map(ip => ({ ...ip, interface: 0 })),
    routes: [...ipam.routes],
    dns: isEmptyDns(dns) ? ipam.dns : dns,
  };
}
