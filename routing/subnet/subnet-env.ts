// /run/flannel/subnet.env: what the flannel CNI plugin reads. The order of the lines is flannel's.
// Written to a temporary file and renamed, so that a plugin never reads half of it.
import { rename, writeFile } from 'node:fs/promises';
import { nthAddress, parseCidr } from '../../src/lib/cidr.ts';
import { formatIp } from '../../src/lib/ip.ts';

export interface SubnetEnv {
  network?: string;
  /** The node's pod CIDR; the file names its first address. */
  subnet?: string;
  ipv6Network?: string;
  ipv6Subnet?: string;
  mtuBytes: number;
  ipMasq: boolean;
}

function firstAddress(subnet: string): string {
  const cidr = parseCidr(subnet);
  const address = cidr && nthAddress(cidr, 1);
  return address ? `${formatIp(address)}/${cidr.prefixLength}` : subnet;
}

export function formatSubnetEnv(env: SubnetEnv): string {
  const lines: string[] = [];
  if (env.network && env.subnet)
    lines.push(`FLANNEL_NETWORK=${env.network}`, `FLANNEL_SUBNET=${firstAddress(env.subnet)}`);
  if (env.ipv6Network && env.ipv6Subnet)
    lines.push(
      `FLANNEL_IPV6_NETWORK=${env.ipv6Network}`,
      `FLANNEL_IPV6_SUBNET=${firstAddress(env.ipv6Subnet)}`,
    );
  lines.push(`FLANNEL_MTU=${env.mtuBytes}`, `FLANNEL_IPMASQ=${env.ipMasq}`);
  return `${lines.join('\n')}\n`;
}

/** Reads the file's variables; unknown lines are skipped, as the CNI plugin does. */
export function parseSubnetEnv(text: string): Partial<Record<string, string>> {
  const variables: Record<string, string> = {};
  for (const line of text.split('\n')) {
    const equals = line.indexOf('=');
    if (equals > 0) variables[line.slice(0, equals).trim()] = line.slice(equals + 1).trim();
  }
  return variables;
}

export async function writeSubnetEnv(path: string, env: SubnetEnv): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  await writeFile(temporary, formatSubnetEnv(env), { mode: 0o644 });
  await rename(temporary, path);
}
