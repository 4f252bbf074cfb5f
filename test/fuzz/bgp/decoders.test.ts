// Every decoder is total: any bytes give a value or an error of ours that names a NOTIFICATION, never anything else.
// Mutations of valid messages find more than noise does.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseSelector } from '../../../routing/bgp/calico/selector.ts';
import { DEFAULT_CONTEXT, type MessageContext } from '../../../routing/bgp/packet/context.ts';
import { BgpMessageError } from '../../../routing/bgp/packet/error.ts';
import { peekMessage } from '../../../routing/bgp/packet/header.ts';
import {
  decodeNotification,
  describeNotification,
} from '../../../routing/bgp/packet/message/notification.ts';
import { decodeOpen } from '../../../routing/bgp/packet/message/open.ts';
import { decodeRouteRefresh } from '../../../routing/bgp/packet/message/route-refresh.ts';
import {
  decodeUpdate,
  ENCODE_SCRATCH_BYTES,
  encodeAnnouncements,
} from '../../../routing/bgp/packet/message/update.ts';
import { PathAttributes } from '../../../routing/bgp/packet/path-attributes.ts';
import { PrefixBatch } from '../../../routing/bgp/packet/prefix-batch.ts';
import { formatCidr, makeCidr } from '../../../src/lib/cidr.ts';
import { DecodeError } from '../../../src/lib/errors.ts';

const RUNS = { numRuns: Number(process.env.PODWIRE_FUZZ_RUNS ?? 3000) };
const scratch = Buffer.alloc(ENCODE_SCRATCH_BYTES);
const u32 = fc.integer({ min: 0, max: 0xffffffff });

function total(decode: () => void): void {
  try {
    decode();
  } catch (error) {
    if (!(error instanceof BgpMessageError)) throw error;
    assert.ok(error.errorCode >= 1 && error.errorCode <= 7);
  }
}

const context: fc.Arbitrary<MessageContext> = fc.record({
  as4: fc.boolean(),
  external: fc.boolean(),
  addPath4: fc.boolean(),
  addPath6: fc.boolean(),
  maxMessageBytes: fc.constantFrom(4096, 65535),
});

/** Ordinary objects, as the decoders make. */
const PLAIN = { noNullPrototype: true } as const;

const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const attributes = fc
  .record({
    origin: fc.integer({ min: 0, max: 2 }),
    asPath: fc.array(
      fc.record(
        {
          type: fc.constantFrom(1, 2),
          asns: fc.array(fc.integer({ min: 1, max: 0xffffffff }), { minLength: 1, maxLength: 40 }),
        },
        PLAIN,
      ),
      { maxLength: 4 },
    ),
    med: optional(u32),
    localPref: optional(u32),
    atomicAggregate: fc.boolean(),
    aggregator: optional(fc.record({ asn: fc.integer({ min: 1, max: 0xffffffff }), address: u32 })),
    communities: optional(fc.array(u32, { minLength: 1, maxLength: 80 })),
    originatorId: optional(u32),
    clusterList: optional(fc.array(u32, { minLength: 1, maxLength: 8 })),
  })
  .map(fields => new PathAttributes().with(fields));

const prefixes = (bytes: 4 | 16) =>
  fc.array(
    fc
      .tuple(fc.uint8Array({ minLength: bytes, maxLength: bytes }), fc.integer({ min: 0, max: bytes * 8 }))
      .map(([address, length]) => makeCidr(address, length)),
    { minLength: 1, maxLength: 60 },
  );

function announce(set: PathAttributes, cidrs: ReturnType<typeof makeCidr>[], ctx: MessageContext): Buffer[] {
  const batch = new PrefixBatch();
  batch.reset(cidrs[0]!.family);
  for (const [i, cidr] of cidrs.entries()) batch.push(cidr, i);
  const messages: Buffer[] = [];
  encodeAnnouncements(batch, set, ctx, scratch, message => messages.push(Buffer.from(message)));
  return messages;
}

test('UPDATE: what is encoded decodes to the same, in every context (RFC 4271, 4760, 6793, 7911, 8950)', () => {
  fc.assert(
    fc.property(
      attributes,
      fc.constantFrom(4, 16) as fc.Arbitrary<4 | 16>,
      fc.boolean(),
      context,
      fc.nat(),
      (set, size, v6, ctx, pick) => {
        const nextHop = size === 16 || v6 ? 'fd00::1' : '10.0.0.1';
        const cidrs = fc.sample(prefixes(size), { seed: pick, numRuns: 1 })[0]!;
        const decoded = announce(set.with({ nextHop }), cidrs, ctx).map(message =>
          decodeUpdate(message, ctx),
        );
        assert.deepEqual(
          decoded.flatMap(update => update.announced.map(one => formatCidr(one.cidr))),
          cidrs.map(formatCidr),
        );
        for (const update of decoded) {
          assert.deepEqual(update.problems, []);
          assert.deepEqual(update.attributes?.communities, set.communities);
          assert.equal(update.attributes?.med, set.med);
          assert.equal(update.attributes?.localPref, ctx.external ? undefined : set.localPref);
          if (ctx.as4) assert.deepEqual(update.attributes?.asPath, set.asPath);
        }
      },
    ),
    { numRuns: Math.min(RUNS.numRuns, 1000) },
  );
});

test('UPDATE: mutations of valid messages (RFC 7606)', () => {
  const mutation = fc.array(fc.tuple(fc.nat(400), fc.integer({ min: 0, max: 255 })), {
    minLength: 1,
    maxLength: 8,
  });
  fc.assert(
    fc.property(attributes, context, mutation, fc.nat(200), (set, ctx, changes, cut) => {
      const [message] = announce(
        set.with({ nextHop: '10.0.0.1' }),
        [makeCidr(Uint8Array.of(10, 1, 2, 0), 24)],
        DEFAULT_CONTEXT,
      );
      for (const [at, value] of changes) message![19 + (at % (message!.length - 19))] = value;
      total(() => decodeUpdate(message!, ctx));
      const short = message!.subarray(0, Math.max(23, message!.length - cut));
      total(() => decodeUpdate(short, ctx));
    }),
    RUNS,
  );
});

test('OPEN, NOTIFICATION, ROUTE-REFRESH, header: any bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 0, maxLength: 120 }), body => {
      const header = Buffer.concat([Buffer.alloc(19, 0xff), body]);
      if (body.length >= 10) total(() => void decodeOpen(header));
      if (body.length >= 10) {
        header[19] = 4;
        total(() => void decodeOpen(header));
      }
      if (body.length >= 2) describeNotification(decodeNotification(header));
      if (body.length >= 4) total(() => void decodeRouteRefresh(header));
      total(() => void peekMessage(Buffer.from(body), 0, body.length, 4096));
    }),
    RUNS,
  );
});

test('selectors: any text', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 40 }), text => {
      try {
        parseSelector(text)({ a: 'b' });
      } catch (error) {
        assert.ok(error instanceof DecodeError);
      }
    }),
    RUNS,
  );
});
