// Changes to a table: chains made, emptied and deleted, rules added and taken away. assembly.ts makes the new table of them.
import { Assembly, type Draft, isNew, type LaidOut, refuse } from './assembly.ts';
import { EXTENSION_HEADER, MAX_NAME, STANDARD_TARGET_SIZE, VERDICT } from './layout.ts';
import type { Piece } from './rule.ts';
import type { XtTable } from './table.ts';

export class TableEdit {
  readonly #table: XtTable;
  readonly #drafts = new Map<string, Draft>();
  readonly #removed = new Set<string>();
  #changed = false;

  constructor(table: XtTable) {
    this.#table = table;
  }

  get table(): XtTable {
    return this.#table;
  }

  /** Whether there is anything to write. */
  get changed(): boolean {
    return this.#changed;
  }

  hasChain(name: string): boolean {
    return this.#drafts.has(name) || (this.#table.indexOf(name) >= 0 && !this.#removed.has(name));
  }

  /** Names of all chains, the built-in ones first. */
  chainNames(): string[] {
    const old = this.#table.columns.names.filter(name => !this.#removed.has(name));
    return [...old, ...[...this.#drafts.values()].filter(draft => isNew(draft)).map(draft => draft.name)];
  }

  /** The rules of a chain; to be changed through this class only. */
  rules(name: string): readonly Piece[] {
    return this.#open(name).rules;
  }

  /** False when it was there. Same as `iptables -N`. */
  addChain(name: string): boolean {
    if (this.hasChain(name)) return false;
    if (name === '' || name.length > MAX_NAME || !/^[\x21-\x7e]+$/.test(name) || /^[-!]/.test(name))
      refuse('INVALID_CHAIN', `${JSON.stringify(name)} cannot be a chain's name`);
    if (Object.hasOwn(VERDICT, name)) refuse('INVALID_CHAIN', `${name} is a verdict, not a chain`);
    const span = this.#removed.delete(name) ? this.#table.chain(name) : undefined;
    this.#drafts.set(name, { name, span, policy: VERDICT.RETURN!, rules: [] });
    this.#changed = true;
    return true;
  }

  /** Same as `iptables -F CHAIN`. */
  flushChain(name: string): void {
    const span = this.#table.chain(name);
    if (!this.#drafts.has(name) && span !== undefined && !this.#removed.has(name)) {
      // Its rules need not be looked at.
      if (span.first === span.tail) return;
      this.#drafts.set(name, { name, span, policy: this.#table.policyOf(span), rules: [] });
    } else {
      const draft = this.#open(name);
      if (draft.rules.length === 0) return;
      draft.rules = [];
    }
    this.#changed = true;
  }

  /** Same as `iptables -P`, built-in chains only. */
  setPolicy(name: string, verdict: number): void {
    const draft = this.#open(name);
    if (draft.span?.hook === undefined) refuse('INVALID_CHAIN', `${name} is not a built-in chain`);
    if (draft.policy === verdict) return;
    draft.policy = verdict;
    this.#changed = true;
  }

  /** Same as `iptables -X`: refused while it has rules; one that others lead to is found when the table is laid out. */
  deleteChain(name: string): void {
    const span = this.#table.chain(name);
    const draft = this.#drafts.get(name);
    if (!this.hasChain(name)) refuse('NO_CHAIN', `there is no chain ${name}`);
    if (span?.hook !== undefined) refuse('INVALID_CHAIN', `${name} is a built-in chain`);
    const isEmpty = draft === undefined ? span?.first === span?.tail : draft.rules.length === 0;
    if (!isEmpty) refuse('CHAIN_NOT_EMPTY', `chain ${name} still has rules`);
    this.#drafts.delete(name);
    if (span !== undefined) this.#removed.add(name);
    this.#changed = true;
  }

  /** At the end, or before the rule at `index` (from 0). */
  insertRule(name: string, rule: Piece, index?: number): void {
    const { rules } = this.#open(name);
    if (index === undefined || index === rules.length) rules.push(rule);
    else if (index >= 0 && index < rules.length) rules.splice(index, 0, rule);
    else refuse('NO_RULE', `chain ${name} has no rule ${index + 1}`);
    this.#changed = true;
  }

  removeRuleAt(name: string, index: number): void {
    const { rules } = this.#open(name);
    if (rules[index] === undefined) refuse('NO_RULE', `chain ${name} has no rule ${index + 1}`);
    rules.splice(index, 1);
    this.#changed = true;
  }

  /** Where a chain has this rule; -1 when it has not. */
  findRule(name: string, rule: Piece): number {
    const { layout } = this.#table;
    const { rules } = this.#open(name);
    for (let i = 0; i < rules.length; i++) if (isSameRule(rules[i]!, rule, layout.nfcache, layout)) return i;
    return -1;
  }

  #open(name: string): Draft {
    const known = this.#drafts.get(name);
    if (known !== undefined) return known;
    const table = this.#table;
    const span = this.#removed.has(name) ? undefined : table.chain(name);
    if (span === undefined) return refuse('NO_CHAIN', `there is no chain ${name}`);
    const rules: Piece[] = [];
    let entry = span.entry + (span.hook === undefined ? 1 : 0);
    for (const at of table.rulesOf(span))
      rules.push({ bytes: table.bytes, at, size: table.sizeAt(at), jump: table.jumpOf(at), entry: entry++ });
    const draft = { name, span, policy: table.policyOf(span), rules };
    this.#drafts.set(name, draft);
    return draft;
  }

  /** The table with all changes. Throws CHAIN_IN_USE when a rule leads to a chain that was deleted. */
  layOut(allocate: (size: number) => Buffer = size => Buffer.allocUnsafeSlow(size)): LaidOut {
    return new Assembly(this.#table, this.#drafts, this.#removed).run(allocate);
  }
}

/** Equal but for counters and what the kernel notes in an entry. */
export function isSameRule(
  a: Piece,
  b: Piece,
  nfcache: number,
  layout: { targetOffset: number; entrySize: number },
): boolean {
  if (a.size !== b.size || a.jump !== b.jump) return false;
  const part = (from: number, to: number): boolean =>
    a.bytes.compare(b.bytes, b.at + from, b.at + to, a.at + from, a.at + to) === 0;
  // A jump's verdict is the last word that counts; the chain's name was compared.
  const end = a.jump === undefined ? a.size : a.size - (STANDARD_TARGET_SIZE - EXTENSION_HEADER);
  return (
    part(layout.targetOffset, layout.targetOffset + 4) && part(0, nfcache) && part(layout.entrySize, end)
  );
}
