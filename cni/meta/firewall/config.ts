// The firewall plugin's configuration (plugins/meta/firewall/firewall.go of the reference) and what it says of a pod.
import { parseCidr } from '../../../src/lib/cidr.ts';
import { CniError } from '../../../src/lib/errors.ts';
import { Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import type { IsolatingPolicy } from '../../nft/extensions.ts';
import { CNI_ERROR, configError } from '../../runtime/errors.ts';
import type { Call } from '../../runtime/plugin.ts';
import type { Result } from '../../runtime/result.ts';

export interface FirewallConfig {
  /** Undefined: the one that fits the host. */
  backend: 'iptables' | 'nftables' | undefined;
  adminChain: string;
  ingressPolicy: 'open' | IsolatingPolicy;
}

/** One address of a pod, and what is asked for it. */
export interface PodFirewall {
  family: 4 | 6;
  address: Uint8Array;
  /** The pod's bridge, for the isolating policies. */
  isolation?: { bridge: string; policy: IsolatingPolicy };
}

/** Names that chains of the owned table or of iptables have, and verdicts. */
const RESERVED = [
  /^(admin|forward|isolation|open|prerouting|output|postrouting|(conditional_)?hostports)$/,
  /^(masq|snat|port[46]|same-bridge|isolated)-/,
  /^(INPUT|FORWARD|OUTPUT|ACCEPT|DROP|RETURN|QUEUE|CNI-FORWARD|CNI-ISOLATION-STAGE-[12])$/,
];

export function readFirewallConfig(call: Call): FirewallConfig {
  const { config } = call;
  const backend = config.string('backend') || undefined;
  if (backend === 'firewalld')
    throw new CniError(
      CNI_ERROR.UNSUPPORTED_FIELD,
      'firewall: backend firewalld is not supported',
      'use iptables or nftables',
    );
  if (backend !== undefined && backend !== 'iptables' && backend !== 'nftables')
    throw configError(
      `unrecognized firewall backend ${JSON.stringify(backend)}`,
      'known are iptables and nftables',
    );
  const ingressPolicy = config.string('ingressPolicy') || 'open';
  if (ingressPolicy !== 'open' && ingressPolicy !== 'same-bridge' && ingressPolicy !== 'isolated')
    throw configError(
      `unknown ingress policy ${JSON.stringify(ingressPolicy)}`,
      'known are open, same-bridge and isolated',
    );
  const adminChain = config.string('iptablesAdminChainName') || 'CNI-ADMIN';
  if (
    !/^[A-Za-z0-9_.][A-Za-z0-9_.-]{0,27}$/.test(adminChain) ||
    RESERVED.some(names => names.test(adminChain))
  )
    throw configError(`${JSON.stringify(adminChain)} cannot be the name of an administrator's chain`);
  return { backend, adminChain, ingressPolicy };
}

/** The addresses of the result, the host's too, as in the reference. */
export function podFirewalls(call: Call, config: FirewallConfig, result: Result): PodFirewall[] {
  const { ingressPolicy } = config;
  const isolation =
    ingressPolicy === 'open' ? {} : { isolation: { bridge: bridgeOf(call, result), policy: ingressPolicy } };
  return resultAddresses(result).map(one => ({ ...one, ...isolation }));
}

export function resultAddresses(result: Result): { family: 4 | 6; address: Uint8Array }[] {
  return result.ips.flatMap(ip => {
    const cidr = parseCidr(ip.address);
    return cidr === undefined ? [] : [{ family: cidr.family, address: cidr.address }];
  });
}

/** The bridge among the host's interfaces in the result. */
function bridgeOf(call: Call, result: Result): string {
  using host = Rtnetlink.open(call.site.hostNetns);
  const bridge = result.interfaces.find(
    one => one.sandbox === undefined && host.getLink(one.name)?.kind === 'bridge',
  );
  if (bridge === undefined) throw configError('ingressPolicy needs a bridge, and prevResult has none');
  return bridge.name;
}
