// immediate: a constant into a register, or a verdict.
import { NFT_REG_VERDICT, NFTA_DATA } from '../constants.ts';
import { encodeVerdict, type Verdict } from '../verdict.ts';
import type { Expression } from './expression.ts';
import { register } from './expression.ts';

const NFTA_IMMEDIATE = { DREG: 1, DATA: 2 } as const;

export function immediate(value: Uint8Array, to = 0): Expression {
  return {
    name: 'immediate',
    encode: w =>
      w
        .attrU32be(NFTA_IMMEDIATE.DREG, register(to))
        .nest(NFTA_IMMEDIATE.DATA, () => w.attr(NFTA_DATA.VALUE, value)),
  };
}

export function verdict(value: Verdict): Expression {
  return {
    name: 'immediate',
    encode: w =>
      w
        .attrU32be(NFTA_IMMEDIATE.DREG, NFT_REG_VERDICT)
        .nest(NFTA_IMMEDIATE.DATA, () => encodeVerdict(w, value)),
  };
}
