// The host's iptables without its programs, of either kind: iptables-nft's tables by netlink, iptables-legacy's by socket
// options. New rules go where the host has its rules; removals look at both. A legacy table is one block which is read
// whole, so a host that has legacy tables without anything of CNI in them is remembered by their size and layout.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { TableEdit } from '../../src/codec/xtables/edit.ts';
import { Iptables } from '../../src/linux/iptables.ts';
import { changeNftTable } from '../../src/linux/iptables-nft.ts';
import type { Netns } from '../../src/linux/netns.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import { changeTable, readXtables, type XtablesPlace } from '../../src/linux/xtables.ts';
import { XtablesSocket } from '../../src/linux/xtables-socket.ts';
import type { Call } from '../runtime/plugin.ts';
import { type IptablesFamily, IptablesTable } from './table.ts';

export type IptablesVariant = 'legacy' | 'nft';
export type TableName = 'filter' | 'nat';
/** Where programs are when a runtime says nothing. */
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
export const FAMILIES: readonly IptablesFamily[] = [4, 6];

function legacyTables(netns: Netns, family: IptablesFamily): string[] {
  return new Iptables({ netns }).legacyTables(family);
}

/** Legacy where somebody has legacy rules in this namespace, as our other parts choose; else nft. */
export function pickVariant(netns: Netns): IptablesVariant {
  for (const family of FAMILIES) {
    const tables = legacyTables(netns, family);
    if (tables.length === 0) continue;
    using socket = XtablesSocket.open(family, netns);
    for (const table of tables) {
      const { entries, validHooks } = socket.info(table);
      // An empty table has a policy for each of its hooks and the entry at its end.
      if (entries > countBits(validHooks) + 1) return 'legacy';
    }
  }
  using nft = Nftables.openIfSupported(netns);
  return nft === undefined ? 'legacy' : 'nft';
}

function countBits(value: number): number {
  let bits = 0;
  for (let rest = value; rest !== 0; rest &= rest - 1) bits++;
  return bits;
}

function placeOf(call: Call): XtablesPlace {
  const lockFile = call.site.environment.XTABLES_LOCKFILE;
  return { netns: call.site.hostNetns, ...(lockFile ? { lockFile } : {}) };
}

/** Changes a table where the host has its rules. `change` is called again when somebody else was faster. */
export async function changeIptables(
  call: Call,
  family: IptablesFamily,
  name: TableName,
  change: (table: IptablesTable) => void,
): Promise<void> {
  await changeVariant(call, pickVariant(call.site.hostNetns), family, name, change);
}

async function changeVariant(
  call: Call,
  variant: IptablesVariant,
  family: IptablesFamily,
  name: TableName,
  change: (table: IptablesTable) => void,
): Promise<void> {
  if (variant === 'legacy')
    await changeTable(placeOf(call), family, name, (edit, encoder) =>
      change(new IptablesTable(family, edit, encoder)),
    );
  else
    changeNftTable(call.site.hostNetns, family, name, (edit, encoder) =>
      change(new IptablesTable(family, edit, encoder)),
    );
}

/** Looks without changing anything. */
export async function readIptables<T>(
  call: Call,
  family: IptablesFamily,
  name: TableName,
  look: (table: IptablesTable) => T,
): Promise<T> {
  if (pickVariant(call.site.hostNetns) === 'nft')
    return changeNftTable(call.site.hostNetns, family, name, (edit, encoder) =>
      look(new IptablesTable(family, edit, encoder)),
    );
  const { table, encoder } = await readXtables(placeOf(call), family, name);
  return look(new IptablesTable(family, new TableEdit(table), encoder));
}

/** The families in which iptables-nft has this table; none on a kernel without netfilter's netlink. */
function nftFamilies(netns: Netns, name: TableName): IptablesFamily[] {
  using nft = Nftables.openIfSupported(netns);
  if (nft === undefined) return [];
  return FAMILIES.filter(family => nft.getTable(family === 4 ? 'ip' : 'ip6', name) !== undefined);
}

/** Legacy tables of namespaces that had nothing of CNI in them, by what the kernel says of their layout. */
const withoutCni = new Map<string, string>();
const MAX_REMEMBERED = 1024;

/** Removes something from both kinds of a table, in both families. What one cannot do does not keep the others. */
export async function removeFromIptables(
  call: Call,
  name: TableName,
  remove: (table: IptablesTable) => void,
): Promise<void> {
  const { hostNetns } = call.site;
  const failures: unknown[] = [];
  const nftTables = nftFamilies(hostNetns, name);
  for (const family of FAMILIES) {
    try {
      if (nftTables.includes(family)) await changeVariant(call, 'nft', family, name, remove);
    } catch (error) {
      failures.push(error);
    }
    if (!legacyTables(hostNetns, family).includes(name)) continue;
    try {
      const layout = legacyLayout(hostNetns, family, name);
      const key = `${hostNetns.inode} ${family} ${name}`;
      if (withoutCni.get(key) === layout) continue;
      await changeVariant(call, 'legacy', family, name, table => {
        if (table.chainNames().some(chain => chain.startsWith('CNI-'))) remove(table);
        else {
          if (withoutCni.size >= MAX_REMEMBERED) withoutCni.clear();
          withoutCni.set(key, layout);
        }
      });
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}

function legacyLayout(netns: Netns, family: IptablesFamily, name: TableName): string {
  using socket = XtablesSocket.open(family, netns);
  return JSON.stringify(socket.info(name));
}

/** Whether anybody on this host uses iptables: it has tables, or its program is there to make some. */
export function usesIptables(call: Call): boolean {
  const { hostNetns, environment } = call.site;
  if (pickVariant(hostNetns) === 'legacy') return true;
  if ((['filter', 'nat'] as const).some(name => nftFamilies(hostNetns, name).length > 0)) return true;
  const path = environment.PATH || DEFAULT_PATH;
  return path.split(':').some(directory => directory !== '' && existsSync(join(directory, 'iptables')));
}
