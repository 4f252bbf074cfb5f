// Bytes that are no nf_tables message: decoded, or refused with our own error; never anything else.
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeChain, decodeRule, decodeTable } from '../../../src/codec/nft/chain.ts';
import { encodeExpressions, sameExpressions } from '../../../src/codec/nft/compare.ts';
import { NFNL_SUBSYS_NFTABLES } from '../../../src/codec/nft/constants.ts';
import { decodeNftEvent } from '../../../src/codec/nft/event.ts';
import { cmp } from '../../../src/codec/nft/expression/cmp.ts';
import { dnat } from '../../../src/codec/nft/expression/nat.ts';
import { payload } from '../../../src/codec/nft/expression/payload.ts';
import { scanElements } from '../../../src/codec/nft/scan.ts';
import { decodeElements, decodeSet } from '../../../src/codec/nft/set.ts';
import { PodwireError } from '../../../src/lib/errors.ts';

function tolerates(work: () => unknown): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof PodwireError)) throw error;
  }
}

test('any message', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.integer({ min: 0, max: 20 }), (bytes, type) => {
      const message = {
        type: (NFNL_SUBSYS_NFTABLES << 8) | type,
        flags: 0,
        sequence: 0,
        port: 0,
        payload: Buffer.from(bytes),
      };
      for (const decode of [decodeTable, decodeChain, decodeRule, decodeSet, decodeElements, decodeNftEvent])
        tolerates(() => decode(message));
      tolerates(() => scanElements(message, () => {}));
    }),
    { numRuns: 3000 },
  );
});

test('any change of a rule', () => {
  const ours = encodeExpressions([
    payload('th dport'),
    cmp('==', Buffer.from([0, 80])),
    dnat({ family: 4, address: 0, port: 1 }),
  ]);
  fc.assert(
    fc.property(fc.nat(ours.length - 1), fc.integer({ min: 1, max: 255 }), fc.nat(40), (at, change, cut) => {
      const other = Buffer.from(ours.subarray(0, ours.length - cut));
      if (at < other.length) other[at]! ^= change;
      tolerates(() => sameExpressions(ours, other));
      tolerates(() => sameExpressions(other, ours));
    }),
    { numRuns: 3000 },
  );
});
