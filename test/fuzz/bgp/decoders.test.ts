// Every decoder is total: any bytes give a value or an error of ours that names a NOTIFICATION, never anything else.
// Mutations of valid messages find more than noise does.
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseSelector } from '../../../routing/bgp/calico/selector.ts';
import type { Capabilities } from '../../../routing/bgp/packet/capability/capabilities.ts';
import { DEFAULT_CONTEXT, type MessageContext } from '../../../routing/bgp/packet/context.ts';
import { BgpMessageError } from '../../../routing/bgp/packet/error.ts';
import { peekMessage } from '../../../routing/bgp/packet/header.ts';
import { encodeKeepalive } from '../../../routing/bgp/packet/message/keepalive.ts';
import {
  decodeNotification,
  describeNotification,
  encodeNotification,
} from '../../../routing/bgp/packet/message/notification.ts';
import { decodeOpen, encodeOpen } from '../../../routing/bgp/packet/message/open.ts';
import { decodeRouteRefresh, encodeRouteRefresh } from '../../../routing/bgp/packet/message/route-refresh.ts';
import {
  decodeUpdate,
  ENCODE_SCRATCH_BYTES,
  encodeAnnouncements,
  encodeEndOfRib,
  encodeWithdrawals,
} from '../../../routing/bgp/packet/message/update.ts';
import { decodeNlri } from '../../../routing/bgp/packet/nlri.ts';
import { PathAttributes } from '../../../routing/bgp/packet/path-attributes.ts';
import { PrefixBatch } from '../../../routing/bgp/packet/prefix-batch.ts';
import { Connection } from '../../../routing/bgp/session/connection.ts';
import { formatCidr, hasHostBits, makeCidr } from '../../../src/lib/cidr.ts';
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

const family = fc.constantFrom(4 as const, 6 as const);
const twice = { minLength: 0, maxLength: 2 } as const;
const families = fc.uniqueArray(family, twice);

const capabilities: fc.Arbitrary<Capabilities> = fc.record(
  {
    families: families.map(list => list.toSorted()),
    routeRefresh: fc.boolean(),
    enhancedRouteRefresh: fc.boolean(),
    extendedMessage: fc.boolean(),
    extendedNextHop: fc.boolean(),
    as4: fc.option(fc.integer({ min: 1, max: 0xffffffff }), { nil: undefined }),
    gracefulRestart: optional(
      fc.record(
        {
          restarting: fc.boolean(),
          notification: fc.boolean(),
          restartSeconds: fc.integer({ min: 0, max: 4095 }),
          families: fc.uniqueArray(fc.record({ family, forwarding: fc.boolean() }, PLAIN), {
            ...twice,
            selector: one => one.family,
          }),
        },
        PLAIN,
      ),
    ),
    addPath: fc.uniqueArray(
      fc
        .record({ family, send: fc.boolean(), receive: fc.boolean() }, PLAIN)
        .filter(one => one.send || one.receive),
      { ...twice, selector: one => one.family },
    ),
    unknown: fc.array(
      fc.record(
        { code: fc.integer({ min: 200, max: 250 }), value: fc.uint8Array({ maxLength: 120 }) },
        PLAIN,
      ),
      { maxLength: 4 },
    ),
  },
  PLAIN,
);

const opens = fc
  .record(
    {
      asn: fc.integer({ min: 1, max: 65535 }),
      holdTimeSeconds: fc.constantFrom(0, 3, 90, 65535),
      routerId: fc.integer({ min: 1, max: 0xffffffff }),
      capabilities,
    },
    PLAIN,
  )
  // With the capability it is the number that counts (RFC 6793 section 4.1).
  .map(open => ({ ...open, asn: open.capabilities.as4 ?? open.asn }));

test('OPEN: what is encoded decodes to the same (RFC 4271 4.2, 5492, 9072)', () => {
  fc.assert(
    fc.property(opens, open => assert.deepEqual(decodeOpen(encodeOpen(open)), open)),
    RUNS,
  );
});

const mutation = fc.array(fc.tuple(fc.nat(600), fc.integer({ min: 0, max: 255 })), {
  minLength: 1,
  maxLength: 8,
});

