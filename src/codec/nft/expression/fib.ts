// fib: asks the routing table what kind of address the packet goes to or comes from (RTN_* of linux/rtnetlink.h).
import type { Expression } from './expression.ts';
import { register } from './expression.ts';

const NFTA_FIB = { DREG: 1, RESULT: 2, FLAGS: 3 } as const;
const NFT_FIB_RESULT_ADDRTYPE = 3;
const NFTA_FIB_F_SADDR = 1;
const NFTA_FIB_F_DADDR = 2;

export const RTN_LOCAL = 2;
/** By the names nft has for them. */
export const RTN_TYPE = {
  unspec: 0,
  unicast: 1,
  local: RTN_LOCAL,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
} as const;

function addressType(flags: number, to: number): Expression {
  return {
    name: 'fib',
    encode: w =>
      w
        .attrU32be(NFTA_FIB.DREG, register(to))
        .attrU32be(NFTA_FIB.RESULT, NFT_FIB_RESULT_ADDRTYPE)
        .attrU32be(NFTA_FIB.FLAGS, flags),
  };
}

/** `fib daddr type` */
export function fibDestinationType(to = 0): Expression {
  return addressType(NFTA_FIB_F_DADDR, to);
}

/** `fib saddr type` */
export function fibSourceType(to = 0): Expression {
  return addressType(NFTA_FIB_F_SADDR, to);
}
