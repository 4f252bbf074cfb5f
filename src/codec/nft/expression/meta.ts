// meta: loads what the kernel knows of a packet besides its bytes, or sets its mark.
import type { Expression } from './expression.ts';
import { register } from './expression.ts';

const NFTA_META = { DREG: 1, KEY: 2, SREG: 3 } as const;
const NFT_META = { mark: 3, iifname: 6, oifname: 7, nfproto: 15, l4proto: 16 } as const;

export function meta(key: keyof typeof NFT_META, to = 0): Expression {
  return {
    name: 'meta',
    encode: w => w.attrU32be(NFTA_META.KEY, NFT_META[key]).attrU32be(NFTA_META.DREG, register(to)),
  };
}

export function setMeta(key: 'mark', from = 0): Expression {
  return {
    name: 'meta',
    encode: w => w.attrU32be(NFTA_META.KEY, NFT_META[key]).attrU32be(NFTA_META.SREG, register(from)),
  };
}
