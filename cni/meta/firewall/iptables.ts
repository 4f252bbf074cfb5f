// The firewall plugin's iptables backend, for hosts whose FORWARD policy is DROP (Docker's): an accept of nftables does
// not overrule a drop of iptables. One transaction a family, without iptables' programs.
import { changeIptables, FAMILIES, readIptables, removeFromIptables } from '../../iptables/host.ts';
import { orphanTest, ownerName } from '../../link/owner.ts';
import { gone } from '../../link/pod-interface.ts';
import type { Attachment, Call } from '../../runtime/plugin.ts';
import type { Result } from '../../runtime/result.ts';
import { type PodFirewall, resultAddresses } from './config.ts';
import { applyFirewall, missingRule, removeFirewall } from './plan.ts';

function byFamily(pods: readonly PodFirewall[]): { family: 4 | 6; own: PodFirewall[] }[] {
  return FAMILIES.map(family => ({ family, own: pods.filter(pod => pod.family === family) })).filter(
    ({ own }) => own.length > 0,
  );
}

export async function addIptables(
  call: Call,
  pods: readonly PodFirewall[],
  adminChain: string,
): Promise<void> {
  const owner = ownerName(call.networkName, call);
  try {
    for (const { family, own } of byFamily(pods))
      await changeIptables(call, family, 'filter', table => applyFirewall(table, own, owner, adminChain));
  } catch (error) {
    // One family may be done when the other cannot be; the first error is the one to tell.
    await delIptables(call, undefined).catch(() => {});
    throw error;
  }
}

/** The reference's rules have no owner; `result` says of which addresses they are. */
export async function delIptables(call: Call, result: Result | undefined): Promise<void> {
  const owner = ownerName(call.networkName, call);
  const addresses = result === undefined ? [] : resultAddresses(result);
  await removeFromIptables(call, 'filter', table =>
    removeFirewall(table, holder => holder === owner, addresses),
  );
}

export async function checkIptables(
  call: Call,
  pods: readonly PodFirewall[],
  adminChain: string,
): Promise<void> {
  const owner = ownerName(call.networkName, call);
  for (const { family, own } of byFamily(pods)) {
    const missing = await readIptables(call, family, 'filter', table =>
      missingRule(table, own, owner, adminChain),
    );
    if (missing !== undefined) throw gone(`iptables rule -A ${missing} is missing`);
  }
}

export async function statusIptables(call: Call): Promise<void> {
  await readIptables(call, 4, 'filter', table => table.hasChain('FORWARD'));
}

export async function collectIptables(call: Call, valid: readonly Attachment[]): Promise<void> {
  const orphan = orphanTest(call.networkName, valid);
  await removeFromIptables(call, 'filter', table => removeFirewall(table, orphan));
}
