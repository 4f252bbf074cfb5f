// The values of DHCP options (RFC 2132, RFC 3442). Pure. A value of the wrong length counts as absent, as the servers in
// the field demand.
import { formatAddressWithPrefix, formatCidr, makeCidr } from '../../lib/cidr.ts';
import { formatIp, requireIp } from '../../lib/ip.ts';
import { OPTION } from './constants.ts';
import type { DhcpMessage, DhcpOptions } from './message.ts';

export interface DhcpRoute {
  destination: string;
  gateway: string;
}

export function messageType(message: DhcpMessage): number | undefined {
  const value = message.options.get(OPTION.MESSAGE_TYPE);
  return value?.length === 1 ? value[0] : undefined;
}

/** Seconds, or any other number of 32 bits. */
export function numberOption(options: DhcpOptions, code: number): number | undefined {
  const value = options.get(code);
  return value?.length === 4 ? value.readUInt32BE(0) : undefined;
}

export function addressesOption(options: DhcpOptions, code: number): string[] {
  const value = options.get(code) ?? Buffer.alloc(0);
  return Array.from({ length: Math.floor(value.length / 4) }, (_, i) =>
    formatIp(value.subarray(i * 4, i * 4 + 4)),
  );
}

export function addressOption(options: DhcpOptions, code: number): string | undefined {
  return addressesOption(options, code)[0];
}

/** Text without the NUL that some servers end it with. */
export function textOption(options: DhcpOptions, code: number): string | undefined {
  return options.get(code)?.toString('utf8').replace(/\0+$/, '');
}

export function encodeAddress(address: string): Buffer {
  return Buffer.from(requireIp(address));
}

/** `10.0.0.5/24` from yiaddr and option 1; undefined without a mask, or with one that has holes. */
export function addressWithMask(address: string, options: DhcpOptions): string | undefined {
  const mask = options.get(OPTION.SUBNET_MASK);
  if (mask?.length !== 4) return undefined;
  const bits = mask.readUInt32BE(0).toString(2).padStart(32, '0');
  if (!/^1*0*$/.test(bits)) return undefined;
  return formatAddressWithPrefix(makeCidr(requireIp(address), bits.lastIndexOf('1') + 1));
}

/** Classless routes (option 121) alone when there are any, else static routes (33) and the router (3): RFC 3442. */
export function routesOption(options: DhcpOptions): DhcpRoute[] {
  const classless = classlessRoutes(options.get(OPTION.CLASSLESS_ROUTE) ?? Buffer.alloc(0));
  if (classless.length > 0) return classless;
  const addresses = addressesOption(options, OPTION.STATIC_ROUTE);
  const routes: DhcpRoute[] = [];
  for (let i = 0; i + 1 < addresses.length; i += 2)
    routes.push({ destination: classfulSubnet(addresses[i]!), gateway: addresses[i + 1]! });
  const router = addressOption(options, OPTION.ROUTER);
  return router === undefined ? routes : [...routes, { destination: '0.0.0.0/0', gateway: router }];
}

/** Prefix length, as many bytes of the subnet as it needs, the router: `18 0a 01 02 0a 01 02 fe` is 10.1.2.0/24. */
function classlessRoutes(value: Buffer): DhcpRoute[] {
  const routes: DhcpRoute[] = [];
  for (let at = 0; at < value.length; ) {
    const prefixLength = value[at]!;
    const significant = Math.ceil(prefixLength / 8);
    const end = at + 1 + significant + 4;
    if (prefixLength > 32 || end > value.length) return [];
    const network = Buffer.alloc(4);
    value.copy(network, 0, at + 1, at + 1 + significant);
    routes.push({
      destination: formatCidr(makeCidr(network, prefixLength)),
      gateway: formatIp(value.subarray(end - 4, end)),
    });
    at = end;
  }
  return routes;
}

function classfulSubnet(address: string): string {
  const bytes = requireIp(address);
  const first = bytes[0]!;
  return formatCidr(makeCidr(bytes, first < 128 ? 8 : first < 192 ? 16 : 24));
}
