// What of a legacy table is ours, told by bytes: a chain that holds what is desired shows the desired list itself, so
// that the diff sees at a glance that nothing is to be done; any other shows as many rules that are none.
import { UnsupportedRule } from '../codec/xtables/option-reader.ts';
import type { XtablesView } from '../linux/xtables-view.ts';
import type { ChainObject, JumpObject, TableName } from './objects.ts';
import { parseSave } from './xtables-text.ts';

export interface LegacyScope {
  family: 4 | 6;
  table: TableName;
  view: XtablesView;
  /** All desired chains, under their keys. */
  chains: ReadonlyMap<string, ChainObject>;
  /** The desired jumps of this table. */
  jumps: readonly JumpObject[];
  isOurs: (chain: string) => boolean;
  /** The table as iptables-save shows it, for rules that only the program can put into words. */
  save: () => Promise<string>;
}

export interface LegacyObjects {
  chains: Map<string, ChainObject>;
  jumps: JumpObject[];
}

/** Not a rule, and so unlike every rule. */
const SOME_RULE = '(another rule)';

/** Undefined when a desired rule is one that only the program can write: then only its text can be compared. */
export async function observeLegacy(scope: LegacyScope): Promise<LegacyObjects | undefined> {
  try {
    return { chains: observeChains(scope), jumps: await observeJumps(scope) };
  } catch (error) {
    if (error instanceof UnsupportedRule) return undefined;
    throw error;
  }
}

function observeChains({ family, table, view, chains, isOurs }: LegacyScope): Map<string, ChainObject> {
  const found = new Map<string, ChainObject>();
  const desired = new Uint8Array(view.chainCount);
  const others = (name: string, index: number): ChainObject => {
    return { family, table, name, rules: Array<string>(view.countAt(index)).fill(SOME_RULE) };
  };
  for (const [key, wanted] of chains) {
    if (wanted.family !== family || wanted.table !== table) continue;
    const index = view.indexOf(wanted.name);
    if (index < 0) continue;
    desired[index] = 1;
    found.set(key, view.holds(index, wanted.rules) ? wanted : others(wanted.name, index));
  }
  for (let index = 0; index < desired.length; index++) {
    const name = view.nameOf(index);
    if (desired[index] === 0 && !view.isBuiltIn(index) && isOurs(name))
      found.set(`${family} ${table} ${name}`, others(name, index));
  }
  return found;
}

async function observeJumps(scope: LegacyScope): Promise<JumpObject[]> {
  const { family, table, view, jumps, chains } = scope;
  const found: JumpObject[] = [];
  const explained = new Map<string, Set<number>>();
  const see = (chain: string, rule: string): void => {
    found.push({ family, table, chain, rule, position: 'first', rank: 0 });
  };
  for (const { chain, rule } of jumps) {
    const at = view.find(chain, rule);
    if (at.length > 0) see(chain, rule);
    const known = explained.get(chain) ?? new Set();
    for (const index of at) known.add(index);
    explained.set(chain, known);
  }
  // All of it before the wait below.
  const strange: { name: string; index: number; count: number }[] = [];
  for (let chain = 0; chain < view.chainCount; chain++) {
    if (!view.isBuiltIn(chain)) continue;
    const name = view.nameOf(chain);
    const targets = view.jumps(name);
    for (const [index, target] of targets.entries()) {
      if (target === undefined || explained.get(name)?.has(index)) continue;
      if (chains.has(`${family} ${table} ${target}`) || scope.isOurs(target))
        strange.push({ name, index, count: targets.length });
    }
  }
  if (strange.length === 0) return found;
  const saved = parseSave(await scope.save());
  for (const { name, index, count } of strange) {
    const rules = saved.get(name)?.rules ?? [];
    // Changed since we looked: the next comparison will tell.
    if (rules.length === count) see(name, rules[index]!);
  }
  return found;
}
