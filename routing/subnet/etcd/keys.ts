// Names of flannel's keys in etcd (flannel pkg/subnet/subnet.go): `10.5.52.0-24`, or with IPv6 beside it
// `10.5.52.0-24&fc00::-64`, below `<prefix>/subnets/`. Pure.
import { type Cidr, formatCidr, hasHostBits, parseCidr } from '../../../src/lib/cidr.ts';

export const DEFAULT_ETCD_PREFIX = '/coreos.com/network';

/** The pod CIDRs of one node. */
export interface SubnetPair {
  v4: Cidr;
  v6?: Cidr;
}

export function configKey(prefix: string): string {
  return `${prefix}/config`;
}

/** All subnet keys begin with this. */
export function subnetsPrefix(prefix: string): string {
  return `${prefix}/subnets/`;
}

/** The name of a subnet, without the directory. */
export function formatSubnetKey({ v4, v6 }: SubnetPair): string {
  const part = (cidr: Cidr): string => formatCidr(cidr).replace('/', '-');
  return v6 ? `${part(v4)}&${part(v6)}` : part(v4);
}

/** Undefined for a name that is none: other programs may keep keys there too. */
export function parseSubnetKey(name: string): SubnetPair | undefined {
  const [first = '', second, ...more] = name.split('&');
  const parse = (text: string, family: 4 | 6): Cidr | undefined => {
    const match = /^([0-9a-fA-F.:]+)-(\d{1,3})$/.exec(text);
    const cidr = match && parseCidr(`${match[1]}/${match[2]}`);
    return cidr && cidr.family === family && !hasHostBits(cidr) ? cidr : undefined;
  };
  const v4 = parse(first, 4);
  if (!v4 || more.length > 0) return undefined;
  if (second === undefined) return { v4 };
  const v6 = parse(second, 6);
  return v6 && { v4, v6 };
}
