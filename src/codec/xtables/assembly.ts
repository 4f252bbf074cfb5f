// A table with its changes, laid out anew. What is not touched is copied as it is, in long runs; only its jumps are moved to
// where their chains are now, and its counters are remembered by number.
import { PodwireError } from '../../lib/errors.ts';
import { ColumnList, JumpList } from './columns.ts';
import {
  ERROR_TARGET_SIZE,
  EXTENSION_HEADER,
  REPLACE_HEADER,
  STANDARD_TARGET_SIZE,
  writeErrorEntry,
  writeVerdictEntry,
} from './layout.ts';
import type { Piece } from './rule.ts';
import { type ChainSpan, wordsOf, XtTable } from './table.ts';

/** A chain with changes. */
export interface Draft {
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
  /** The table as it will be. */
  table: XtTable;
  moved: Moved[];
}

/** A change that cannot be made; `code` says why. */
export function refuse(code: string, message: string): never {
  throw new PodwireError(code, message);
}

export function isNew(draft: Draft): boolean {
  return draft.span === undefined;
}

/** Chains [from, to) of the old table as they are, or one with changes. */
type Item = { from: number; to: number } | Draft;

/** Old offsets in [from, to) are now `delta` further. */
interface Run {
  from: number;
  to: number;
  delta: number;
}

export class Assembly {
  readonly #table: XtTable;
  readonly #drafts: ReadonlyMap<string, Draft>;
  readonly #removed: ReadonlySet<string>;
  readonly #runs: Run[] = [];
  readonly #firsts = new Map<string, number>();
  readonly #moved: Moved[] = [];
  readonly #columns: ColumnList;
  readonly #jumps: JumpList;
  #entries = 0;
  #block: Buffer | undefined;
  #blockWords: Int32Array = new Int32Array(0);

  constructor(table: XtTable, drafts: ReadonlyMap<string, Draft>, removed: ReadonlySet<string>) {
    this.#table = table;
    this.#drafts = drafts;
    this.#removed = removed;
    let rules = 0;
    for (const draft of drafts.values()) rules += draft.rules.length;
    this.#columns = new ColumnList(table.chainCount + drafts.size);
    this.#jumps = new JumpList(table.jumps.offsets.length + rules);
  }

