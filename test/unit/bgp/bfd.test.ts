// BFD: the packet (RFC 5880 section 4.1) and the session (sections 6.2, 6.8), with the clock in the test's hands.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BFD_STATES, type BfdPacket, decodeBfd, encodeBfd } from '../../../routing/bgp/bfd/packet.ts';
import { BfdSession } from '../../../routing/bgp/bfd/session.ts';
import { DecodeError } from '../../../src/lib/errors.ts';

const PACKET: BfdPacket = {
  diagnostic: 1,
  state: 'Up',
  poll: true,
  final: false,
  multiplier: 3,
  myDiscriminator: 1,
  yourDiscriminator: 2,
  desiredTransmitUs: 300_000,
  requiredReceiveUs: 300_000,
};

test('packet, RFC 5880 4.1, both ways', () => {
  const hex = '21e003180000000100000002000493e0000493e000000000';
  assert.equal(encodeBfd(PACKET).toString('hex'), hex);
  assert.deepEqual(decodeBfd(Buffer.from(hex, 'hex')), PACKET);
});

test('packet, RFC 5880 6.8.6: what must be dropped', () => {
  const broken: [string, (bytes: Buffer) => void][] = [
    ['version', bytes => (bytes[0] = 0x41)],
    ['authentication', bytes => (bytes[1]! |= 4)],
    ['multipoint', bytes => (bytes[1]! |= 1)],
    ['multiplier zero', bytes => (bytes[2] = 0)],
    ['length', bytes => (bytes[3] = 23)],
    ['my discriminator zero', bytes => bytes.writeUInt32BE(0, 4)],
    ['your discriminator zero in Up', bytes => bytes.writeUInt32BE(0, 8)],
  ];
  for (const [title, spoil] of broken) {
    const bytes = encodeBfd(PACKET);
    spoil(bytes);
    assert.throws(() => decodeBfd(bytes), DecodeError, title);
  }
});

test('packet: round trip of any value, and any bytes either decode or are refused', () => {
  const u32 = fc.integer({ min: 1, max: 0xffffffff });
  const packets = fc.record({
    diagnostic: fc.integer({ min: 0, max: 31 }),
    state: fc.constantFrom(...BFD_STATES),
    poll: fc.boolean(),
    final: fc.boolean(),
    multiplier: fc.integer({ min: 1, max: 255 }),
    myDiscriminator: u32,
    yourDiscriminator: u32,
    desiredTransmitUs: u32,
    requiredReceiveUs: u32,
  });
  fc.assert(fc.property(packets, packet => assert.deepEqual(decodeBfd(encodeBfd(packet)), { ...packet })));
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), bytes => {
      try {
        decodeBfd(Buffer.from(bytes));
      } catch (error) {
        assert.ok(error instanceof DecodeError);
      }
    }),
  );
});

const session = (discriminator: number) =>
  new BfdSession({ discriminator, transmitMs: 100, receiveMs: 100, multiplier: 3, random: () => 1 });

/** Runs two sessions against each other; `lossy` drops what a sends from then on. */
function run(a: BfdSession, b: BfdSession, fromMs: number, untilMs: number, lossy = false): void {
  for (let now = fromMs; now < untilMs; now += 5) {
    const queue: { to: BfdSession; packet: BfdPacket }[] = [];
    const carry = (from: BfdSession, packets: readonly BfdPacket[]): void => {
      if (lossy && from === a) return;
      for (const packet of packets) queue.push({ to: from === a ? b : a, packet });
    };
    for (const one of [a, b]) if (now >= one.deadlineMs) carry(one, one.timer(now).send);
    for (let hop = queue.shift(); hop !== undefined; hop = queue.shift())
      carry(hop.to, hop.to.received(hop.packet, now).send);
  }
}

test('session, RFC 5880 6.2 and 6.8.4: three-way handshake, then down within the detection time', () => {
  const [a, b] = [session(1), session(2)];
  run(a, b, 0, 3000);
  assert.deepEqual([a.state, b.state], ['Up', 'Up']);
  assert.equal(b.detectionMs, 300);
  run(a, b, 3000, 3180, true);
  assert.equal(b.state, 'Up');
  run(a, b, 3180, 3420, true);
  assert.equal(b.state, 'Down');
  run(a, b, 3420, 6000);
  assert.deepEqual([a.state, b.state], ['Up', 'Up']);
});

test('session, RFC 5880 6.8.16: an administrative stop takes the peer down at once', () => {
  const [a, b] = [session(1), session(2)];
  run(a, b, 0, 3000);
  assert.equal(b.received(a.adminDown(), 3000).changed, 'Down');
});
