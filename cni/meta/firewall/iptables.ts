// The firewall plugin's iptables backend, for hosts whose FORWARD policy is DROP (Docker's): an accept of nftables does
// not overrule a drop of iptables.
import { formatIp } from '../../../src/lib/ip.ts';
import { Iptables } from '../../../src/linux/iptables.ts';
import { orphanTest, ownerName } from '../../link/owner.ts';
import { gone } from '../../link/pod-interface.ts';
import type { Attachment, Call } from '../../runtime/plugin.ts';
import type { Result } from '../../runtime/result.ts';
import { type PodFirewall as Pod, resultAddresses } from './config.ts';
import { missingRule, type PodFirewall, planAdd, planRemove } from './plan.ts';

const FAMILIES = [4, 6] as const;
/** Another process may change the rules between our look and our change. */
const ATTEMPTS = 5;

export async function addIptables(call: Call, pods: readonly Pod[], adminChain: string): Promise<void> {
  for (const { family, pod } of byFamily(call, pods, adminChain))
    await change(call, family, saved => planAdd(saved, pod));
}

/** The reference's rules have no owner; `result` says of which addresses they are. */
export async function delIptables(call: Call, result: Result | undefined): Promise<void> {
  const owner = ownerName(call.networkName, call);
  for (const family of FAMILIES) {
    const addresses = result === undefined ? [] : withLength(resultAddresses(result), family);
    await change(call, family, saved => planRemove(saved, holder => holder === owner, addresses));
  }
}

export async function checkIptables(call: Call, pods: readonly Pod[], adminChain: string): Promise<void> {
  for (const { family, pod } of byFamily(call, pods, adminChain)) {
    const missing = missingRule(await iptablesOf(call).save(family, 'filter'), pod);
    if (missing !== undefined) throw gone(`iptables rule ${missing} is missing`);
  }
}

export async function statusIptables(call: Call): Promise<void> {
  await iptablesOf(call).save(4, 'filter');
}

export async function collectIptables(call: Call, valid: readonly Attachment[]): Promise<void> {
  const orphan = orphanTest(call.networkName, valid);
  for (const family of FAMILIES) await change(call, family, saved => planRemove(saved, orphan));
}

function iptablesOf(call: Call): Iptables {
  return new Iptables({ netns: call.site.hostNetns });
}

/** Looks, plans, applies; looks again when somebody else was quicker. */
async function change(call: Call, family: 4 | 6, plan: (saved: string) => string | undefined): Promise<void> {
  const { locks, signal, hostNetns } = call.site;
  await locks.run(`iptables of namespace ${hostNetns.inode}`, signal, async () => {
    const iptables = iptablesOf(call);
    for (let attempt = 1; ; attempt++) {
      const text = plan(await iptables.save(family, 'filter'));
      if (text === undefined) return;
      try {
        await iptables.restore(family, text);
        return;
      } catch (error) {
        if (attempt === ATTEMPTS) throw error;
      }
    }
  });
}

function withLength(addresses: readonly { family: 4 | 6; address: Uint8Array }[], family: 4 | 6): string[] {
  return addresses
    .filter(one => one.family === family)
    .map(one => `${formatIp(one.address)}/${family === 4 ? 32 : 128}`);
}

function byFamily(
  call: Call,
  pods: readonly Pod[],
  adminChain: string,
): { family: 4 | 6; pod: PodFirewall }[] {
  const owner = ownerName(call.networkName, call);
  return FAMILIES.flatMap(family => {
    const addresses = withLength(pods, family);
    if (addresses.length === 0) return [];
    const isolation = pods[0]?.isolation;
    const kept =
      isolation === undefined
        ? {}
        : {
            isolation: { bridge: isolation.bridge, sameBridgeAllowed: isolation.policy === 'same-bridge' },
          };
    return [{ family, pod: { owner, addresses, adminChain, ...kept } }];
  });
}
