// bitwise: register = (register & mask) ^ xor.
import { NFTA_DATA } from '../constants.ts';
import type { Expression } from './expression.ts';
import { register } from './expression.ts';

const NFTA_BITWISE = { SREG: 1, DREG: 2, LEN: 3, MASK: 4, XOR: 5 } as const;

/** In place; mask and xor have the value's length. */
export function bitwise(mask: Uint8Array, xor: Uint8Array = new Uint8Array(mask.length), at = 0): Expression {
  return {
    name: 'bitwise',
    encode: w =>
      w
        .attrU32be(NFTA_BITWISE.SREG, register(at))
        .attrU32be(NFTA_BITWISE.DREG, register(at))
        .attrU32be(NFTA_BITWISE.LEN, mask.length)
        .nest(NFTA_BITWISE.MASK, () => w.attr(NFTA_DATA.VALUE, mask))
        .nest(NFTA_BITWISE.XOR, () => w.attr(NFTA_DATA.VALUE, xor)),
  };
}
