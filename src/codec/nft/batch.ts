// One nf_tables transaction: BATCH_BEGIN, changes, BATCH_END. The kernel does all of it or nothing; a generation id in
// BATCH_BEGIN makes it refuse (ERESTART) when somebody else changed the ruleset since that generation.
import { NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST } from '../netlink/constants.ts';
import { MessageWriter } from '../netlink/message.ts';
import {
  type ChainSpec,
  encodeChain,
  encodeRule,
  encodeRuleHandle,
  type RuleInfo,
  type RuleSpec,
} from './chain.ts';
import {
  FAMILY_NUMBERS,
  NFNL_BATCH_GENID,
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NFNL_SUBSYS_NFTABLES,
  NFT_MSG,
  NFTA_CHAIN,
  NFTA_RULE,
  NFTA_SET,
  NFTA_TABLE,
  type NftFamily,
} from './constants.ts';
import { type ElementKind, encodeTextElements, type TextElement } from './scan.ts';
import { type Element, encodeElements, encodeSet, type SetSpec } from './set.ts';
import { encodeComment } from './userdata.ts';

/** nfgenmsg. */
export function encodeHead(w: MessageWriter, family: number, resource = 0): void {
  w.u8(family).u8(0).u16be(resource);
}

export function nftMessageType(message: number): number {
  return (NFNL_SUBSYS_NFTABLES << 8) | message;
}

export class NftBatch {
  readonly writer = new MessageWriter(4096);
  /** Where each message begins; the first is BATCH_BEGIN, BATCH_END is not among them. */
  readonly offsets: number[] = [];
  /** What each message attempts, for errors. */
  readonly operations: string[] = [];
  #sets = 0;

  constructor(generation?: number) {
    this.offsets.push(this.writer.begin(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST));
    this.operations.push('begin nftables transaction');
    encodeHead(this.writer, 0, NFNL_SUBSYS_NFTABLES);
    if (generation !== undefined) this.writer.attrU32be(NFNL_BATCH_GENID, generation);
    this.writer.end();
  }

  get isEmpty(): boolean {
    return this.offsets.length === 1;
  }

  /** Nothing can be added after this. */
  finish(): void {
    this.writer.begin(NFNL_MSG_BATCH_END, NLM_F_REQUEST);
    encodeHead(this.writer, 0, NFNL_SUBSYS_NFTABLES);
    this.writer.end();
  }