/** The message with bytes changed behind the header. */
function mutated(message: Buffer, changes: readonly (readonly [number, number])[]): Buffer {
  const copy = Buffer.from(message);
  if (copy.length > 19) for (const [at, value] of changes) copy[19 + (at % (copy.length - 19))] = value;
  return copy;
}

test('OPEN: mutations of valid messages (RFC 4271 6.2)', () => {
  fc.assert(
    fc.property(opens, mutation, (open, changes) =>
      total(() => void decodeOpen(mutated(encodeOpen(open), changes))),
    ),
    RUNS,
  );
});

test('NOTIFICATION and ROUTE-REFRESH: there and back (RFC 4271 4.5, 2918 3, 7313 3.2)', () => {
  const notifications = fc.record(
    {
      code: fc.integer({ min: 0, max: 255 }),
      subcode: fc.integer({ min: 0, max: 255 }),
      data: fc.uint8Array({ maxLength: 300 }),
    },
    PLAIN,
  );
  fc.assert(
    fc.property(notifications, one => {
      assert.deepEqual(decodeNotification(encodeNotification(one)), one);
      assert.equal(typeof describeNotification(one), 'string');
    }),
    RUNS,
  );
  fc.assert(
    fc.property(family, fc.integer({ min: 0, max: 2 }), (of, subtype) =>
      assert.deepEqual(decodeRouteRefresh(encodeRouteRefresh(of, subtype)), { family: of, subtype }),
    ),
    RUNS,
  );
});

test('NLRI: any bytes give prefixes without host bits, or the error of RFC 7606 3 (j)', () => {
  const batch = new PrefixBatch();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), family, fc.boolean(), (bytes, of, addPath) => {
      total(() => {
        decodeNlri(Buffer.from(bytes), 0, bytes.length, of, addPath, batch);
        for (const { cidr } of batch.toArray()) assert.equal(hasHostBits(cidr), false);
      });
    }),
    RUNS,
  );
});

test('withdrawals of both families: there and back, and End-of-RIB is none of them (RFC 4271 4.3, 4760 4, 4724 2)', () => {
  fc.assert(
    fc.property(fc.constantFrom(4, 16) as fc.Arbitrary<4 | 16>, context, fc.nat(), (size, ctx, seed) => {
      const cidrs = fc.sample(prefixes(size), { seed, numRuns: 1 })[0]!;
      const batch = new PrefixBatch();
      batch.reset(cidrs[0]!.family);
      for (const [i, cidr] of cidrs.entries()) batch.push(cidr, i);
      const decoded: string[] = [];
      encodeWithdrawals(batch, ctx, scratch, message => {
        const update = decodeUpdate(Buffer.from(message), ctx);
        assert.deepEqual([update.announced, update.problems, update.endOfRib], [[], [], undefined]);
        decoded.push(...update.withdrawn.map(one => formatCidr(one.cidr)));
      });
      assert.deepEqual(decoded, cidrs.map(formatCidr));
    }),
    { numRuns: Math.min(RUNS.numRuns, 2000) },
  );
});

test('a stream cut anywhere is the same messages (RFC 4271 4.1)', () => {
  const messages = [encodeKeepalive(), encodeRouteRefresh(4), encodeEndOfRib(6), encodeEndOfRib(4)];
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...messages), { minLength: 1, maxLength: 12 }),
      fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 30 }),
      (sent, cuts) => {
        const stream = Buffer.concat(sent);
        const got: string[] = [];
        const socket = Object.assign(new EventEmitter(), { setNoDelay: () => undefined });
        new Connection(1, socket as unknown as Socket, {
          message: (_connection, _type, buffer, start, end) => {
            got.push(buffer.toString('hex', start, end));
          },
          malformed: (_connection, error) => assert.fail(error),
          received: () => undefined,
          closed: () => undefined,
          drained: () => undefined,
        });
        let at = 0;
        for (let i = 0; at < stream.length; i++) {
          const next = at + cuts[i % cuts.length]!;
          socket.emit('data', stream.subarray(at, next));
          at = next;
        }
        assert.deepEqual(
          got,
          sent.map(message => message.toString('hex')),
        );
      },
    ),
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
