// dynset: writes the packet's own value into a set, with a timeout that each packet starts anew.
import type { Expression } from './expression.ts';
import { register } from './expression.ts';

const NFTA_DYNSET = { SET_NAME: 1, OP: 3, SREG_KEY: 4, TIMEOUT: 6 } as const;
const NFT_DYNSET_OP_UPDATE = 1;

/** `update @SET { … timeout T }`; the key is in register `from`. */
export function updateSet(set: string, timeoutMs: number, from = 0): Expression {
  return {
    name: 'dynset',
    encode: w => {
      const timeout = Buffer.alloc(8);
      timeout.writeBigUInt64BE(BigInt(timeoutMs));
      w.attrString(NFTA_DYNSET.SET_NAME, set)
        .attrU32be(NFTA_DYNSET.OP, NFT_DYNSET_OP_UPDATE)
        .attrU32be(NFTA_DYNSET.SREG_KEY, register(from))
        .attr(NFTA_DYNSET.TIMEOUT, timeout);
    },
  };
}