  #message(
    type: number,
    family: NftFamily,
    flags: number,
    operation: string,
    fill: (w: MessageWriter) => void,
  ): this {
    const w = this.writer;
    this.offsets.push(w.begin(nftMessageType(type), NLM_F_REQUEST | flags));
    this.operations.push(operation);
    encodeHead(w, FAMILY_NUMBERS[family]);
    fill(w);
    w.end();
    return this;
  }

  /** `exclusive`: EEXIST when it is there. */
  addTable(family: NftFamily, name: string, options: { exclusive?: boolean; comment?: string } = {}): this {
    const flags = NLM_F_CREATE | (options.exclusive ? NLM_F_EXCL : 0);
    return this.#message(NFT_MSG.NEWTABLE, family, flags, `add table ${family} ${name}`, w => {
      w.attrString(NFTA_TABLE.NAME, name).attrU32be(NFTA_TABLE.FLAGS, 0);
      if (options.comment !== undefined) w.attr(NFTA_TABLE.USERDATA, encodeComment(options.comment));
    });
  }

  delTable(family: NftFamily, name: string): this {
    return this.#message(NFT_MSG.DELTABLE, family, 0, `delete table ${family} ${name}`, w =>
      w.attrString(NFTA_TABLE.NAME, name),
    );
  }

  addChain(family: NftFamily, table: string, chain: ChainSpec, options: { exclusive?: boolean } = {}): this {
    const flags = NLM_F_CREATE | (options.exclusive ? NLM_F_EXCL : 0);
    return this.#message(NFT_MSG.NEWCHAIN, family, flags, `add chain ${family} ${table} ${chain.name}`, w =>
      encodeChain(w, table, chain),
    );
  }

  delChain(family: NftFamily, table: string, chain: string): this {
    return this.#message(NFT_MSG.DELCHAIN, family, 0, `delete chain ${family} ${table} ${chain}`, w =>
      w.attrString(NFTA_CHAIN.TABLE, table).attrString(NFTA_CHAIN.NAME, chain),
    );
  }

  /** At the end of the chain, before all others, or where `rule.before` says. */
  addRule(family: NftFamily, table: string, rule: RuleSpec, options: { first?: boolean } = {}): this {
    const flags = NLM_F_CREATE | (options.first || rule.before !== undefined ? 0 : NLM_F_APPEND);
    return this.#message(NFT_MSG.NEWRULE, family, flags, `add rule ${family} ${table} ${rule.chain}`, w =>
      encodeRule(w, table, rule),
    );
  }

  delRule(family: NftFamily, rule: RuleInfo): this {
    const operation = `delete rule ${family} ${rule.table} ${rule.chain} handle ${rule.handle}`;
    return this.#message(NFT_MSG.DELRULE, family, 0, operation, w => encodeRuleHandle(w, rule));
  }

  /** All rules of a chain. */
  flushChain(family: NftFamily, table: string, chain: string): this {
    return this.#message(NFT_MSG.DELRULE, family, 0, `flush chain ${family} ${table} ${chain}`, w =>
      w.attrString(NFTA_CHAIN.TABLE, table).attrString(NFTA_RULE.CHAIN, chain),
    );
  }

  addSet(family: NftFamily, table: string, set: SetSpec): this {
    const id = ++this.#sets;
    return this.#message(NFT_MSG.NEWSET, family, NLM_F_CREATE, `add set ${family} ${table} ${set.name}`, w =>
      encodeSet(w, table, set, id),
    );
  }

  delSet(family: NftFamily, table: string, set: string): this {
    return this.#message(NFT_MSG.DELSET, family, 0, `delete set ${family} ${table} ${set}`, w =>
      w.attrString(NFTA_SET.TABLE, table).attrString(NFTA_SET.NAME, set),
    );
  }

  /** EEXIST when a map has the key with other data, or with `exclusive` in any case. */
  addElements(
    family: NftFamily,
    table: string,
    set: string,
    elements: readonly Element[],
    options: { exclusive?: boolean } = {},
  ): this {
    const flags = NLM_F_CREATE | (options.exclusive ? NLM_F_EXCL : 0);
    return this.#message(NFT_MSG.NEWSETELEM, family, flags, `add element ${family} ${table} ${set}`, w =>
      encodeElements(w, table, set, elements),
    );
  }

  /** Elements as text, in as many messages as they need. */
  addTextElements(
    family: NftFamily,
    table: string,
    set: string,
    kind: ElementKind,
    elements: readonly TextElement[],
  ): this {
    return this.#textElements(NFT_MSG.NEWSETELEM, NLM_F_CREATE, 'add', family, table, set, kind, elements);
  }

  delTextElements(
    family: NftFamily,
    table: string,
    set: string,
    kind: ElementKind,
    elements: readonly TextElement[],
  ): this {
    return this.#textElements(NFT_MSG.DELSETELEM, 0, 'delete', family, table, set, kind, elements);
  }

  #textElements(
    type: number,
    flags: number,
    verb: string,
    family: NftFamily,
    table: string,
    set: string,
    kind: ElementKind,
    elements: readonly TextElement[],
  ): this {
    for (let next = 0; next < elements.length; )
      this.#message(type, family, flags, `${verb} element ${family} ${table} ${set}`, w => {
        next = encodeTextElements(w, table, set, kind, elements, next);
      });
    return this;
  }

  delElements(family: NftFamily, table: string, set: string, elements: readonly Element[]): this {
    return this.#message(NFT_MSG.DELSETELEM, family, 0, `delete element ${family} ${table} ${set}`, w =>
      encodeElements(w, table, set, elements),
    );
  }
}
