// payload: loads bytes of a packet's header into a register.
import type { Expression } from './expression.ts';
import { register } from './expression.ts';

const NFTA_PAYLOAD = { DREG: 1, BASE: 2, OFFSET: 3, LEN: 4 } as const;
const NFT_PAYLOAD_BASE = { link: 0, network: 1, transport: 2 } as const;

export interface PayloadField {
  base: keyof typeof NFT_PAYLOAD_BASE;
  offset: number;
  bytes: number;
}

/** Header fields by the names nft has for them. */
export const FIELD = {
  'ether saddr': { base: 'link', offset: 6, bytes: 6 },
  'ip saddr': { base: 'network', offset: 12, bytes: 4 },
  'ip daddr': { base: 'network', offset: 16, bytes: 4 },
  'ip6 saddr': { base: 'network', offset: 8, bytes: 16 },
  'ip6 daddr': { base: 'network', offset: 24, bytes: 16 },
  'th sport': { base: 'transport', offset: 0, bytes: 2 },
  'th dport': { base: 'transport', offset: 2, bytes: 2 },
} as const satisfies Record<string, PayloadField>;
export type FieldName = keyof typeof FIELD;

/** `bytes`: only so many of the field's first. */
export function payload(field: FieldName, to = 0, bytes: number = FIELD[field].bytes): Expression {
  const { base, offset } = FIELD[field];
  return {
    name: 'payload',
    encode: w =>
      w
        .attrU32be(NFTA_PAYLOAD.DREG, register(to))
        .attrU32be(NFTA_PAYLOAD.BASE, NFT_PAYLOAD_BASE[base])
        .attrU32be(NFTA_PAYLOAD.OFFSET, offset)
        .attrU32be(NFTA_PAYLOAD.LEN, bytes),
  };
}
