// Tables, chains and rules.
//
//   struct nfgenmsg: | family u8 | version u8 = 0 | res_id be16 |   before the attributes of every message
import {
  attributeString,
  attributes,
  type MessageWriter,
  type NetlinkMessage,
  u32be,
} from '../netlink/message.ts';
import {
  type HookName,
  NF_ACCEPT,
  NF_DROP,
  NF_HOOK,
  NFT_RULE_COMPAT_F_INV,
  NFTA_CHAIN,
  NFTA_DATA,
  NFTA_EXPR,
  NFTA_HOOK,
  NFTA_IMMEDIATE_DATA,
  NFTA_RULE,
  NFTA_RULE_COMPAT,
  NFTA_TABLE,
  NFTA_VERDICT,
} from './constants.ts';
import { type Expression, encodeExpression } from './expression/expression.ts';
import { decodeComment, encodeComment } from './userdata.ts';

export interface ChainSpec {
  name: string;
  /** A base chain: where the kernel calls it. */
  hook?: { type: 'filter' | 'nat' | 'route'; hook: HookName; priority: number; policy?: 'accept' | 'drop' };
}

export interface RuleSpec {
  chain: string;
  expressions: readonly Expression[];
  comment?: string;
  /** Of rules with expressions of x_tables: the protocol they may take for granted. */
  compat?: { protocol: number; inverted: boolean };
  /** Handle of the rule before which it belongs; the end of the chain without one. */
  before?: bigint;
}

export interface TableInfo {
  name: string;
  /** The comment podwire keeps there. */
  comment?: string;
}

export interface ChainInfo {
  table: string;
  name: string;
  /** References from rules and maps. */
  use: number;
  isBase: boolean;
  /** Of a base chain. */
  hook?: { type: string; number: number; priority: number; policy: number };
}

export interface RuleInfo {
  table: string;
  chain: string;
  handle: bigint;
  comment?: string;
  /** The chain it jumps or goes to. */
  target?: string;
  /** The attributes inside NFTA_RULE_EXPRESSIONS, copied. */
  expressions: Buffer;
}

export function encodeChain(w: MessageWriter, table: string, chain: ChainSpec): void {
  w.attrString(NFTA_CHAIN.TABLE, table).attrString(NFTA_CHAIN.NAME, chain.name);
  const { hook } = chain;
  if (hook === undefined) return;
  w.nest(NFTA_CHAIN.HOOK, () => {
    w.attrU32be(NFTA_HOOK.HOOKNUM, NF_HOOK[hook.hook]).attrU32be(NFTA_HOOK.PRIORITY, hook.priority);
  })
    .attrU32be(NFTA_CHAIN.POLICY, hook.policy === 'drop' ? NF_DROP : NF_ACCEPT)
    .attrString(NFTA_CHAIN.TYPE, hook.type);
}

export function encodeRule(w: MessageWriter, table: string, rule: RuleSpec): void {
  w.attrString(NFTA_RULE.TABLE, table)
    .attrString(NFTA_RULE.CHAIN, rule.chain)
    .nest(NFTA_RULE.EXPRESSIONS, () => {
      for (const expression of rule.expressions) encodeExpression(w, expression);
    });
  if (rule.comment !== undefined) w.attr(NFTA_RULE.USERDATA, encodeComment(rule.comment));
  const { compat, before } = rule;
  if (compat !== undefined)
    w.nest(NFTA_RULE.COMPAT, () =>
      w
        .attrU32be(NFTA_RULE_COMPAT.PROTO, compat.protocol)
        .attrU32be(NFTA_RULE_COMPAT.FLAGS, compat.inverted ? NFT_RULE_COMPAT_F_INV : 0),
    );
  if (before !== undefined) {
    const handle = Buffer.alloc(8);
    handle.writeBigUInt64BE(before);
    w.attr(NFTA_RULE.POSITION, handle);
  }
}

