// dynset: a rule that changes a set: writes what registers hold into it, with a timeout that each packet starts anew, or
// takes it out. The data of an element that is there is not replaced: it is deleted first.
import type { Expression } from './expression.ts';
import { register } from './expression.ts';

const NFTA_DYNSET = { SET_NAME: 1, OP: 3, SREG_KEY: 4, SREG_DATA: 5, TIMEOUT: 6 } as const;
const NFT_DYNSET_OP_UPDATE = 1;
const NFT_DYNSET_OP_DELETE = 2;

export interface DynsetRegisters {
  /** Where the key begins. */
  key?: number;
  /** Where a map's data begins. */
  data?: number;
}

/** `update @SET { KEY timeout T [: DATA] }` */
export function updateSet(
  set: string,
  timeoutMs: number,
  { key = 0, data }: DynsetRegisters = {},
): Expression {
  return {
    name: 'dynset',
    encode: w => {
      const timeout = Buffer.alloc(8);
      timeout.writeBigUInt64BE(BigInt(timeoutMs));
      w.attrString(NFTA_DYNSET.SET_NAME, set)
        .attrU32be(NFTA_DYNSET.OP, NFT_DYNSET_OP_UPDATE)
        .attrU32be(NFTA_DYNSET.SREG_KEY, register(key));
      if (data !== undefined) w.attrU32be(NFTA_DYNSET.SREG_DATA, register(data));
      w.attr(NFTA_DYNSET.TIMEOUT, timeout);
    },
  };
}

/** `delete @SET { KEY }`; goes on when it is not there. */
export function deleteFromSet(set: string, { key = 0, data }: DynsetRegisters = {}): Expression {
  return {
    name: 'dynset',
    encode: w => {
      w.attrString(NFTA_DYNSET.SET_NAME, set)
        .attrU32be(NFTA_DYNSET.OP, NFT_DYNSET_OP_DELETE)
        .attrU32be(NFTA_DYNSET.SREG_KEY, register(key));
      if (data !== undefined) w.attrU32be(NFTA_DYNSET.SREG_DATA, register(data));
    },
  };
}
