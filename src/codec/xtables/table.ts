// A legacy table as the kernel hands it out: which chains there are and where, without looking into rules. Nothing in
// here knows a match or a target; what somebody else's rule says stays the bytes it is.
import { DecodeError } from '../../lib/errors.ts';
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
  readonly chains: readonly ChainSpan[];
  /** Offsets of the verdicts of all jumps, and of rules without a target (which "jump" to the next rule). */
  readonly jumps: Int32Array;
  readonly #byName = new Map<string, ChainSpan>();
  readonly #firsts: Int32Array;

  constructor(
    family: XtablesFamily,
    info: TableInfo,
    bytes: Buffer,
    chains: readonly ChainSpan[],
    jumps: Int32Array,
  ) {
    this.family = family;
    this.layout = LAYOUT[family];
    this.info = info;
    this.bytes = bytes;
    this.words = wordsOf(bytes);
    this.chains = chains;
    this.jumps = jumps;
    this.#firsts = new Int32Array(chains.length);
    for (const [i, chain] of chains.entries()) {
      this.#firsts[i] = chain.first;
      this.#byName.set(chain.name, chain);
    }
  }

  chain(name: string): ChainSpan | undefined {
    return this.#byName.get(name);
  }

  /** The index of the chain whose first rule is at this offset; -1 when there is none. */
  indexByFirst(offset: number): number {
    const firsts = this.#firsts;
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
    const index = this.indexByFirst(verdict);
    // Also when a chain begins there: the rule before a tail falls through to it, and no head lies between.
    if (verdict === offset + this.sizeAt(offset)) return '';
    return this.chains[index]!.name;
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
  const chains: ChainSpan[] = [];
  let jumps = new Int32Array(1024);
  let jumpCount = 0;
  let last: ChainSpan | undefined;
  let before = 0;
  let count = 0;
  let ended = false;
  const close = (offset: number): void => {
    if (last === undefined) return;
    last.tail = before;
    last.end = offset;
    last.entries = count - last.entry;
    if (last.tail < last.first) fail('chain', offset, `chain ${last.name} has no end`);
    if (standardVerdict(words, layout, before) === undefined)
      fail('chain', before, `chain ${last.name} does not end with a verdict`);
    // The tail's own verdict is never a jump.
    if (jumpCount > 0 && jumps[jumpCount - 1]! > before)
      fail('chain', before, `chain ${last.name} ends with a jump`);
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
      last = undefined;
      if (offset + next === size) ended = true;
      else {
        last = {
          name: cString(bytes, offset + target + EXTENSION_HEADER, ERROR_TARGET_SIZE - EXTENSION_HEADER),
          hook: undefined,
          start: offset,
          first: offset + next,
          tail: 0,
          end: 0,
          entry: count,
          entries: 0,
        };
        chains.push(last);
      }
    } else {
      const hook = hookAt.get(offset);
      if (hook !== undefined) {
        close(offset);
        const start = { start: offset, first: offset, tail: 0, end: 0, entry: count, entries: 0 };
        last = { name: HOOKS[hook]!, hook, ...start };
        chains.push(last);
      } else if (last === undefined) fail('entry', offset, 'a rule outside of all chains');
      if ((name & 0xff) === 0) {
        if (targetSize < STANDARD_TARGET_SIZE) fail('target', offset + target, 'a verdict is cut short');
        const at = offset + target + EXTENSION_HEADER;
        if (words[at >> 2]! >= 0) {
          if (jumpCount === jumps.length) {
            const more = new Int32Array(jumps.length * 2);
            more.set(jumps);
            jumps = more;
          }
          jumps[jumpCount++] = at;
        }
      }
    }
    before = offset;
    offset += next;
  }
  if (!ended) fail('table', size, 'the end of the table is missing', 'TRUNCATED');
  if (count !== info.entries) fail('table', size, `${info.entries} entries announced, ${count} found`);
  if (hookAt.size !== chains.filter(chain => chain.hook !== undefined).length)
    fail('hooks', 0, 'a hook entry is not the beginning of a rule');
  for (const chain of chains)
    if (chain.hook !== undefined && info.underflows[chain.hook] !== chain.tail)
      fail('underflow', chain.tail, `the policy of ${chain.name} is elsewhere`);
  const table = new XtTable(family, info, bytes, chains, jumps.slice(0, jumpCount));
  checkJumps(table);
  return table;
}

/** Every jump leads to the beginning of a chain, or to the rule after it. */
function checkJumps(table: XtTable): void {
  const { words, jumps } = table;
  for (const at of jumps) {
    const verdict = words[at >> 2]!;
    // The verdict is the last of a standard target: the next entry begins eight bytes further.
    if (verdict !== at + 8 && table.indexByFirst(verdict) < 0)
      fail('verdict', at, `a jump to ${verdict}, where no chain begins`);
  }
}
