// A legacy table as the kernel hands it out: which chains there are and where, without looking into rules. Nothing in
// here knows a match or a target; what somebody else's rule says stays the bytes it is.
import { DecodeError } from '../../lib/errors.ts';
import { type ChainColumns, ColumnList, JumpList, type Jumps } from './columns.ts';
import {
  cString,
  ERROR_TARGET_SIZE,
  EXTENSION_HEADER,
  EXTENSION_NAME,
  type FamilyLayout,
  HOOKS,
  LAYOUT,
  STANDARD_TARGET_SIZE,
  type TableInfo,
  type XtablesFamily,
} from './layout.ts';

/** A chain's place in the block; offsets in bytes. */
export interface ChainSpan {
  name: string;
  /** Of a built-in chain: index into HOOKS. */
  hook: number | undefined;
  /** Its first entry: the head of a user's chain, the first rule of a built-in one. */
  start: number;
  /** The first rule, or the tail: what jumps point at. */
  first: number;
  /** The policy of a built-in chain, the RETURN of another. */
  tail: number;
  end: number;
  /** Number of the entry at `start`, counted from the front of the table. */
  entry: number;
  /** Entries, all of them. */
  entries: number;
}

/** "ER", the beginning of ERROR, where the little-endian word of a target's size and name has it. */
const ER = 0x5245;

function fail(field: string, offset: number, message: string, code?: string): never {
  throw new DecodeError('xtables', field, offset, message, code);
}

export class XtTable {
  readonly family: XtablesFamily;
  readonly layout: FamilyLayout;
  readonly info: TableInfo;
  /** The entries, as GET_ENTRIES gives them; four bytes a word in `words`. */
  readonly bytes: Buffer;
  readonly words: Int32Array;
  /** In their order in the block. */
  readonly columns: ChainColumns;
  readonly jumps: Jumps;
  /** Built-in chains first, then those of users by name, as iptables has written them for long. */
  readonly isSorted: boolean;
  #firstOfUsers: number;
  /** For tables that are not sorted. */
  #byName: Map<string, number> | undefined;

  constructor(
    family: XtablesFamily,
    info: TableInfo,
    bytes: Buffer,
    columns: ChainColumns,
    jumps: Jumps,
    isSorted?: boolean,
  ) {
    this.family = family;
    this.layout = LAYOUT[family];
    this.info = info;
    this.bytes = bytes;
    this.words = wordsOf(bytes);
    this.columns = columns;
    this.jumps = jumps;
    const { names, hooks } = columns;
    let first = 0;
    while (first < names.length && hooks[first]! >= 0) first++;
    this.#firstOfUsers = first;
    this.isSorted = isSorted ?? isSortedFrom(columns, first);
    if (!this.isSorted) this.#byName = new Map(names.map((name, index) => [name, index]));
  }

  get chainCount(): number {
    return this.columns.names.length;
  }

