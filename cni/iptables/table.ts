// One table of the host's iptables during one change, of either kind: rules as texts, in the words of `iptables -A`.

import { commentOf } from '../../src/codec/xtables/nft-rule.ts';
import type { RuleTable } from '../../src/codec/xtables/nft-table.ts';
import type { Piece, RuleEncoder } from '../../src/codec/xtables/rule.ts';

export type IptablesFamily = 4 | 6;

/** A rule as it is found: what it leads to and its comment, where it has them. */
export interface FoundRule {
  piece: Piece;
  /** The chain; undefined for verdicts and other targets. */
  target: string | undefined;
  comment: string | undefined;
}

export class IptablesTable {
  readonly family: IptablesFamily;
  readonly #table: RuleTable;
  readonly #encoder: RuleEncoder;

  constructor(family: IptablesFamily, table: RuleTable, encoder: RuleEncoder) {
    this.family = family;
    this.#table = table;
    this.#encoder = encoder;
  }

  hasChain(chain: string): boolean {
    return this.#table.hasChain(chain);
  }

  chainNames(): string[] {
    return this.#table.chainNames();
  }

  /** Throws XTABLES_UNSUPPORTED, with the word, when the rule cannot be written. */
  checkRule(rule: string): void {
    this.#encoder.encode(rule);
  }

  /** None where there is no such chain. */
  rules(chain: string): FoundRule[] {
    if (!this.hasChain(chain)) return [];
    return this.#table.rules(chain).map(piece => ({
      piece,
      target: piece.jump || undefined,
      comment: commentOf(piece, this.family),
    }));
  }

  hasRule(chain: string, rule: string): boolean {
    return this.hasChain(chain) && this.#table.findRule(chain, this.#encoder.encode(rule)) >= 0;
  }

  ensureChain(chain: string): void {
    this.#table.addChain(chain);
  }

  /** The chain, made if need be, holds these rules in this order and no others; nothing changes when it does already. */
  setChain(chain: string, rules: readonly string[]): void {
    this.ensureChain(chain);
    const pieces = rules.map(rule => this.#encoder.encode(rule));
    const same = pieces.length === this.#table.rules(chain).length && this.#inOrder(chain, pieces);
    if (same) return;
    this.#table.flushChain(chain);
    for (const piece of pieces) this.#table.insertRule(chain, piece);
  }

  #inOrder(chain: string, pieces: readonly Piece[]): boolean {
    return pieces.every((piece, i) => this.#table.findRule(chain, piece) === i);
  }

  /** Unless the chain has the rule somewhere. */
  append(chain: string, rule: string): void {
    if (!this.hasRule(chain, rule)) this.#table.insertRule(chain, this.#encoder.encode(rule));
  }

  /** Before all others, unless the chain has the rule somewhere. */
  prepend(chain: string, rule: string): void {
    if (!this.hasRule(chain, rule)) this.#table.insertRule(chain, this.#encoder.encode(rule), 0);
  }

  removeWhere(chain: string, chosen: (rule: FoundRule) => boolean): void {
    const rules = this.rules(chain);
    for (let i = rules.length - 1; i >= 0; i--) if (chosen(rules[i]!)) this.#table.removeRuleAt(chain, i);
  }

  remove(chain: string, rule: string): void {
    if (!this.hasChain(chain)) return;
    const piece = this.#encoder.encode(rule);
    for (let i = this.#table.findRule(chain, piece); i >= 0; i = this.#table.findRule(chain, piece))
      this.#table.removeRuleAt(chain, i);
  }

  /** With the rules of `from` that lead to it. */
  removeChain(chain: string, from: readonly string[]): void {
    for (const name of from) this.removeWhere(name, rule => rule.target === chain);
    if (!this.hasChain(chain)) return;
    this.#table.flushChain(chain);
    this.#table.deleteChain(chain);
  }
}

/** A comment, or another word that may have blanks, as iptables-restore reads it. */
export function quoted(text: string): string {
  return `"${text.replace(/["\\]/g, '\\$&')}"`;
}

export function commentMatch(text: string): string {
  return `-m comment --comment ${quoted(text)}`;
}