export function encodeRuleHandle(w: MessageWriter, rule: RuleInfo): void {
  const handle = Buffer.alloc(8);
  handle.writeBigUInt64BE(rule.handle);
  w.attrString(NFTA_RULE.TABLE, rule.table)
    .attrString(NFTA_RULE.CHAIN, rule.chain)
    .attr(NFTA_RULE.HANDLE, handle);
}

export function decodeTable(message: NetlinkMessage): TableInfo {
  const table: TableInfo = { name: '' };
  for (const { type, value } of attributes(message.payload, 4)) {
    if (type === NFTA_TABLE.NAME) table.name = attributeString(value);
    else if (type === NFTA_TABLE.USERDATA) {
      const comment = decodeComment(value);
      if (comment !== undefined) table.comment = comment;
    }
  }
  return table;
}

export function decodeChain(message: NetlinkMessage): ChainInfo {
  const chain: ChainInfo = { table: '', name: '', use: 0, isBase: false };
  const hook = { type: '', number: 0, priority: 0, policy: 0 };
  for (const { type, value } of attributes(message.payload, 4)) {
    if (type === NFTA_CHAIN.TABLE) chain.table = attributeString(value);
    else if (type === NFTA_CHAIN.NAME) chain.name = attributeString(value);
    else if (type === NFTA_CHAIN.USE) chain.use = u32be(value, 'NFTA_CHAIN_USE');
    else if (type === NFTA_CHAIN.HOOK) {
      chain.isBase = true;
      for (const part of attributes(value, 0))
        if (part.type === NFTA_HOOK.HOOKNUM) hook.number = u32be(part.value, 'NFTA_HOOK_HOOKNUM');
        else if (part.type === NFTA_HOOK.PRIORITY)
          hook.priority = u32be(part.value, 'NFTA_HOOK_PRIORITY') | 0;
    } else if (type === NFTA_CHAIN.TYPE) hook.type = attributeString(value);
    else if (type === NFTA_CHAIN.POLICY) hook.policy = u32be(value, 'NFTA_CHAIN_POLICY');
  }
  if (chain.isBase) chain.hook = hook;
  return chain;
}

const NO_BYTES = Buffer.alloc(0);

export function decodeRule(message: NetlinkMessage): RuleInfo {
  const rule: RuleInfo = { table: '', chain: '', handle: 0n, expressions: NO_BYTES };
  for (const { type, value } of attributes(message.payload, 4)) {
    if (type === NFTA_RULE.TABLE) rule.table = attributeString(value);
    else if (type === NFTA_RULE.CHAIN) rule.chain = attributeString(value);
    else if (type === NFTA_RULE.HANDLE && value.length === 8) rule.handle = value.readBigUInt64BE(0);
    else if (type === NFTA_RULE.USERDATA) {
      const comment = decodeComment(value);
      if (comment !== undefined) rule.comment = comment;
    } else if (type === NFTA_RULE.EXPRESSIONS) {
      rule.expressions = Buffer.from(value);
      const target = decodeTarget(value);
      if (target !== undefined) rule.target = target;
    }
  }
  return rule;
}

/** The verdict's chain among a rule's expressions; iptables-nft writes its jumps the same way. */
function decodeTarget(bytes: Buffer): string | undefined {
  for (const { value: element } of attributes(bytes, 0)) {
    const parts = attributes(element, 0);
    const name = parts.find(part => part.type === NFTA_EXPR.NAME);
    const data = parts.find(part => part.type === NFTA_EXPR.DATA);
    if (name === undefined || data === undefined || attributeString(name.value) !== 'immediate') continue;
    const held = attributes(data.value, 0).find(part => part.type === NFTA_IMMEDIATE_DATA);
    const verdict = held && attributes(held.value, 0).find(part => part.type === NFTA_DATA.VERDICT);
    const chain = verdict && attributes(verdict.value, 0).find(part => part.type === NFTA_VERDICT.CHAIN);
    if (chain !== undefined) return attributeString(chain.value);
  }
  return undefined;
}
