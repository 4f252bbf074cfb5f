// `/run/flannel/subnet.env`, which flanneld or podwire's overlay writes for this plugin: shell assignments. Pure.
import { type Cidr, formatCidr, parseCidr } from '../../../src/lib/cidr.ts';
import { configError } from '../../runtime/errors.ts';

export interface SubnetEnv {
  /** FLANNEL_NETWORK and FLANNEL_IPV6_NETWORK: the pods of all nodes. */
  networks: Cidr[];
  /** FLANNEL_SUBNET and FLANNEL_IPV6_SUBNET: those of this node. */
  subnets: Cidr[];
  mtuBytes: number | undefined;
  /** True when flanneld masquerades by itself, so that the delegate must not. */
  ipMasq: boolean;
}

export function parseSubnetEnv(text: string, file: string): SubnetEnv {
  const values = new Map<string, string>();
  for (const line of text.split('\n')) {
    const match = /^\s*(FLANNEL_[A-Z0-9_]+)=(.*?)\s*$/.exec(line);
    if (match !== null) values.set(match[1]!, match[2]!.replace(/^(["'])(.*)\1$/, '$2'));
  }
  const list = (name: string): Cidr[] =>
    (values.get(name) ?? '')
      .split(',')
      .filter(part => part !== '')
      .map(part => {
        const cidr = parseCidr(part.trim());
        if (cidr === undefined) throw configError(`${name}=${part} in ${file} is not a network`);
        return cidr;
      });
  const networks = [...list('FLANNEL_NETWORK'), ...list('FLANNEL_IPV6_NETWORK')];
  const subnets = [...list('FLANNEL_SUBNET'), ...list('FLANNEL_IPV6_SUBNET')];
  const missing = [
    ...(networks.length === 0 ? ['FLANNEL_NETWORK'] : []),
    ...(subnets.length === 0 ? ['FLANNEL_SUBNET'] : []),
    ...(values.has('FLANNEL_MTU') ? [] : ['FLANNEL_MTU']),
    ...(values.has('FLANNEL_IPMASQ') ? [] : ['FLANNEL_IPMASQ']),
  ];
  if (missing.length > 0) throw configError(`${file} is missing ${missing.join(', ')}`);
  const mtu = values.get('FLANNEL_MTU') ?? '';
  if (!/^[0-9]{1,5}$/.test(mtu)) throw configError(`FLANNEL_MTU=${mtu} in ${file} is not a number`);
  return {
    networks,
    subnets,
    mtuBytes: Number(mtu) || undefined,
    ipMasq: values.get('FLANNEL_IPMASQ') === 'true',
  };
}

/** The node's subnets as IPAM ranges: one address of each family. */
export function rangesOf(env: SubnetEnv): { subnet: string }[][] {
  return env.subnets.map(subnet => [{ subnet: formatCidr(subnet) }]);
}
