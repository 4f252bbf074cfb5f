// counter: counts packets and bytes from zero; iptables-nft has one in every rule.
import type { Expression } from './expression.ts';

const NFTA_COUNTER = { BYTES: 1, PACKETS: 2 } as const;
const ZERO = Buffer.alloc(8);

export function counter(): Expression {
  return {
    name: 'counter',
    encode: w => w.attr(NFTA_COUNTER.BYTES, ZERO).attr(NFTA_COUNTER.PACKETS, ZERO),
  };
}
