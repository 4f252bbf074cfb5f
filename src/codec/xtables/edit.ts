// Changes to a table: chains made, emptied and deleted, rules added and taken away, then the whole laid out anew. What is
// not touched is copied as it is, in long runs; only its jumps are moved to where their chains are now, and its counters
// are remembered by number.
import { PodwireError } from '../../lib/errors.ts';
import {
  ERROR_TARGET_SIZE,
  EXTENSION_HEADER,
  MAX_NAME,
  REPLACE_HEADER,
  STANDARD_TARGET_SIZE,
  type TableInfo,
  VERDICT,
  writeErrorEntry,
  writeVerdictEntry,
} from './layout.ts';
import type { Piece } from './rule.ts';
import { type ChainSpan, wordsOf, type XtTable } from './table.ts';

/** A chain with changes. */
interface Draft {
  name: string;
  /** Its place in the table; undefined for a new chain. */
  span: ChainSpan | undefined;
  /** The verdict at its end. */
  policy: number;
  rules: Piece[];
}

/** `count` entries that were at `from` are now at `to`, and keep their counters. */
export interface Moved {
  from: number;
  to: number;
  count: number;
}

export interface LaidOut {
  /** REPLACE_HEADER bytes for the header, then the entries. */
  bytes: Buffer;
  info: TableInfo;
  moved: Moved[];
}

