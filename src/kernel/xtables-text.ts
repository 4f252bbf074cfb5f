// The text of iptables-save, and the transaction for a set of operations on a table. Pure.
import type { TableCommand } from '../codec/xtables/transaction.ts';
import type { Operation } from './diff.ts';
import type { JumpObject, ObjectMap } from './objects.ts';

export interface SavedChain {
  /** A chain of the kernel's own, with a policy. */
  builtIn: boolean;
  /** Without `-A CHAIN`. */
  rules: string[];
}

/** The chains of one table's dump. */
export function parseSave(text: string): Map<string, SavedChain> {
  const chains = new Map<string, SavedChain>();
  for (const line of text.split('\n')) {
    if (line.startsWith(':')) {
      const [name = '', policy] = line.slice(1).split(' ');
      chains.set(name, { builtIn: policy !== '-', rules: [] });
    } else if (line.startsWith('-A ')) {
      const space = line.indexOf(' ', 3);
      const name = space < 0 ? line.slice(3) : line.slice(3, space);
      chains.get(name)?.rules.push(space < 0 ? '' : line.slice(space + 1));
    }
  }
  return chains;
}

/** The chain a rule jumps or goes to; undefined for rules without target. */
export function targetOf(rule: string): string | undefined {
  return /(?:^| )(?:-j|-g|--jump|--goto) (\S+)/.exec(withoutQuoted(rule))?.[1];
}

/** A comment may hold anything, `-j` too. */
function withoutQuoted(rule: string): string {
  return rule.includes('"') ? rule.replace(/"(?:[^"\\]|\\.)*"/g, '""') : rule;
}

export interface Transaction {
  /** All of it, in one commit. */
  commands: TableCommand[];
  /** The same without the removal of chains, and the removal alone, for when somebody else's rule holds a chain. */
  withoutRemoval?: TableCommand[];
  removal?: TableCommand[];
}

/**
 * One transaction for all operations on one table. `jumps` are all jumps that are desired: when one that belongs at the
 * front of a chain is missing, all at the front of that chain are put there again, so that their order stays.
 */
export function buildTransaction(
  table: string,
  operations: readonly Operation[],
  jumps: ObjectMap<'jump'>,
): Transaction {
  const commands: TableCommand[] = [];
  const removal: TableCommand[] = [];
  const front = new Map<string, Set<string>>();
  for (const operation of operations) {
    if (operation.kind === 'chain') {
      const { name } = (operation.desired ?? operation.observed)!;
      commands.push({ kind: 'chain', chain: name, rules: operation.desired?.rules ?? [] });
      if (operation.desired === undefined) removal.push({ kind: 'delete-chain', chain: name });
    } else if (operation.kind === 'jump') {
      const { chain, rule, position } = (operation.desired ?? operation.observed)!;
      if (operation.desired === undefined) commands.push({ kind: 'remove', chain, rule });
      else if (position === 'last') commands.push({ kind: 'add', chain, rule });
      else front.set(chain, (front.get(chain) ?? new Set()).add(operation.key));
    }
  }
  const family = operations[0]?.desired ?? operations[0]?.observed;
  for (const [chain, missing] of front) {
    const all = [...jumps]
      .filter(([, jump]) => isAtFront(jump, chain, table, family as JumpObject))
      .sort(([, a], [, b]) => a.rank - b.rank);
    for (const [key, { rule }] of all) if (!missing.has(key)) commands.push({ kind: 'remove', chain, rule });
    for (const [i, [, { rule }]] of all.entries())
      commands.push({ kind: 'add', chain, rule, position: i + 1 });
  }
  if (removal.length === 0) return { commands };
  return { commands: [...commands, ...removal], withoutRemoval: commands, removal };
}

function isAtFront(jump: JumpObject, chain: string, table: string, like: { family: 4 | 6 }): boolean {
  return (
    jump.chain === chain && jump.table === table && jump.family === like.family && jump.position === 'first'
  );
}

/**
 * iptables-save may print a rule otherwise than the planner wrote it. What it printed right after our own restore is
 * remembered, so that later dumps can be compared.
 */
export class RuleTexts {
  readonly #saved = new Map<string, string>();

  learn(saved: string, written: string): void {
    if (saved !== written) this.#saved.set(saved, written);
  }

  /** The planner's text of a saved rule. */
  translate(saved: string): string {
    return this.#saved.get(saved) ?? saved;
  }

  /** The same list when there is nothing to translate. */
  translateAll(saved: readonly string[]): readonly string[] {
    return this.#saved.size === 0 ? saved : saved.map(rule => this.translate(rule));
  }
}