  /** Chains in their new order: untouched neighbours together. New ones go where iptables would put them, by name. */
  #items(): Item[] {
    const table = this.#table;
    const items: Item[] = [];
    const fresh = [...this.#drafts.values()].filter(isNew).sort((a, b) => (a.name < b.name ? -1 : 1));
    // Where the old order is interrupted: by a chain that goes or has changes, or before which a new one comes.
    const stops: { at: number; draft: Draft | undefined; isNew: boolean }[] = [];
    for (const draft of fresh) stops.push({ at: table.placeFor(draft.name), draft, isNew: true });
    for (const draft of this.#drafts.values())
      if (!isNew(draft)) stops.push({ at: table.indexOf(draft.name), draft, isNew: false });
    for (const name of this.#removed) stops.push({ at: table.indexOf(name), draft: undefined, isNew: false });
    // New ones first, in their order: the sort is stable.
    stops.sort((a, b) => a.at - b.at);
    let next = 0;
    for (const { at, draft, isNew } of stops) {
      if (at > next) items.push({ from: next, to: at });
      if (draft !== undefined) items.push(draft);
      next = isNew ? Math.max(next, at) : at + 1;
    }
    if (next < table.chainCount) items.push({ from: next, to: table.chainCount });
    return items;
  }

  #sizeOf(item: Item): number {
    if (!('rules' in item)) return this.#table.endOf(item.to - 1) - this.#table.columns.starts[item.from]!;
    const { entrySize } = this.#table.layout;
    let size = entrySize + STANDARD_TARGET_SIZE;
    if (item.span?.hook === undefined) size += entrySize + ERROR_TARGET_SIZE;
    for (const rule of item.rules) size += rule.size;
    return size;
  }

  run(allocate: (size: number) => Buffer): LaidOut {
    const { layout, columns } = this.#table;
    const items = this.#items();
    const starts: number[] = [];
    let size = 0;
    for (const item of items) {
      starts.push(size);
      if ('rules' in item) {
        const first = size + (item.span?.hook === undefined ? layout.entrySize + ERROR_TARGET_SIZE : 0);
        this.#firsts.set(item.name, first);
        if (item.span !== undefined) {
          const from = item.span.first;
          this.#runs.push({ from, to: from + 1, delta: first - from });
        }
      } else {
        const from = columns.starts[item.from]!;
        this.#runs.push({ from, to: this.#table.endOf(item.to - 1), delta: size - from });
      }
      size += this.#sizeOf(item);
    }
    const total = size + layout.entrySize + ERROR_TARGET_SIZE;
    const bytes = allocate(REPLACE_HEADER + total);
    const entries = bytes.subarray(REPLACE_HEADER);
    const words = wordsOf(entries);
    for (const [i, item] of items.entries()) {
      if ('rules' in item) this.#writeDraft(item, entries, words, starts[i]!);
      else this.#copy(item.from, item.to, entries, words, starts[i]!);
    }
    writeErrorEntry(entries, size, layout, 'ERROR');
    this.#entries++;
    return { bytes, table: this.#finish(entries, total), moved: this.#moved };
  }

  #finish(entries: Buffer, size: number): XtTable {
    const columns = this.#columns.done();
    const hookEntries = [0, 0, 0, 0, 0];
    const underflows = [0, 0, 0, 0, 0];
    for (let i = 0; i < columns.hooks.length; i++) {
      const hook = columns.hooks[i]!;
      if (hook < 0 && this.#table.isSorted) break;
      if (hook < 0) continue;
      hookEntries[hook] = columns.firsts[i]!;
      underflows[hook] = columns.tails[i]!;
    }
    const { name, validHooks } = this.#table.info;
    const info = { name, validHooks, hookEntries, underflows, entries: this.#entries, size };
    // Sorted stays sorted; what was not is looked at again.
    const isSorted = this.#table.isSorted || undefined;
    return new XtTable(this.#table.family, info, entries, columns, this.#jumps.done(), isSorted);
  }

  /** Chains as they are: their bytes in one go, their jumps moved. */
  #copy(from: number, to: number, entries: Buffer, words: Int32Array, start: number): void {
    const table = this.#table;
    const { names, hooks, starts, firsts, tails, digests, entries: numbers } = table.columns;
    const begin = starts[from]!;
    const end = table.endOf(to - 1);
    const delta = start - begin;
    table.bytes.copy(entries, start, begin, end);
    const moved = this.#entries - numbers[from]!;
    const columns = this.#columns;
    for (let i = from; i < to; i++) {
      columns.add(names[i]!, hooks[i]!, starts[i]! + delta, firsts[i]! + delta, numbers[i]! + moved);
      columns.tails[columns.count - 1] = tails[i]! + delta;
      columns.digests[columns.count - 1] = digests[i]!;
    }
    const count = numbers[to - 1]! + table.entriesOf(to - 1) - numbers[from]!;
    this.#moved.push({ from: numbers[from]!, to: this.#entries, count });
    this.#entries += count;
    this.#relocate(begin, end, delta, words);
  }

  /** Moves the jumps that stood in [begin, end). */
  #relocate(begin: number, end: number, delta: number, words: Int32Array): void {
    const { offsets, verdicts } = this.#table.jumps;
    let target: Run | undefined;
    for (let i = lowerBound(offsets, begin); i < offsets.length && offsets[i]! < end; i++) {
      const at = offsets[i]! + delta;
      const verdict = verdicts[i]!;
      if (target === undefined || verdict < target.from || verdict >= target.to)
        target = this.#runOf(verdict);
      if (target === undefined) {
        const name = this.#table.columns.names[this.#table.indexByFirst(verdict)];
        refuse('CHAIN_IN_USE', `a rule leads to chain ${name}, which is to be deleted`);
      }
      if (target.delta !== 0) words[at >> 2] = verdict + target.delta;
      this.#jumps.add(at, verdict + target.delta);
    }
  }

  #writeDraft(draft: Draft, entries: Buffer, words: Int32Array, start: number): void {
    const { layout } = this.#table;
    const { span, rules } = draft;
    let at = start;
    const keep = (entry: number): void => {
      if (entry >= 0) this.#moved.push({ from: entry, to: this.#entries, count: 1 });
      this.#entries++;
    };
    const columns = this.#columns;
    columns.add(draft.name, span?.hook ?? -1, start, this.#firsts.get(draft.name)!, this.#entries);
    if (span?.hook === undefined) {
      at = writeErrorEntry(entries, at, layout, draft.name);
      keep(span?.entry ?? -1);
    }
    for (const rule of rules) {
      const from = this.#wordsOf(rule.bytes);
      const end = (rule.at + rule.size) >> 2;
      // Word by word: for so few of them a call costs more.
      for (let i = rule.at >> 2, to = at >> 2; i < end; i++, to++) words[to] = from[i]!;
      if (rule.jump !== undefined) {
        const verdict = at + rule.size - STANDARD_TARGET_SIZE + EXTENSION_HEADER;
        const leadsTo = rule.jump === '' ? at + rule.size : this.#firstOf(rule.jump);
        words[verdict >> 2] = leadsTo;
        this.#jumps.add(verdict, leadsTo);
      }
      at += rule.size;
      keep(rule.entry);
    }
    columns.tails[columns.count - 1] = at;
    writeVerdictEntry(entries, at, layout, draft.policy);
    keep(span === undefined ? -1 : span.entry + span.entries - 1);
  }

  /** Rules come in long runs from one block. */
  #wordsOf(block: Buffer): Int32Array {
    if (block !== this.#block) {
      this.#block = block;
      this.#blockWords = wordsOf(block);
    }
    return this.#blockWords;
  }

  /** Where the first rule of a chain is now. */
  #firstOf(name: string): number {
    const drafted = this.#firsts.get(name);
    if (drafted !== undefined) return drafted;
    const index = this.#removed.has(name) ? -1 : this.#table.indexOf(name);
    if (index < 0) return refuse('CHAIN_IN_USE', `a rule leads to chain ${name}, which is not there`);
    const first = this.#table.columns.firsts[index]!;
    return first + this.#runOf(first)!.delta;
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
}

/** Index of the first value that is not smaller. */
function lowerBound(values: Int32Array, wanted: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle]! < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}
