// A number for what a chain says: equal for the same rules however they came about, and wherever in a table they stand.
// Counters, the kernel's notes and the offsets of jumps do not count; names of chains do. 53 bits of two simple hashes:
// enough to notice that somebody changed a chain, which is all it is for.
import type { FamilyLayout } from './layout.ts';
import type { Piece } from './rule.ts';
import { wordsOf, type XtTable } from './table.ts';

const FALL_THROUGH = 0x5bd1e995;

function hashName(name: string): number {
  if (name === '') return FALL_THROUGH;
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash;
}

class Digest {
  #a = 0x9e3779b1 | 0;
  #b = 0x85ebca77 | 0;

  word(value: number): void {
    this.#a = Math.imul(this.#a ^ value, 0x01000193);
    this.#b = (Math.imul((this.#b << 5) | (this.#b >>> 27), 9) + value) | 0;
  }

  /** One entry; offsets in words. */
  entry(words: Int32Array, at: number, size: number, layout: FamilyLayout, jump: number | undefined): void {
    const header = layout.entrySize >> 2;
    const head = at + (layout.nfcache >> 2);
    for (let i = at; i < head; i++) this.word(words[i]!);
    this.word(words[at + (layout.targetOffset >> 2)]!);
    const end = at + size - (jump === undefined ? 0 : 2);
    for (let i = at + header; i < end; i++) this.word(words[i]!);
    if (jump !== undefined) this.word(jump);
  }

  get value(): number {
    return (this.#a >>> 0) * 0x200000 + (this.#b & 0x1fffff);
  }
}

/** The digest of a chain of a table, kept there. */
export function digestChain(table: XtTable, index: number): number {
  const { words, layout } = table;
  const { digests, firsts, tails } = table.columns;
  const known = digests[index]!;
  if (!Number.isNaN(known)) return known;
  const digest = new Digest();
  const tail = tails[index]!;
  for (let at = firsts[index]!; at < tail; ) {
    const size = table.sizeAt(at);
    const verdictAt = table.verdictAt(at);
    const verdict = verdictAt === undefined ? -1 : words[verdictAt >> 2]!;
    digest.entry(
      words,
      at >> 2,
      size >> 2,
      layout,
      verdict < 0 ? undefined : hashTarget(table, verdict, at + size),
    );
    at += size;
  }
  digests[index] = digest.value;
  return digest.value;
}

function hashTarget(table: XtTable, verdict: number, next: number): number {
  return verdict === next ? FALL_THROUGH : hashName(table.columns.names[table.indexByFirst(verdict)]!);
}

/** The same number for rules that are not in a table yet. */
export function digestRules(rules: readonly Piece[], layout: FamilyLayout): number {
  const digest = new Digest();
  let bytes: Buffer | undefined;
  let words: Int32Array = new Int32Array(0);
  for (const rule of rules) {
    if (rule.bytes !== bytes) {
      bytes = rule.bytes;
      words = wordsOf(bytes);
    }
    digest.entry(
      words,
      rule.at >> 2,
      rule.size >> 2,
      layout,
      rule.jump === undefined ? undefined : hashName(rule.jump),
    );
  }
  return digest.value;
}