  /** The index of a chain; -1 when there is none of this name. */
  indexOf(name: string): number {
    if (this.#byName !== undefined) return this.#byName.get(name) ?? -1;
    const { names } = this.columns;
    for (let i = 0; i < this.#firstOfUsers; i++) if (names[i] === name) return i;
    let low = this.#firstOfUsers;
    let high = names.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const there = names[middle]!;
      if (there === name) return middle;
      if (there < name) low = middle + 1;
      else high = middle - 1;
    }
    return -1;
  }

  /** Before which chain a new one of this name belongs: users' chains are sorted. */
  placeFor(name: string): number {
    const { names } = this.columns;
    let low = this.#firstOfUsers;
    let high = names.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (names[middle]! < name) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  chain(name: string): ChainSpan | undefined {
    const index = this.indexOf(name);
    return index < 0 ? undefined : this.span(index);
  }

  span(index: number): ChainSpan {
    const { names, hooks, starts, firsts, tails, entries } = this.columns;
    const hook = hooks[index]!;
    return {
      name: names[index]!,
      hook: hook < 0 ? undefined : hook,
      start: starts[index]!,
      first: firsts[index]!,
      tail: tails[index]!,
      end: this.endOf(index),
      entry: entries[index]!,
      entries: this.entriesOf(index),
    };
  }

  /** Where the next chain begins, or the end of the table. */
  endOf(index: number): number {
    const { starts } = this.columns;
    return index + 1 < starts.length
      ? starts[index + 1]!
      : this.info.size - this.layout.entrySize - ERROR_TARGET_SIZE;
  }

  /** Entries of a chain, its head and tail included. */
  entriesOf(index: number): number {
    const { entries } = this.columns;
    return (index + 1 < entries.length ? entries[index + 1]! : this.info.entries - 1) - entries[index]!;
  }

  /** Rules of a chain: without the tail, and the head of a user's chain. */
  ruleCount(index: number): number {
    return this.entriesOf(index) - (this.columns.hooks[index]! < 0 ? 2 : 1);
  }

  /** The index of the chain whose first rule is at this offset; -1 when there is none. */
  indexByFirst(offset: number): number {
    const { firsts } = this.columns;
    let low = 0;
    let high = firsts.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const value = firsts[middle]!;
      if (value === offset) return middle;
      if (value < offset) low = middle + 1;
      else high = middle - 1;
    }
    return -1;
  }

  /** Size of the entry at `offset`. */
  sizeAt(offset: number): number {
    return this.words[(offset + this.layout.targetOffset) >> 2]! >>> 16;
  }

  /** Where the verdict of the entry at `offset` stands; undefined when its target is not a standard one. */
  verdictAt(offset: number): number | undefined {
    return standardVerdict(this.words, this.layout, offset);
  }

  /** The chain the entry leads to, '' when it has no target at all; undefined for verdicts and other targets. */
  jumpOf(offset: number): string | undefined {
    const at = this.verdictAt(offset);
    if (at === undefined) return undefined;
    const verdict = this.words[at >> 2]!;
    if (verdict < 0) return undefined;
    // Never the beginning of another chain: a tail lies between.
    if (verdict === offset + this.sizeAt(offset)) return '';
    const index = this.indexByFirst(verdict);
    return this.columns.names[index]!;
  }

  /** Offsets of a chain's rules, without its head and tail. */
  *rulesOf(chain: ChainSpan): Generator<number> {
    for (let at = chain.first; at < chain.tail; at += this.sizeAt(at)) yield at;
  }

  /** The verdict at the end of a chain: the policy. */
  policyOf(chain: ChainSpan): number {
    return this.words[this.verdictAt(chain.tail)! >> 2]!;
  }
}

function isSortedFrom({ names, hooks }: ChainColumns, first: number): boolean {
  for (let i = first; i < names.length; i++)
    if (hooks[i]! >= 0 || (i > first && names[i - 1]! >= names[i]!)) return false;
  return true;
}

export function wordsOf(bytes: Buffer): Int32Array {
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
}

/** Offset of the verdict when the entry at `offset` has a standard target. */
export function standardVerdict(words: Int32Array, layout: FamilyLayout, offset: number): number | undefined {
  const target = offset + (words[(offset + layout.targetOffset) >> 2]! & 0xffff);
  return ((words[target >> 2]! >>> 16) & 0xff) === 0 ? target + EXTENSION_HEADER : undefined;
}

/**
 * Reads a table. `bytes` are its entries alone and must begin at a multiple of eight in their memory. Throws
 * DecodeError for anything that the kernel would not have accepted; never reads outside, always ends.
 */
export function decodeTable(family: XtablesFamily, info: TableInfo, bytes: Buffer): XtTable {
  const layout = LAYOUT[family];
  const { entrySize } = layout;
  const size = bytes.length;
  if (size !== info.size) fail('size', 0, `${info.size} bytes announced, ${size} given`, 'TRUNCATED');
  if (bytes.byteOffset % 8 !== 0) fail('entries', 0, 'not aligned in memory');
  const words = wordsOf(bytes);
  const hookAt = new Map<number, number>();
  for (const [hook] of HOOKS.entries())
    if ((info.validHooks & (1 << hook)) !== 0) hookAt.set(info.hookEntries[hook]!, hook);
  const chains = new ColumnList(64);
  const jumps = new JumpList(1024);
  let open = false;
  let before = 0;
  let count = 0;
  let ended = false;
  const close = (offset: number): void => {
    if (!open) return;
    const index = chains.count - 1;
    chains.tails[index] = before;
    const name = (): string => `chain ${chains.names[index]}`;
    if (before < chains.firsts[index]!) fail('chain', offset, `${name()} has no end`);
    if (standardVerdict(words, layout, before) === undefined)
      fail('chain', before, `${name()} does not end with a verdict`);
    // The tail's own verdict is never a jump.
    if (jumps.count > 0 && jumps.offsets[jumps.count - 1]! > before)
      fail('chain', before, `${name()} ends with a jump`);
  };
  for (let offset = 0; offset < size; count++) {
    if (ended) fail('entry', offset, 'entries after the end of the table');
    if (offset + entrySize + EXTENSION_HEADER > size) fail('entry', offset, 'cut short', 'TRUNCATED');
    const sizes = words[(offset + layout.targetOffset) >> 2]!;
    const target = sizes & 0xffff;
    const next = sizes >>> 16;
    if (target < entrySize || (target & 7) !== 0 || next < target + EXTENSION_HEADER || (next & 7) !== 0)
      fail('entry', offset, `target at ${target}, next entry at ${next}`);
    if (offset + next > size) fail('entry', offset, `${next} bytes, ${size - offset} left`, 'TRUNCATED');
    const word = words[(offset + target) >> 2]!;
    const targetSize = word & 0xffff;
    if (targetSize < EXTENSION_HEADER || target + targetSize > next)
      fail('target', offset + target, `${targetSize} bytes`);
    const name = word >>> 16;
    if (name === ER && cString(bytes, offset + target + EXTENSION_NAME, 29) === 'ERROR') {
      if (targetSize < ERROR_TARGET_SIZE) fail('target', offset + target, 'ERROR is cut short');
      close(offset);
      open = offset + next < size;
      if (open) {
        const at = offset + target + EXTENSION_HEADER;
        chains.add(
          cString(bytes, at, ERROR_TARGET_SIZE - EXTENSION_HEADER),
          -1,
          offset,
          offset + next,
          count,
        );
      } else if (next !== entrySize + ERROR_TARGET_SIZE)
        fail('entry', offset, 'the end of the table is long');
      else ended = true;
    } else {
      const hook = hookAt.get(offset);
      if (hook !== undefined) {
        close(offset);
        open = true;
        chains.add(HOOKS[hook]!, hook, offset, offset, count);
      } else if (!open) fail('entry', offset, 'a rule outside of all chains');
      if ((name & 0xff) === 0) {
        if (targetSize < STANDARD_TARGET_SIZE) fail('target', offset + target, 'a verdict is cut short');
        const at = offset + target + EXTENSION_HEADER;
        const verdict = words[at >> 2]!;
        if (verdict >= 0) jumps.add(at, verdict);
      }
    }
    before = offset;
    offset += next;
  }
  if (!ended) fail('table', size, 'the end of the table is missing', 'TRUNCATED');
  if (count !== info.entries) fail('table', size, `${info.entries} entries announced, ${count} found`);
  const columns = chains.done();
  checkHooks(info, columns, hookAt.size);
  const table = new XtTable(family, info, bytes, columns, jumps.done());
  checkJumps(table);
  return table;
}

function checkHooks(info: TableInfo, { names, hooks, tails }: ChainColumns, wanted: number): void {
  let found = 0;
  for (const [i, hook] of hooks.entries()) {
    if (hook < 0) continue;
    found++;
    if (info.underflows[hook] !== tails[i])
      fail('underflow', tails[i]!, `the policy of ${names[i]} is elsewhere`);
  }
  if (found !== wanted) fail('hooks', 0, 'a hook entry is not the beginning of a rule');
}

/** Every jump leads to the beginning of a chain, or to the rule after it. */
function checkJumps(table: XtTable): void {
  const { offsets, verdicts } = table.jumps;
  for (let i = 0; i < offsets.length; i++) {
    const at = offsets[i]!;
    const verdict = verdicts[i]!;
    // The verdict is the last of a standard target: the next entry begins eight bytes further.
    if (verdict !== at + 8 && table.indexByFirst(verdict) < 0)
      fail('verdict', at, `a jump to ${verdict}, where no chain begins`);
  }
}

/**
 * Whether `bytes`, of the same size, say the same as the table: everything but counters and what the kernel notes in
 * entries. Every word is looked at.
 */
export function isUnchanged(table: XtTable, bytes: Buffer): boolean {
  const { words, layout } = table;
  if (bytes.length !== table.bytes.length) return false;
  const now = wordsOf(bytes);
  const sizes = layout.targetOffset >> 2;
  const notes = layout.nfcache >> 2;
  const header = layout.entrySize >> 2;
  for (let at = 0; at < words.length; ) {
    if (words[at + sizes] !== now[at + sizes]) return false;
    const next = at + (words[at + sizes]! >>> 18);
    for (let i = at; i < at + notes; i++) if (words[i] !== now[i]) return false;
    for (let i = at + header; i < next; i++) if (words[i] !== now[i]) return false;
    at = next;
  }
  return true;
}
