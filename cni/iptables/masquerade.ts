// ipMasq with ipMasqBackend iptables: the reference's chain for each pod (pkg/ip/ipmasq_iptables_linux.go), in one
// transaction a family.
import { type Cidr, formatCidr } from '../../src/lib/cidr.ts';
import { formatIp } from '../../src/lib/ip.ts';
import type { Attachment, Call } from '../runtime/plugin.ts';
import { masqueradeChainName, masqueradeComment, orphanChainTest } from './chain-names.ts';
import { changeIptables, FAMILIES, readIptables, removeFromIptables } from './host.ts';
import { commentMatch, type IptablesFamily, type IptablesTable } from './table.ts';

const POSTROUTING = 'POSTROUTING';
const MULTICAST = { 4: '224.0.0.0/4', 6: 'ff00::/8' } as const;

export interface MasqueradePlan {
  chain: string;
  /** What the chain holds. */
  rules: string[];
  /** Rules of POSTROUTING that lead to it. */
  entries: string[];
}

/** Pure. The pod's own subnets come first; the reference puts a second address's after the masquerading. */
export function planChain(
  network: string,
  containerId: string,
  addresses: readonly Cidr[],
  family: IptablesFamily,
): MasqueradePlan {
  const comment = commentMatch(masqueradeComment(network, containerId));
  const chain = masqueradeChainName(network, containerId);
  return {
    chain,
    rules: [
      ...addresses.map(one => `-d ${formatCidr(one)} ${comment} -j ACCEPT`),
      `! -d ${MULTICAST[family]} ${comment} -j MASQUERADE`,
    ],
    entries: addresses.map(one => `-s ${formatIp(one.address)} ${comment} -j ${chain}`),
  };
}

export async function addMasqueradeChains(call: Call, addresses: readonly Cidr[]): Promise<void> {
  for (const { family, plan } of plans(call, addresses))
    await changeIptables(call, family, 'nat', table => {
      table.setChain(plan.chain, plan.rules);
      // Of an ADD that was broken off, perhaps with other addresses.
      table.removeWhere(POSTROUTING, rule => rule.target === plan.chain);
      for (const rule of plan.entries) table.append(POSTROUTING, rule);
    });
}

function plans(call: Call, addresses: readonly Cidr[]): { family: IptablesFamily; plan: MasqueradePlan }[] {
  return FAMILIES.flatMap(family => {
    const own = addresses.filter(one => one.family === family);
    return own.length === 0
      ? []
      : [{ family, plan: planChain(call.networkName, call.containerId, own, family) }];
  });
}

/** What is missing, for a message; undefined when all is there. */
export async function missingMasqueradeRule(
  call: Call,
  addresses: readonly Cidr[],
): Promise<string | undefined> {
  for (const { family, plan } of plans(call, addresses)) {
    const missing = await readIptables(call, family, 'nat', table => missingRule(table, plan));
    if (missing !== undefined) return `iptables rule ${missing}`;
  }
  return undefined;
}

function missingRule(table: IptablesTable, plan: MasqueradePlan): string | undefined {
  const lost = plan.rules.find(rule => !table.hasRule(plan.chain, rule));
  if (lost !== undefined) return `-A ${plan.chain} ${lost}`;
  const entry = plan.entries.find(rule => !table.hasRule(POSTROUTING, rule));
  return entry === undefined ? undefined : `-A ${POSTROUTING} ${entry}`;
}

export async function delMasqueradeChains(call: Call): Promise<void> {
  const chain = masqueradeChainName(call.networkName, call.containerId);
  await removeFromIptables(call, 'nat', table => {
    if (table.hasChain(chain)) table.removeChain(chain, [POSTROUTING]);
  });
}

export async function collectMasqueradeChains(call: Call, valid: readonly Attachment[]): Promise<void> {
  const orphan = orphanChainTest(call.networkName, valid, masqueradeChainName);
  await removeFromIptables(call, 'nat', table => {
    const chains = new Set(table.rules(POSTROUTING).flatMap(rule => (orphan(rule) ? rule.target! : [])));
    for (const chain of chains) table.removeChain(chain, [POSTROUTING]);
  });
}
