// The tables of iptables-nft without its programs: rules that `iptables -S` shows as its own, over netlink. The same verbs
// as xtables.ts has for legacy tables.
import { LAYOUT, type XtablesFamily } from '../codec/xtables/layout.ts';
import { NftTableEdit, type NftTableReader } from '../codec/xtables/nft-table.ts';
import { RuleEncoder } from '../codec/xtables/rule.ts';
import { hasCode } from '../lib/errors.ts';
import type { Netns } from './netns.ts';
import { Nftables } from './nftables.ts';

/** Somebody else may change the ruleset, any part of it, between our look and our change. */
const ATTEMPTS = 50;

function readerOf(nft: Nftables, family: XtablesFamily, table: string): NftTableReader {
  const nftFamily = family === 4 ? 'ip' : 'ip6';
  return {
    chainNames: () => nft.listChains(nftFamily, table).map(chain => chain.name),
    hasChain: name => nft.getChain(nftFamily, table, name) !== undefined,
    rules: chain => nft.listRules(nftFamily, table, chain),
  };
}

/** The kernel says no itself to an extension that it does not have. */
function encoderOf(family: XtablesFamily, edit: NftTableEdit): RuleEncoder {
  return new RuleEncoder({
    family: LAYOUT[family].family,
    isChain: name => edit.hasChain(name),
    supports: () => true,
  });
}

/** Lets `change` edit a table and writes what is different, all or nothing. It is called again when somebody was faster. */
export function changeNftTable<T>(
  netns: Netns,
  family: XtablesFamily,
  table: string,
  change: (edit: NftTableEdit, encoder: RuleEncoder) => T,
): T {
  using nft = Nftables.open(netns);
  for (let attempt = 1; ; attempt++) {
    const generation = nft.generation();
    try {
      const edit = new NftTableEdit(family, table, readerOf(nft, family, table));
      const result = change(edit, encoderOf(family, edit));
      if (edit.changed) nft.transaction(batch => edit.write(batch), { generation });
      return result;
    } catch (error) {
      // A dump that another change broke into, too.
      if (attempt === ATTEMPTS || !isRace(error)) throw error;
    }
  }
}

function isRace(error: unknown): boolean {
  return ['ERESTART', 'E85', 'EAGAIN', 'EINTR', 'DUMP_INTERRUPTED'].some(code => hasCode(error, code));
}
