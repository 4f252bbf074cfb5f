// numgen: a number below a modulus, at random or one after the other, in the host's byte order.
import type { Expression } from './expression.ts';
import { register } from './expression.ts';

const NFTA_NG = { DREG: 1, MODULUS: 2, TYPE: 3, OFFSET: 4 } as const;
const NFT_NG_RANDOM = 1;

/** `numgen random mod N` */
export function numgenRandom(modulus: number, to = 0): Expression {
  return {
    name: 'numgen',
    encode: w =>
      w
        .attrU32be(NFTA_NG.DREG, register(to))
        .attrU32be(NFTA_NG.MODULUS, modulus)
        .attrU32be(NFTA_NG.TYPE, NFT_NG_RANDOM)
        .attrU32be(NFTA_NG.OFFSET, 0),
  };
}
