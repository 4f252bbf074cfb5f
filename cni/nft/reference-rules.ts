// Chains that the reference's plugins made for a pod, through iptables: on a node that was switched over while pods
// ran, their DEL comes to us. Those of iptables-nft are found by name, one question each,
// and removed in one transaction; legacy-rules.ts has the others.
import { createHash } from 'node:crypto';
import { hasCode } from '../../src/lib/errors.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import type { Call } from '../runtime/plugin.ts';
import { removeLegacyChain } from './legacy-rules.ts';

const FAMILIES = ['ip', 'ip6'] as const;

interface ReferenceChain {
  name: string;
  /** Where the rule is that jumps to it. */
  from: string;
}

/** pkg/utils of the reference: `CNI-` (masquerade) and `CNI-DN-` (host ports) and SHA-512 of network and container. */
function hash(call: Call, prefix: string): string {
  const text = createHash('sha512').update(`${call.networkName}${call.containerId}`).digest('hex');
  return `${prefix}${text.slice(0, 28 - prefix.length)}`;
}

export function referenceMasqueradeChain(call: Call): ReferenceChain {
  return { name: hash(call, 'CNI-'), from: 'POSTROUTING' };
}

export function referencePortChain(call: Call): ReferenceChain {
  return { name: hash(call, 'CNI-DN-'), from: 'CNI-HOSTPORT-DNAT' };
}

/** Same as `iptables -t nat -D FROM … -j NAME; iptables -t nat -F NAME; iptables -t nat -X NAME`. */
export async function removeReferenceChain(call: Call, chain: ReferenceChain): Promise<void> {
  removeNftChain(call, chain);
  await removeLegacyChain(call, chain.name);
}

function removeNftChain(call: Call, chain: ReferenceChain): void {
  using nft = Nftables.open(call.site.hostNetns);
  for (const family of FAMILIES) {
    if (nft.getChain(family, 'nat', chain.name) === undefined) continue;
    const jumps = nft.listRules(family, 'nat', chain.from).filter(rule => rule.target === chain.name);
    try {
      nft.transaction(batch => {
        for (const rule of jumps) batch.delRule(family, rule);
        batch.flushChain(family, 'nat', chain.name).delChain(family, 'nat', chain.name);
      });
    } catch (error) {
      // Somebody else was removing it at the same time, or something of another program refers to it.
      if (!hasCode(error, 'ENOENT') && !hasCode(error, 'EBUSY')) throw error;
    }
  }
}
