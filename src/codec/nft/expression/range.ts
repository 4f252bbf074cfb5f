// range: ends the rule unless a register lies between two values, both included, or outside with `!=`.
import { NFTA_DATA } from '../constants.ts';
import type { Expression } from './expression.ts';
import { register } from './expression.ts';

const NFTA_RANGE = { SREG: 1, OP: 2, FROM: 3, TO: 4 } as const;
const NFT_RANGE = { '==': 0, '!=': 1 } as const;

/** Compares bytes from the first on, so numbers must be in network order. */
export function range(
  operator: keyof typeof NFT_RANGE,
  low: Uint8Array,
  high: Uint8Array,
  from = 0,
): Expression {
  return {
    name: 'range',
    encode: w =>
      w
        .attrU32be(NFTA_RANGE.SREG, register(from))
        .attrU32be(NFTA_RANGE.OP, NFT_RANGE[operator])
        .nest(NFTA_RANGE.FROM, () => w.attr(NFTA_DATA.VALUE, low))
        .nest(NFTA_RANGE.TO, () => w.attr(NFTA_DATA.VALUE, high)),
  };
}
