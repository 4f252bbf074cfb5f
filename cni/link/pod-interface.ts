// The pod's side of an attachment: addresses, routes and per-interface sysctls, and the check that they are still there.
// Nothing waits for IPv6 duplicate address detection: the addresses come from IPAM, which does not give one twice.

import { formatCidr, requireCidr } from '../../src/lib/cidr.ts';
import { CniError, hasCode } from '../../src/lib/errors.ts';
import { formatIp, ipFamily } from '../../src/lib/ip.ts';
import type { Netns } from '../../src/linux/netns.ts';
import type { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import type { RtnetlinkBatch } from '../../src/linux/rtnetlink-batch.ts';
import { readSysctl, writeSysctl } from '../../src/linux/sysctl.ts';
import { CNI_ERROR } from '../runtime/errors.ts';
import type { Call } from '../runtime/plugin.ts';
import type { Result, ResultInterface, ResultIp, ResultRoute } from '../runtime/result.ts';

export interface PodInterfaceOptions {
  /** `enabledad` of the bridge plugin: let the kernel test link-local addresses too. */
  duplicateAddressDetection?: boolean;
}

/** Before the link goes up: announce addresses by gratuitous ARP, and have IPv6 where there will be an address. */
export function preparePodInterface(
  podNetns: Netns,
  ifName: string,
  result: Result,
  options: PodInterfaceOptions = {},
): void {
  const with6 = result.ips.some(ip => familyOf(ip.address) === 6);
  // One window for all of them: entering a namespace costs as much as writing a file.
  podNetns.run(() => {
    writeIfThere(`net/ipv4/conf/${ifName}/arp_notify`, '1');
    if (with6)
      for (const name of ['lo', ifName]) setIfThere(undefined, `net/ipv6/conf/${name}/disable_ipv6`, '0');
    if (options.duplicateAddressDetection !== true) writeIfThere(`net/ipv6/conf/${ifName}/accept_dad`, '0');
  });
}

/** For a new interface, whose values are surely other ones: without the look that `setIfThere` begins with. */
function writeIfThere(path: string, value: string): void {
  try {
    writeSysctl(undefined, path, value);
  } catch {
    // Not there, or refused: where /proc/sys is read-only the value may be right already.
    setIfThere(undefined, path, value);
  }
}

/** Writes a sysctl unless it has the value or the kernel does not have it (no IPv6). `undefined`: this thread's namespace. */
export function setIfThere(netns: Netns | undefined, path: string, value: string): void {
  try {
    if (readSysctl(netns, path) !== value) writeSysctl(netns, path, value);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}

/** Gives `ifName` its addresses, brings it up and adds the routes. */
export function configurePodInterface(
  pod: Rtnetlink,
  ifName: string,
  result: Result,
  options: { pointToPoint?: boolean; linkIndex?: number } = {},
): void {
  const failures = pod.tryBatch(batch => {
    if (options.linkIndex !== undefined) batch.know(ifName, options.linkIndex);
    writePodInterface(batch, ifName, result, options.pointToPoint ?? false);
  });
  // A route may be there already: the kernel made it for the address.
  const failure = failures.find(one => one.tag !== ROUTE || !hasCode(one.error, 'EEXIST'));
  if (failure !== undefined) throw failure.error;
}

/** Marks the requests of a batch that may find their object there. */
const ROUTE = 'route';

function writePodInterface(pod: RtnetlinkBatch, ifName: string, result: Result, pointToPoint: boolean): void {
  const addresses = result.ips.filter(ip => interfaceName(result, ip.interface) === ifName);
  for (const ip of addresses)
    pod.addAddress({
      link: ifName,
      address: ip.address,
      noDad: true,
      ...broadcastOf(ip.address),
      ...(pointToPoint ? { noPrefixRoute: true } : {}),
    });
  pod.setLink(ifName, { up: true });
  pod.tag = ROUTE;
  if (pointToPoint) for (const ip of addresses) routeThroughGateway(pod, ifName, ip);
  const gateways = new Map(addresses.map(ip => [familyOf(ip.address), ip.gateway]));
  for (const route of result.routes) {
    const gateway = route.gw ?? gateways.get(familyOf(route.dst));
    pod.addRoute({
      destination: route.dst,
      link: ifName,
      ...(gateway === undefined ? {} : { gateway }),
      ...(route.mtu === undefined ? {} : { mtuBytes: route.mtu }),
      ...(route.advmss === undefined ? {} : { advMss: route.advmss }),
      ...(route.priority === undefined ? {} : { metric: route.priority }),
      ...(route.table === undefined ? {} : { table: route.table }),
      ...(route.scope === undefined ? {} : { scope: route.scope }),
    });
  }
}

/** The subnet's last address, for IPv4 networks that have room for one. */
export function broadcastOf(address: string): { broadcast?: 'auto' } {
  const cidr = requireCidr(address, 'address');
  return cidr.family === 4 && cidr.prefixLength < 31 ? { broadcast: 'auto' } : {};
}

/** Same as `ip route add GATEWAY dev X scope link src IP; ip route add SUBNET via GATEWAY src IP`. */
function routeThroughGateway(pod: RtnetlinkBatch, ifName: string, ip: ResultIp): void {
  const { gateway } = ip;
  if (gateway === undefined) return;
  const cidr = requireCidr(ip.address, 'address');
  const source = formatIp(cidr.address);
  const bits = cidr.family === 4 ? 32 : 128;
  const scope = cidr.family === 4 ? { scope: 'link' as const } : {};
  pod.addRoute({ destination: `${gateway}/${bits}`, link: ifName, source, ...scope });
  // A /32 or /128 has no subnet beside the address itself.
  if (cidr.prefixLength < bits)
    pod.addRoute({ destination: formatCidr(cidr), link: ifName, gateway, source });
}

function interfaceName(result: Result, index: number | undefined): string | undefined {
  return index === undefined ? undefined : result.interfaces[index]?.name;
}

export function familyOf(addressOrCidr: string): 4 | 6 {
  return ipFamily(addressOrCidr.split('/')[0]!) ?? 4;
}

/** The entry of the pod's interface in a result; code 999 when it is missing. */
export function requireInterface(
  result: Result,
  name: string,
  sandbox: string | undefined,
): { entry: ResultInterface; index: number } {
  const index = result.interfaces.findIndex(
    one => one.name === name && (sandbox === undefined ? one.sandbox === undefined : one.sandbox === sandbox),
  );
  const entry = result.interfaces[index];
  if (entry === undefined)
    throw new CniError(
      CNI_ERROR.INTERNAL,
      sandbox === undefined
        ? `interface ${name} of the host is not in prevResult`
        : `sandbox in prevResult ${result.interfaces.map(one => one.sandbox ?? 'host').join(', ')} doesn't match configured netns: ${sandbox}`,
    );
  return { entry, index };
}

/** CHECK: the interface, its MAC, its addresses and its routes are as the result of ADD says. */
export function checkPodInterface(
  call: Call,
  pod: Rtnetlink,
  result: Result,
  options: { down?: boolean } = {},
): void {
  const { entry, index } = requireInterface(result, call.ifName, call.netns);
  const link = pod.getLink(call.ifName);
  if (link === undefined) throw gone(`interface ${call.ifName} is not in the container`);
  if (entry.mac !== undefined && entry.mac.toLowerCase() !== link.mac)
    throw gone(`interface ${call.ifName} has MAC ${link.mac}, the result says ${entry.mac}`);
  if (!link.up && options.down !== true) throw gone(`interface ${call.ifName} is down`);
  const present = new Set(pod.listAddresses({ link: call.ifName }).map(one => one.address));
  for (const ip of result.ips)
    if (ip.interface === index && !present.has(ip.address))
      throw gone(`interface ${call.ifName} does not have address ${ip.address}`);
  for (const route of result.routes) checkRoute(pod, route);
}

function checkRoute(pod: Rtnetlink, route: ResultRoute): void {
  const found = pod
    .listRoutes({ family: familyOf(route.dst), table: route.table ?? 254 })
    .some(
      one =>
        one.destination === route.dst &&
        (route.gw === undefined ||
          one.gateway === route.gw ||
          one.nexthops?.some(hop => hop.gateway === route.gw)),
    );
  if (!found) throw gone(`route ${route.dst}${route.gw === undefined ? '' : ` via ${route.gw}`} is missing`);
}

/** ADD's refusal of a second interface of that name. */
export function nameTaken(call: Call, cause?: unknown): CniError {
  const message = `interface ${call.ifName} already exists in the container`;
  return new CniError(CNI_ERROR.INTERNAL, message, '', { cause });
}

export function gone(message: string): CniError {
  return new CniError(CNI_ERROR.INTERNAL, message);
}
