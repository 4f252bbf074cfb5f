// Changes to a table of iptables-nft, looked at chain by chain and written as the least that differs. The counterpart of
// edit.ts's TableEdit, with the same verbs; what reads and sends is passed in.
import { PodwireError } from '../../lib/errors.ts';
import type { NftBatch } from '../nft/batch.ts';
import type { ChainSpec, RuleInfo } from '../nft/chain.ts';
import type { HookName } from '../nft/constants.ts';
import { isSameRule } from './edit.ts';
import { LAYOUT, type XtablesFamily } from './layout.ts';
import { decodeNftRule } from './nft-entry.ts';
import { encodeNftRule } from './nft-rule.ts';
import type { Piece } from './rule.ts';

/** What both kinds of iptables tables can be asked and told. */
export interface RuleTable {
  readonly chainNames: () => string[];
  readonly hasChain: (name: string) => boolean;
  /** Rules that this cannot read are there too, and equal none that is wanted. Throws NO_CHAIN. */
  readonly rules: (name: string) => readonly Piece[];
  /** False when it was there. */
  readonly addChain: (name: string) => boolean;
  readonly flushChain: (name: string) => void;
  /** Must be empty. */
  readonly deleteChain: (name: string) => void;
  readonly insertRule: (name: string, rule: Piece, index?: number) => void;
  readonly removeRuleAt: (name: string, index: number) => void;
  /** -1 when the chain has no such rule. */
  readonly findRule: (name: string, rule: Piece) => number;
}

export interface NftTableReader {
  chainNames(): string[];
  hasChain(name: string): boolean;
  rules(chain: string): RuleInfo[];
}

interface NftPiece extends Piece {
  /** Of a rule that is in the kernel. */
  info?: RuleInfo;
}

interface Draft {
  /** Whether the kernel has the chain, and what was in it. */
  found: readonly NftPiece[] | undefined;
  rules: NftPiece[];
  deleted: boolean;
}

type Hook = [hook: HookName, type: 'filter' | 'nat', priority: number];

/** The chains that the kernel calls, as iptables-nft makes them when it needs them. */
const BASE_CHAINS: Readonly<Record<string, Readonly<Record<string, Hook>>>> = {
  filter: {
    INPUT: ['input', 'filter', 0],
    FORWARD: ['forward', 'filter', 0],
    OUTPUT: ['output', 'filter', 0],
  },
  nat: {
    PREROUTING: ['prerouting', 'nat', -100],
    INPUT: ['input', 'nat', 100],
    OUTPUT: ['output', 'nat', -100],
    POSTROUTING: ['postrouting', 'nat', 100],
  },
};

export class NftTableEdit implements RuleTable {
  readonly #family: XtablesFamily;
  readonly #table: string;
  readonly #reader: NftTableReader;
  readonly #drafts = new Map<string, Draft>();
  #changed = false;

  constructor(family: XtablesFamily, table: string, reader: NftTableReader) {
    this.#family = family;
    this.#table = table;
    this.#reader = reader;
  }

  get changed(): boolean {
    return this.#changed;
  }

  chainNames(): string[] {
    const names = new Set(this.#reader.chainNames());
    for (const [name, draft] of this.#drafts)
      if (draft.deleted) names.delete(name);
      else names.add(name);
    return [...names];
  }

  hasChain(name: string): boolean {
    const draft = this.#drafts.get(name);
    if (draft !== undefined) return !draft.deleted;
    return this.#baseChain(name) !== undefined || this.#reader.hasChain(name);
  }

  rules(name: string): readonly Piece[] {
    return this.#open(name).rules;
  }

  addChain(name: string): boolean {
    if (this.hasChain(name)) return false;
    const { found } = this.#drafts.get(name) ?? {};
    this.#drafts.set(name, { found, rules: [], deleted: false });
    this.#changed = true;
    return true;
  }

  flushChain(name: string): void {
    const draft = this.#open(name);
    if (draft.rules.length === 0) return;
    draft.rules = [];
    this.#changed = true;
  }

  deleteChain(name: string): void {
    const draft = this.#open(name);
    if (draft.rules.length > 0) refuse('CHAIN_NOT_EMPTY', `chain ${name} still has rules`);
    draft.deleted = true;
    this.#changed = true;
  }

  insertRule(name: string, rule: Piece, index?: number): void {
    const { rules } = this.#open(name);
    rules.splice(index ?? rules.length, 0, rule);
    this.#changed = true;
  }

  removeRuleAt(name: string, index: number): void {
    this.#open(name).rules.splice(index, 1);
    this.#changed = true;
  }

  findRule(name: string, rule: Piece): number {
    const layout = LAYOUT[this.#family];
    return this.#open(name).rules.findIndex(one => isSameRule(one, rule, layout.nfcache, layout));
  }

  #baseChain(name: string): Hook | undefined {
    const chains = BASE_CHAINS[this.#table];
    return chains !== undefined && Object.hasOwn(chains, name) ? chains[name] : undefined;
  }

  #open(name: string): Draft {
    const known = this.#drafts.get(name);
    if (known !== undefined && !known.deleted) return known;
    if (known !== undefined || !this.hasChain(name)) refuse('NO_CHAIN', `there is no chain ${name}`);
    const found = this.#reader.hasChain(name)
      ? this.#reader.rules(name).map(info => this.#read(info))
      : undefined;
    const draft = { found, rules: [...(found ?? [])], deleted: false };
    this.#drafts.set(name, draft);
    return draft;
  }

  #read(info: RuleInfo): NftPiece {
    const piece = decodeNftRule(this.#family, info.expressions, info.comment);
    const unknown = { bytes: Buffer.alloc(0), at: 0, size: 0, jump: info.target, entry: -1 };
    return { ...(piece ?? unknown), info };
  }

  /** The changes, in an order in which nothing is referred to that is not there. */
  write(batch: NftBatch): void {
    const family = this.#family === 4 ? 'ip' : 'ip6';
    batch.addTable(family, this.#table);
    for (const [name, draft] of this.#drafts)
      if (draft.found === undefined && !draft.deleted && this.#isWanted(name, draft))
        batch.addChain(family, this.#table, this.#chainSpec(name));
    for (const { found = [], rules } of this.#drafts.values())
      for (const { info } of found)
        if (info !== undefined && !rules.some(rule => rule.info === info)) batch.delRule(family, info);
    for (const [name, { rules }] of this.#drafts)
      for (const [i, rule] of rules.entries()) {
        if (rule.info !== undefined) continue;
        const next = rules.slice(i + 1).find(one => one.info !== undefined)?.info;
        batch.addRule(family, this.#table, {
          chain: name,
          ...encodeNftRule(rule, this.#family),
          ...(next === undefined ? {} : { before: next.handle }),
        });
      }
    for (const [name, { found, deleted }] of this.#drafts)
      if (deleted && found !== undefined) batch.delChain(family, this.#table, name);
  }

  /** A base chain that was only looked at need not be made. */
  #isWanted(name: string, draft: Draft): boolean {
    return this.#baseChain(name) === undefined || draft.rules.length > 0;
  }

  #chainSpec(name: string): ChainSpec {
    const base = this.#baseChain(name);
    if (base === undefined) return { name };
    const [hook, type, priority] = base;
    return { name, hook: { type, hook, priority } };
  }
}

function refuse(code: string, message: string): never {
  throw new PodwireError(code, message);
}
