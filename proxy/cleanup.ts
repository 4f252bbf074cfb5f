// Takes the rules of a service proxy out of the kernel: all of them for `kube-proxy --cleanup`, those of the other modes
// after a change of mode. Knows what upstream's kube-proxy leaves as well. Both iptables programs are looked through:
// rules of the one are invisible to the other. KUBE-FIREWALL stays: kubelet writes it too.
import { KernelReconciler } from '../src/kernel/reconciler.ts';
import type { XtablesTableState } from '../src/kernel/state.ts';
import { errorMessage } from '../src/lib/errors.ts';
import { Iptables, type IptablesBackend } from '../src/linux/iptables.ts';
import type { Netns } from '../src/linux/netns.ts';
import { Nftables } from '../src/linux/nftables.ts';
import type { Logger } from '../src/observe/log.ts';
import { TABLE } from './backend/nftables/plan/names.ts';
import { endRelayHosts } from './backend/userspace/apply/host-directory.ts';

export type ProxyMode = 'iptables' | 'nftables' | 'userspace';

/** The table of upstream's nftables mode. */
export const UPSTREAM_TABLE = 'kube-proxy';

/** Beginnings of chain names; -XLB- and KUBE-MARK-DROP are of kube-proxy before 1.24. */
const IPTABLES_CHAINS = [
  'KUBE-SERVICES',
  'KUBE-EXTERNAL-SERVICES',
  'KUBE-NODEPORTS',
  'KUBE-POSTROUTING',
  'KUBE-MARK-MASQ',
  'KUBE-FORWARD',
  'KUBE-PROXY-FIREWALL',
  'KUBE-PROXY-CANARY',
  'KUBE-SVC-',
  'KUBE-SVL-',
  'KUBE-SEP-',
  'KUBE-EXT-',
  'KUBE-FW-',
  'KUBE-XLB-',
];
const USERSPACE_CHAINS = ['KUBE-PORTALS-', 'KUBE-NODEPORT-'];

export interface CleanupOptions {
  netns?: Netns;
  lockDirectory?: string;
  /** The mode that goes on; none means that everything goes. */
  keep?: ProxyMode;
  /** Where the userspace mode's relay hosts are: those end too, after a change of mode with their last connection. */
  relayDirectory?: string;
  log: Logger;
}

/** Resolves with what could not be removed, in words. */
export async function cleanupRules(options: CleanupOptions): Promise<string[]> {
  const problems: string[] = [];
  const prefixes = [
    ...(options.keep === 'iptables' ? [] : IPTABLES_CHAINS),
    ...(options.keep === 'userspace' ? [] : USERSPACE_CHAINS),
  ];
  problems.push(...removeNftTable(options, UPSTREAM_TABLE));
  if (options.keep !== 'nftables') problems.push(...removeNftTable(options, TABLE));
  for (const backend of await usedBackends(options))
    try {
      await removeChains(options, backend, prefixes);
    } catch (error) {
      problems.push(`iptables-${backend}: ${errorMessage(error)}`);
    }
  if (options.relayDirectory !== undefined && options.keep !== 'userspace')
    problems.push(...(await endRelayHosts(options.relayDirectory, options.keep ? 'drain' : 'stop')));
  for (const problem of problems) options.log.warn({ problem }, 'something of another mode stays');
  return problems;
}

function removeNftTable({ netns }: CleanupOptions, table: string): string[] {
  const problems: string[] = [];
  for (const family of ['ip', 'ip6'] as const)
    try {
      using nft = Nftables.open(netns);
      if (nft.getTable(family, table) !== undefined) nft.transaction(batch => batch.delTable(family, table));
    } catch (error) {
      problems.push(`table ${family} ${table}: ${errorMessage(error)}`);
    }
  return problems;
}

/** Legacy tables are made by looking at them, so only where there are some already. */
async function usedBackends({ netns }: CleanupOptions): Promise<IptablesBackend[]> {
  const iptables = new Iptables(netns === undefined ? {} : { netns });
  const legacy = ([4, 6] as const).some(family => iptables.legacyTables(family).length > 0);
  return legacy ? ['nft', 'legacy'] : ['nft'];
}

async function removeChains(
  { netns, lockDirectory, log }: CleanupOptions,
  iptablesBackend: IptablesBackend,
  ownedPrefixes: readonly string[],
): Promise<void> {
  const nothing = (family: 4 | 6, table: XtablesTableState['table']): XtablesTableState => ({
    family,
    table,
    chains: [],
    jumps: [],
    ownedPrefixes,
  });
  const reconciler = new KernelReconciler({
    ...(netns === undefined ? {} : { netns }),
    ...(lockDirectory === undefined ? {} : { lockDirectory }),
    iptablesBackend,
    log,
  });
  await reconciler.start();
  try {
    reconciler.setDesired('cleanup', {
      xtables: ([4, 6] as const).flatMap(family => [
        nothing(family, 'filter'),
        nothing(family, 'nat'),
        nothing(family, 'mangle'),
      ]),
    });
    await reconciler.settled();
  } finally {
    await reconciler.stop();
  }
}
