// lookup: ends the rule unless a register's value is in a set; of a map it also fetches the value's data.
import { NFT_REG_VERDICT } from '../constants.ts';
import type { Expression } from './expression.ts';
import { register } from './expression.ts';

const NFTA_LOOKUP = { SET: 1, SREG: 2, DREG: 3, FLAGS: 5 } as const;
const NFT_LOOKUP_F_INV = 1;

export interface LookupOptions {
  from?: number;
  /** Where a map's data goes; `verdict` for verdict maps. */
  to?: number | 'verdict';
  /** Goes on when the value is not in the set. */
  inverted?: boolean;
}

export function lookup(set: string, options: LookupOptions = {}): Expression {
  const { from = 0, to, inverted = false } = options;
  return {
    name: 'lookup',
    encode: w => {
      w.attrString(NFTA_LOOKUP.SET, set).attrU32be(NFTA_LOOKUP.SREG, register(from));
      if (to !== undefined) w.attrU32be(NFTA_LOOKUP.DREG, to === 'verdict' ? NFT_REG_VERDICT : register(to));
      if (inverted) w.attrU32be(NFTA_LOOKUP.FLAGS, NFT_LOOKUP_F_INV);
    },
  };
}
