// ct: loads state of the packet's connection. Bit masks are in the host's byte order.
import type { Expression } from './expression.ts';
import { register } from './expression.ts';

const NFTA_CT = { DREG: 1, KEY: 2 } as const;
const NFT_CT = { state: 0, status: 2, mark: 3 } as const;

/** NF_CT_STATE_BIT of linux/netfilter/nf_conntrack_common.h. */
export const CT_STATE = { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 } as const;
/** enum ip_conntrack_status. */
export const CT_STATUS = {
  expected: 1,
  'seen-reply': 2,
  assured: 4,
  confirmed: 8,
  snat: 0x10,
  dnat: 0x20,
  dying: 0x200,
} as const;

export function ct(key: keyof typeof NFT_CT, to = 0): Expression {
  return {
    name: 'ct',
    encode: w => w.attrU32be(NFTA_CT.KEY, NFT_CT[key]).attrU32be(NFTA_CT.DREG, register(to)),
  };
}
