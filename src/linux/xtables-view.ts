// A legacy table as it is at one moment, to be compared with rules by what they say. Reading 290,000 entries and telling
// that 60,000 chains hold what they should takes a quarter of a second, most of it the kernel's; iptables-save and its
// text take six times that.
import { digestChain, digestRules } from '../codec/xtables/digest.ts';
import { isSameRule } from '../codec/xtables/edit.ts';
import { LAYOUT, type XtablesFamily } from '../codec/xtables/layout.ts';
import type { Piece, RuleEncoder } from '../codec/xtables/rule.ts';
import type { XtTable } from '../codec/xtables/table.ts';
import { encode } from '../codec/xtables/transaction.ts';

/** Digests of lists of rules, kept as long as the list itself: planners keep the lists of what did not change. */
export class RuleDigests {
  readonly #known = {
    4: new WeakMap<readonly string[], number>(),
    6: new WeakMap<readonly string[], number>(),
  };

  note(family: XtablesFamily, rules: readonly string[], pieces: readonly Piece[]): void {
    this.#known[family].set(rules, digestRules(pieces, LAYOUT[family]));
  }

  /** Throws UnsupportedRule. */
  of(family: XtablesFamily, chain: string, rules: readonly string[], encoder: RuleEncoder): number {
    const known = this.#known[family].get(rules);
    if (known !== undefined) return known;
    this.note(
      family,
      rules,
      rules.map(rule => encode(encoder, chain, rule)),
    );
    return this.#known[family].get(rules)!;
  }
}

export class XtablesView {
  readonly #table: XtTable | undefined;
  readonly #encoder: RuleEncoder | undefined;
  readonly #digests: RuleDigests;
  #indexes: Map<string, number> | undefined;

  /** Without a table: one that was never used. */
  constructor(digests: RuleDigests, read?: { table: XtTable; encoder: RuleEncoder }) {
    this.#digests = digests;
    this.#table = read?.table;
    this.#encoder = read?.encoder;
  }

  /** Chains are numbered from 0, the built-in ones first. */
  get chainCount(): number {
    return this.#table?.chainCount ?? 0;
  }

  /** -1 for a chain that is not there. */
  indexOf(chain: string): number {
    if (this.#indexes === undefined) {
      // Everybody who asks asks for all of them: cheaper than to search 60,000 names each time.
      this.#indexes = new Map();
      const names = this.#table?.columns.names ?? [];
      for (let i = 0; i < names.length; i++) this.#indexes.set(names[i]!, i);
    }
    return this.#indexes.get(chain) ?? -1;
  }

  nameOf(index: number): string {
    return this.#table!.columns.names[index]!;
  }

  isBuiltIn(index: number): boolean {
    return this.#table!.columns.hooks[index]! >= 0;
  }

  /** How many rules a chain has. */
  countAt(index: number): number {
    return this.#table!.ruleCount(index);
  }

  /** Whether a chain has exactly these rules in this order. Throws UnsupportedRule. */
  holds(index: number, rules: readonly string[]): boolean {
    const table = this.#table!;
    if (this.countAt(index) !== rules.length) return false;
    const wanted = this.#digests.of(table.family, this.nameOf(index), rules, this.#encoder!);
    return wanted === digestChain(table, index);
  }

  /** Indexes of the rules of a chain that are equal to this one. Throws UnsupportedRule. */
  find(chain: string, rule: string): number[] {
    const table = this.#table;
    const span = table?.chain(chain);
    if (table === undefined || span === undefined) return [];
    const piece = encode(this.#encoder!, chain, rule);
    const found: number[] = [];
    let index = 0;
    for (const at of table.rulesOf(span)) {
      const there = { bytes: table.bytes, at, size: table.sizeAt(at), jump: table.jumpOf(at), entry: -1 };
      if (isSameRule(piece, there, table.layout.nfcache, table.layout)) found.push(index);
      index++;
    }
    return found;
  }

  /** For each rule of a chain, the chain it leads to; undefined for the others. */
  jumps(chain: string): (string | undefined)[] {
    const table = this.#table;
    const span = table?.chain(chain);
    return table === undefined || span === undefined
      ? []
      : [...table.rulesOf(span)].map(at => table.jumpOf(at) || undefined);
  }
}
