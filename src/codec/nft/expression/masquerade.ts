// masq: source address of the outgoing interface.
import type { Expression } from './expression.ts';

const NFTA_MASQ_FLAGS = 1;
/** NF_NAT_RANGE_PROTO_RANDOM_FULLY: ports at random, so that two connections rarely meet in a race for one. */
const NF_NAT_RANGE_PROTO_RANDOM_FULLY = 16;

export function masquerade(options: { fullyRandom?: boolean } = {}): Expression {
  return {
    name: 'masq',
    encode: w => {
      if (options.fullyRandom) w.attrU32be(NFTA_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY);
    },
  };
}
