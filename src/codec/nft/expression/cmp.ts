// cmp: ends the rule unless a register compares as asked.
import { NFTA_DATA } from '../constants.ts';
import type { Expression } from './expression.ts';
import { register } from './expression.ts';

const NFTA_CMP = { SREG: 1, OP: 2, DATA: 3 } as const;
const NFT_CMP = { '==': 0, '!=': 1 } as const;

export function cmp(operator: keyof typeof NFT_CMP, value: Uint8Array, from = 0): Expression {
  return {
    name: 'cmp',
    encode: w =>
      w
        .attrU32be(NFTA_CMP.SREG, register(from))
        .attrU32be(NFTA_CMP.OP, NFT_CMP[operator])
        .nest(NFTA_CMP.DATA, () => w.attr(NFTA_DATA.VALUE, value)),
  };
}
