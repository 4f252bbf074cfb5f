// Notifications of NFNLGRP_NFTABLES: which table, chain or set changed. What it changed to is read from the kernel.
import { attributeString, attributes, type NetlinkMessage } from '../netlink/message.ts';
import { FAMILY_NUMBERS, NFNL_SUBSYS_NFTABLES, NFT_MSG, type NftFamily } from './constants.ts';

export interface NftEvent {
  kind: 'table' | 'chain' | 'rule' | 'set' | 'elements';
  deleted: boolean;
  family: NftFamily;
  table: string;
  /** Chain or set. */
  name: string;
  /** Netlink port of who did it. */
  port: number;
}

const KINDS: Partial<Record<number, [NftEvent['kind'], boolean]>> = {
  [NFT_MSG.NEWTABLE]: ['table', false],
  [NFT_MSG.DELTABLE]: ['table', true],
  [NFT_MSG.NEWCHAIN]: ['chain', false],
  [NFT_MSG.DELCHAIN]: ['chain', true],
  [NFT_MSG.NEWRULE]: ['rule', false],
  [NFT_MSG.DELRULE]: ['rule', true],
  [NFT_MSG.NEWSET]: ['set', false],
  [NFT_MSG.DELSET]: ['set', true],
  [NFT_MSG.NEWSETELEM]: ['elements', false],
  [NFT_MSG.DELSETELEM]: ['elements', true],
};

/** In tables, sets, rules and elements attribute 1 is the table and 2 the name of what is in it; chains have it third. */
const TABLE_ATTRIBUTE = 1;
const NAME_ATTRIBUTE = 2;
const CHAIN_NAME_ATTRIBUTE = 3;

/** Undefined for what is none of these kinds, or of another subsystem. */
export function decodeNftEvent(message: NetlinkMessage): NftEvent | undefined {
  if (message.type >> 8 !== NFNL_SUBSYS_NFTABLES || message.payload.length < 4) return undefined;
  const known = KINDS[message.type & 0xff];
  const number = message.payload[0];
  const family = (Object.keys(FAMILY_NUMBERS) as NftFamily[]).find(name => FAMILY_NUMBERS[name] === number);
  if (known === undefined || family === undefined) return undefined;
  const [kind, deleted] = known;
  const event: NftEvent = { kind, deleted, family, table: '', name: '', port: message.port };
  for (const { type, value } of attributes(message.payload, 4))
    if (type === TABLE_ATTRIBUTE) event.table = attributeString(value);
    else if (kind !== 'table' && type === (kind === 'chain' ? CHAIN_NAME_ATTRIBUTE : NAME_ATTRIBUTE))
      event.name = attributeString(value);
  return event;
}
