// The host network the overlay runs on, as the planners see it: plain data given by the daemon. Pure.
import { type Cidr, cidrContains, parseCidr } from '../../src/lib/cidr.ts';
import { formatIp, type IpFamily, parseIp } from '../../src/lib/ip.ts';

export interface Underlay {
  /** The link that carries traffic to the other nodes. */
  link: string;
  /** Its addresses with prefix lengths: `192.168.64.3/24`. The first of a family is the one peers use. */
  addresses: readonly string[];
  mtuBytes: number;
}

/** The underlay's addresses of one family, in order. */
export function underlayNetworks(underlay: Underlay, family: IpFamily): Cidr[] {
  return underlay.addresses.flatMap(text => {
    const cidr = parseCidr(text);
    return cidr?.family === family ? [cidr] : [];
  });
}

/** The address peers send to: `wanted` when the link has it, else the link's first of the family. */
export function underlayAddress(underlay: Underlay, family: IpFamily, wanted?: string): string | undefined {
  const addresses = underlayNetworks(underlay, family).map(cidr => formatIp(cidr.address));
  return wanted !== undefined && addresses.includes(wanted) ? wanted : addresses[0];
}

/** True when the address is on the link itself, no router between: what DirectRouting and host-gw need. */
export function isDirect(underlay: Underlay, address: string): boolean {
  const bytes = parseIp(address);
  return (
    bytes !== undefined &&
    underlayNetworks(underlay, bytes.length === 4 ? 4 : 6).some(cidr => cidrContains(cidr, bytes))
  );
}
