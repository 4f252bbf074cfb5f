// The firewall plugin's nftables backend: one element a pod and address in the owned table, in one transaction.
import { verdict } from '../../../src/codec/nft/expression/immediate.ts';
import { formatIp } from '../../../src/lib/ip.ts';
import { orphanTest, ownerName } from '../../link/owner.ts';
import { gone } from '../../link/pod-interface.ts';
import { bridgeChain } from '../../nft/extensions.ts';
import type { SetName, SharedChain } from '../../nft/layout.ts';
import { type PodRule, PodRules } from '../../nft/pod-rules.ts';
import type { Attachment, Call } from '../../runtime/plugin.ts';
import type { PodFirewall } from './config.ts';

/** For pods whose bridge is not kept apart. */
const OPEN: SharedChain = { name: 'open', rules: [[verdict('accept')]] };

const isFirewallSet = (set: SetName): boolean => set === 'firewall4' || set === 'firewall6';

/** Pure. */
export function planFirewall(pods: readonly PodFirewall[]): PodRule[] {
  return pods.map(({ family, address, isolation }) => ({
    set: `firewall${family}`,
    key: Buffer.from(address),
    chain: isolation === undefined ? OPEN : bridgeChain(isolation.bridge, isolation.policy),
    what: `the firewall's rule of ${formatIp(address)}`,
  }));
}

export function addNftables(call: Call, pods: readonly PodFirewall[], adminChain: string): void {
  using rules = PodRules.open(call.site.hostNetns);
  rules.add(ownerName(call.networkName, call), planFirewall(pods), { adminChain });
}

export function delNftables(call: Call): void {
  const owner = ownerName(call.networkName, call);
  using rules = PodRules.open(call.site.hostNetns);
  rules.remove((holder, set) => isFirewallSet(set) && holder === owner);
}

export function checkNftables(call: Call, pods: readonly PodFirewall[]): void {
  using rules = PodRules.open(call.site.hostNetns);
  const missing = rules.missing(ownerName(call.networkName, call), planFirewall(pods));
  if (missing !== undefined) throw gone(`${missing} is missing in nftables`);
}

export function collectNftables(call: Call, valid: readonly Attachment[]): void {
  const orphan = orphanTest(call.networkName, valid);
  using rules = PodRules.open(call.site.hostNetns);
  rules.remove((holder, set) => isFirewallSet(set) && orphan(holder));
}
