// The same chains where the reference's plugins made them through iptables-legacy, whose rules netlink does not show.
// Only the program can read them, so it is started once a namespace to learn which chains there are, and then only for
// the DEL of a pod that has one. Namespaces without legacy tables, most of them today, cost one read of a file.
import { errorMessage } from '../../src/lib/errors.ts';
import { Iptables } from '../../src/linux/iptables.ts';
import type { Call } from '../runtime/plugin.ts';

const FAMILIES = [4, 6] as const;
/** Another program may change the table between our look and our change. */
const ATTEMPTS = 3;
const MAX_NAMESPACES = 256;

/** The pods' chains by namespace (its inode number) and family, as they were at our first DEL there. */
const known = new Map<string, Promise<Set<string>>>();

export async function removeLegacyChain(call: Call, chain: string): Promise<void> {
  const { hostNetns, locks, signal, log } = call.site;
  const iptables = new Iptables({ netns: hostNetns, backend: 'legacy' });
  for (const family of FAMILIES) {
    if (!iptables.legacyTables(family).includes('nat')) continue;
    const key = `legacy nat ${family} of namespace ${hostNetns.inode}`;
    let chains = known.get(key);
    if (chains === undefined) {
      chains = iptables.save(family, 'nat').then(podChains, error => {
        log.warn({ error: errorMessage(error) }, 'iptables-legacy cannot be read; its rules are left alone');
        return new Set<string>();
      });
      if (known.size >= MAX_NAMESPACES) known.clear();
      known.set(key, chains);
    }
    if (!(await chains).delete(chain)) continue;
    await locks.run(key, signal, () => remove(iptables, family, chain));
  }
}

async function remove(iptables: Iptables, family: 4 | 6, chain: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const text = planChainRemoval(await iptables.save(family, 'nat'), chain);
    if (text === undefined) return;
    try {
      await iptables.restore(family, text);
      return;
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
    }
  }
}

/** Names of the reference's chains of single pods in what iptables-save shows. Pure. */
export function podChains(saved: string): Set<string> {
  return new Set(saved.match(/(?<=^:)CNI-(DN-[0-9a-f]{21}|[0-9a-f]{24})(?= )/gm) ?? []);
}

/** What iptables-restore needs to remove a chain and the rules that lead to it; undefined when it is not there. Pure. */
export function planChainRemoval(saved: string, chain: string): string | undefined {
  const lines = saved.split('\n');
  if (!lines.some(line => line.startsWith(`:${chain} `))) return undefined;
  const jumps = lines.filter(line => line.startsWith('-A ') && line.endsWith(` -j ${chain}`));
  return [
    '*nat',
    ...jumps.map(line => `-D ${line.slice(3)}`),
    `-F ${chain}`,
    `-X ${chain}`,
    'COMMIT',
    '',
  ].join('\n');
}
