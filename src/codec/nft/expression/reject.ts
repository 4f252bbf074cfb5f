// reject: drops the packet and tells its sender so.
import type { Expression } from './expression.ts';

const NFTA_REJECT = { TYPE: 1, ICMP_CODE: 2 } as const;
const NFT_REJECT_ICMP_UNREACH = 0;
const NFT_REJECT_TCP_RST = 1;
/** ICMP_PORT_UNREACH, and ICMPV6_PORT_UNREACH: the code is of the table's family. */
const PORT_UNREACHABLE = { 4: 3, 6: 4 } as const;

/** `reject`: ICMP port unreachable. */
export function rejectUnreachable(family: 4 | 6): Expression {
  return {
    name: 'reject',
    encode: w =>
      w
        .attrU32be(NFTA_REJECT.TYPE, NFT_REJECT_ICMP_UNREACH)
        .attrU8(NFTA_REJECT.ICMP_CODE, PORT_UNREACHABLE[family]),
  };
}

/** `reject with tcp reset`; only after the protocol was matched. */
export function rejectReset(): Expression {
  return {
    name: 'reject',
    encode: w => w.attrU32be(NFTA_REJECT.TYPE, NFT_REJECT_TCP_RST),
  };
}
