// Compares the table in the kernel with the planned one: its declarations and rules at once, elements set by set and part
// by part, since a set may have many thousands.

import type { ChainInfo } from '../../../../src/codec/nft/chain.ts';
import { encodeExpressions, sameExpressions } from '../../../../src/codec/nft/compare.ts';
import { NF_ACCEPT, NF_HOOK } from '../../../../src/codec/nft/constants.ts';
import { type SetInfo, setInfo } from '../../../../src/codec/nft/set.ts';
import { hasCode } from '../../../../src/lib/errors.ts';
import type { Nftables } from '../../../../src/linux/nftables.ts';
import { LAYOUT, TABLE } from '../plan/names.ts';
import {
  type ChainPlan,
  type ElementChanges,
  type Family,
  noChanges,
  type SetPlan,
  type TableChanges,
  type TablePlan,
} from '../plan/state.ts';
import { compileRule, compileSet } from './compile.ts';
import { nftFamily } from './write.ts';

export type Structure =
  | { state: 'missing' }
  /** Something of our name that cannot be turned into our table bit by bit. */
  | { state: 'foreign' }
  | { state: 'ours'; changes: TableChanges };

function sameSet(wanted: SetInfo, found: SetInfo, isVerdict: boolean): boolean {
  return (
    wanted.flags === found.flags &&
    wanted.keyType === found.keyType &&
    wanted.keyBytes === found.keyBytes &&
    wanted.dataType === found.dataType &&
    (isVerdict || wanted.dataBytes === found.dataBytes)
  );
}

function sameHook({ hook }: ChainPlan, found: ChainInfo): boolean {
  if (!hook || !found.hook) return !hook && !found.hook;
  return (
    hook.type === found.hook.type &&
    NF_HOOK[hook.hook] === found.hook.number &&
    hook.priority === found.hook.priority &&
    found.hook.policy === NF_ACCEPT
  );
}

/** What rules are in the kernel's form; kept, since every verification asks for the same. */
export class CompiledRules {
  readonly #known = new WeakMap<ChainPlan, readonly Buffer[]>();

  of(family: Family, chain: ChainPlan): readonly Buffer[] {
    const known = this.#known.get(chain);
    if (known) return known;
    const compiled = chain.rules.map(rule => encodeExpressions(compileRule(family, rule)));
    this.#known.set(chain, compiled);
    return compiled;
  }
}

/** Declarations, chains and rules; the elements of a set that has to be added are in the changes too. */
export function inspectStructure(nft: Nftables, plan: TablePlan, compiled: CompiledRules): Structure {
  const family = nftFamily(plan.family);
  const table = nft.getTable(family, TABLE);
  if (table === undefined) return { state: 'missing' };
  if (table.comment !== LAYOUT) return { state: 'foreign' };
  const changes = noChanges();
  const sets = new Map(nft.listSets(family, TABLE).map(set => [set.name, set]));
  for (const set of plan.sets.values()) {
    const found = sets.get(set.name);
    if (found === undefined) addSet(changes, plan, set);
    else if (!sameSet(setInfo(TABLE, compileSet(plan.family, set)), found, set.data === 'verdict'))
      return { state: 'foreign' };
    sets.delete(set.name);
  }
  changes.delSets.push(...sets.keys());
  const chains = new Map(nft.listChains(family, TABLE).map(chain => [chain.name, chain]));
  const rules = new Map<string, Buffer[]>();
  for (const { chain, expressions } of nft.listRules(family, TABLE)) {
    const list = rules.get(chain) ?? [];
    rules.set(chain, list);
    list.push(expressions);
  }
  for (const chain of plan.chains.values()) {
    const found = chains.get(chain.name);
    chains.delete(chain.name);
    if (found === undefined) changes.addChains.push(chain);
    else if (!sameHook(chain, found)) return { state: 'foreign' };
    else if (!sameRules(compiled.of(plan.family, chain), rules.get(chain.name) ?? []))
      changes.replaceRules.push(chain);
  }
  changes.delChains.push(...chains.keys());
  return { state: 'ours', changes };
}

function sameRules(wanted: readonly Buffer[], found: readonly Buffer[]): boolean {
  return wanted.length === found.length && wanted.every((rule, i) => sameExpressions(rule, found[i]!));
}

function addSet(changes: TableChanges, plan: TablePlan, set: SetPlan): void {
  changes.addSets.push(set);
  const elements = plan.elements.get(set.name);
  if (elements && elements.size > 0)
    changes.elements.set(set.name, { del: [], add: Array.from(elements, ([key, data]) => ({ key, data })) });
}

/**
 * The elements of one set; every `next()` reads a part. Ends with what has to change, or undefined when the ruleset
 * changed meanwhile, so that nothing can be said. A set that is not there has nothing to change: that is structure.
 */
export function* inspectElements(
  nft: Nftables,
  plan: TablePlan,
  name: string,
): Generator<void, ElementChanges | undefined> {
  const changes: ElementChanges = { del: [], add: [] };
  const wanted = plan.elements.get(name);
  if (!wanted || plan.sets.get(name)?.dynamic) return changes;
  let matching = 0;
  let seen: Set<string> | undefined;
  const compare = (key: string, data: string): void => {
    const expected = wanted.get(key);
    seen?.add(key);
    if (expected === data) matching++;
    else {
      changes.del.push({ key, data });
      if (expected !== undefined) changes.add.push({ key, data: expected });
    }
  };
  try {
    const family = nftFamily(plan.family);
    if (!(yield* nft.scanElements(family, TABLE, name, compare))) return undefined;
    if (matching + changes.add.length === wanted.size) return changes;
    // Something is missing: read again and remember what is there.
    seen = new Set();
    changes.del.length = 0;
    changes.add.length = 0;
    if (!(yield* nft.scanElements(family, TABLE, name, compare))) return undefined;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return { del: [], add: [] };
    throw error;
  }
  for (const [key, data] of wanted) if (!seen.has(key)) changes.add.push({ key, data });
  return changes;
}