/** A change that cannot be made; `code` says why. */
function refuse(code: string, message: string): never {
  throw new PodwireError(code, message);
}

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
    return this.#drafts.has(name) || (this.#table.chain(name) !== undefined && !this.#removed.has(name));
  }

  /** Names of all chains, the built-in ones first. */
  chainNames(): string[] {
    const old = this.#table.chains.filter(chain => !this.#removed.has(chain.name)).map(chain => chain.name);
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
  layOut(): LaidOut {
    return new Layout(this.#table, this.#drafts, this.#removed).run();
  }
}

function isNew(draft: Draft): boolean {
  return draft.span === undefined;
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

type Item = { from: number; to: number } | Draft;

/** Old offsets in [from, to) are now `delta` further. */
interface Run {
  from: number;
  to: number;
  delta: number;
}

class Layout {
  readonly #table: XtTable;
  readonly #drafts: ReadonlyMap<string, Draft>;
  readonly #removed: ReadonlySet<string>;
  readonly #runs: Run[] = [];
  readonly #firsts = new Map<string, number>();
  readonly #moved: Moved[] = [];
  readonly #hookEntries = [0, 0, 0, 0, 0];
  readonly #underflows = [0, 0, 0, 0, 0];
  #entries = 0;

  constructor(table: XtTable, drafts: ReadonlyMap<string, Draft>, removed: ReadonlySet<string>) {
    this.#table = table;
    this.#drafts = drafts;
    this.#removed = removed;
  }

  /** Chains in their new order: untouched neighbours together. New ones go where iptables would put them, by name. */
  #items(): Item[] {
    const items: Item[] = [];
    const fresh = [...this.#drafts.values()].filter(isNew).sort((a, b) => (a.name < b.name ? -1 : 1));
    let next = 0;
    for (const chain of this.#table.chains) {
      if (chain.hook === undefined)
        while (next < fresh.length && fresh[next]!.name < chain.name) items.push(fresh[next++]!);
      if (this.#removed.has(chain.name)) continue;
      const draft = this.#drafts.get(chain.name);
      const last = items.at(-1);
      if (draft !== undefined) items.push(draft);
      else if (last !== undefined && !('rules' in last) && last.to === chain.start) last.to = chain.end;
      else items.push({ from: chain.start, to: chain.end });
    }
    items.push(...fresh.slice(next));
    return items;
  }

  #sizeOf(item: Item): number {
    if (!('rules' in item)) return item.to - item.from;
    const { entrySize } = this.#table.layout;
    let size = entrySize + STANDARD_TARGET_SIZE;
    if (item.span?.hook === undefined) size += entrySize + ERROR_TARGET_SIZE;
    for (const rule of item.rules) size += rule.size;
    return size;
  }

  run(): LaidOut {
    const { layout } = this.#table;
    const items = this.#items();
    const starts: number[] = [];
    let size = 0;
    for (const item of items) {
      starts.push(size);
      if ('rules' in item) {
        const head = item.span?.hook === undefined ? layout.entrySize + ERROR_TARGET_SIZE : 0;
        this.#firsts.set(item.name, size + head);
        if (item.span !== undefined)
          this.#runs.push({
            from: item.span.first,
            to: item.span.first + 1,
            delta: size + head - item.span.first,
          });
      } else this.#runs.push({ from: item.from, to: item.to, delta: size - item.from });
      size += this.#sizeOf(item);
    }
    const total = size + layout.entrySize + ERROR_TARGET_SIZE;
    const bytes = Buffer.allocUnsafeSlow(REPLACE_HEADER + total);
    const entries = bytes.subarray(REPLACE_HEADER);
    const words = wordsOf(entries);
    for (const [i, item] of items.entries()) {
      if ('rules' in item) this.#writeDraft(item, entries, words, starts[i]!);
      else this.#copy(item.from, item.to, entries, starts[i]!);
    }
    writeErrorEntry(entries, size, layout, 'ERROR');
    this.#entries++;
    this.#relocate(words);
    this.#hooks(items, starts);
    const { name, validHooks } = this.#table.info;
    return {
      bytes,
      info: {
        name,
        validHooks,
        hookEntries: this.#hookEntries,
        underflows: this.#underflows,
        entries: this.#entries,
        size: total,
      },
      moved: this.#moved,
    };
  }

  #copy(from: number, to: number, entries: Buffer, start: number): void {
    const { bytes, chains } = this.#table;
    bytes.copy(entries, start, from, to);
    const first = chains[firstAt(chains, from)]!;
    const after = firstAt(chains, to);
    const count = (chains[after]?.entry ?? this.#table.info.entries - 1) - first.entry;
    this.#moved.push({ from: first.entry, to: this.#entries, count });
    this.#entries += count;
  }

  #writeDraft(draft: Draft, entries: Buffer, words: Int32Array, start: number): void {
    const { layout } = this.#table;
    const { span, rules } = draft;
    let at = start;
    const keep = (entry: number): void => {
      if (entry >= 0) this.#moved.push({ from: entry, to: this.#entries, count: 1 });
      this.#entries++;
    };
    if (span?.hook === undefined) {
      at = writeErrorEntry(entries, at, layout, draft.name);
      keep(span?.entry ?? -1);
    }
    for (const rule of rules) {
      rule.bytes.copy(entries, at, rule.at, rule.at + rule.size);
      if (rule.jump !== undefined) {
        const verdict = (at + rule.size - STANDARD_TARGET_SIZE + EXTENSION_HEADER) >> 2;
        words[verdict] = rule.jump === '' ? at + rule.size : this.#firstOf(rule.jump);
      }
      at += rule.size;
      keep(rule.entry);
    }
    writeVerdictEntry(entries, at, layout, draft.policy);
    keep(span === undefined ? -1 : span.entry + span.entries - 1);
  }

  /** Where the first rule of a chain is now. */
  #firstOf(name: string): number {
    const drafted = this.#firsts.get(name);
    if (drafted !== undefined) return drafted;
    const span = this.#removed.has(name) ? undefined : this.#table.chain(name);
    if (span === undefined)
      return refuse('CHAIN_IN_USE', `a rule leads to chain ${name}, which is not there`);
    return span.first + this.#runOf(span.first)!.delta;
  }

  #runOf(offset: number): Run | undefined {
    const runs = this.#runs;
    let low = 0;
    let high = runs.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const run = runs[middle]!;
      if (offset < run.from) high = middle - 1;
      else if (offset >= run.to) low = middle + 1;
      else return run;
    }
    return undefined;
  }

  /** Moves the jumps of what was copied. */
  #relocate(words: Int32Array): void {
    const { jumps, words: old } = this.#table;
    const runs = this.#runs.filter(run => run.to - run.from > 1);
    let i = 0;
    let target: Run | undefined;
    for (const run of runs) {
      while (i < jumps.length && jumps[i]! < run.from) i++;
      for (; i < jumps.length && jumps[i]! < run.to; i++) {
        const at = jumps[i]!;
        const verdict = old[at >> 2]!;
        if (target === undefined || verdict < target.from || verdict >= target.to)
          target = this.#runOf(verdict);
        if (target === undefined) {
          const name = this.#table.chains[this.#table.indexByFirst(verdict)]?.name;
          refuse('CHAIN_IN_USE', `a rule leads to chain ${name}, which is to be deleted`);
        }
        words[(at + run.delta) >> 2] = verdict + target.delta;
      }
    }
  }

  #hooks(items: readonly Item[], starts: readonly number[]): void {
    for (const chain of this.#table.chains) {
      if (chain.hook === undefined) continue;
      const drafted = this.#firsts.get(chain.name);
      if (drafted === undefined) {
        const { delta } = this.#runOf(chain.first)!;
        this.#hookEntries[chain.hook] = chain.first + delta;
        this.#underflows[chain.hook] = chain.tail + delta;
      } else {
        this.#hookEntries[chain.hook] = drafted;
        const i = starts.indexOf(drafted);
        const tail = this.#table.layout.entrySize + STANDARD_TARGET_SIZE;
        this.#underflows[chain.hook] = drafted + this.#sizeOf(items[i]!) - tail;
      }
    }
  }
}

/** Index of the chain that begins at an offset; the number of chains when none does. */
function firstAt(chains: readonly ChainSpan[], offset: number): number {
  let low = 0;
  let high = chains.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (chains[middle]!.start < offset) low = middle + 1;
    else high = middle;
  }
  return low;
}
