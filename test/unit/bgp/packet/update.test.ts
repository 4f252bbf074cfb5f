// UPDATE as bytes and as a value, and every disposition of RFC 7606 section 7.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_CONTEXT, type MessageContext } from '../../../../routing/bgp/packet/context.ts';
import { BgpMessageError } from '../../../../routing/bgp/packet/error.ts';
import {
  decodeUpdate,
  ENCODE_SCRATCH_BYTES,
  encodeAnnouncements,
  encodeEndOfRib,
  encodeWithdrawals,
} from '../../../../routing/bgp/packet/message/update.ts';
import { PathAttributes } from '../../../../routing/bgp/packet/path-attributes.ts';
import { PrefixBatch } from '../../../../routing/bgp/packet/prefix-batch.ts';
import { formatCidr, requireCidr } from '../../../../src/lib/cidr.ts';

const scratch = Buffer.alloc(ENCODE_SCRATCH_BYTES);

function update(withdrawn: string, attributes: string, nlri: string): Buffer {
  const [w, a, n] = [withdrawn, attributes, nlri].map(hex => Buffer.from(hex.replaceAll(/\s/g, ''), 'hex'));
  const length = 23 + w!.length + a!.length + n!.length;
  const head = Buffer.alloc(21, 0xff);
  head.writeUInt16BE(length, 16);
  head[18] = 2;
  head.writeUInt16BE(w!.length, 19);
  const middle = Buffer.alloc(2);
  middle.writeUInt16BE(a!.length);
  return Buffer.concat([head, w!, middle, a!, n!]);
}

const ORIGIN = '40010100';
const AS_PATH = '40020602010000fde8';
const NEXT_HOP = '4003040a000001';
const BASE = ORIGIN + AS_PATH + NEXT_HOP;
const NLRI = '180a0a01';

function batchOf(...cidrs: string[]): PrefixBatch {
  const batch = new PrefixBatch();
  batch.reset(cidrs[0]!.includes(':') ? 6 : 4);
  for (const [i, cidr] of cidrs.entries()) batch.push(requireCidr(cidr), i + 1);
  return batch;
}

function announce(batch: PrefixBatch, attributes: PathAttributes, context = DEFAULT_CONTEXT): Buffer[] {
  const messages: Buffer[] = [];
  encodeAnnouncements(batch, attributes, context, scratch, m => messages.push(Buffer.from(m)));
  return messages;
}

const RICH = new PathAttributes().with({
  origin: 2,
  asPath: [
    { type: 2, asns: [65000, 4_200_000_000] },
    { type: 1, asns: [1, 2] },
  ],
  nextHop: '10.0.0.1',
  med: 7,
  localPref: 2147482623,
  atomicAggregate: true,
  aggregator: { asn: 4_200_000_000, address: 0x0a000001 },
  communities: [0xfde80001, 0xffffff01],
  extendedCommunities: Uint8Array.of(0, 2, 0xfd, 0xe8, 0, 0, 0, 1),
  largeCommunities: [4_200_000_000, 1, 2],
  originatorId: 0x0a000009,
  clusterList: [1, 2],
  unknown: [{ code: 99, flags: 0xe0, value: Uint8Array.of(1, 2, 3) }],
});

test('UPDATE, RFC 4271 4.3: withdrawn and announced IPv4 prefixes', () => {
  const message = update('100a0b', BASE, `${NLRI} 00 200a000001`);
  const decoded = decodeUpdate(message, DEFAULT_CONTEXT);
  assert.deepEqual(
    decoded.withdrawn.map(n => formatCidr(n.cidr)),
    ['10.11.0.0/16'],
  );
  assert.deepEqual(
    decoded.announced.map(n => formatCidr(n.cidr)),
    ['10.10.1.0/24', '0.0.0.0/0', '10.0.0.1/32'],
  );
  assert.equal(decoded.attributes?.nextHop, '10.0.0.1');
  assert.deepEqual(decoded.attributes?.asPath, [{ type: 2, asns: [65000] }]);
  assert.deepEqual(
    announce(batchOf('10.10.1.0/24'), decoded.attributes!).map(m => m.toString('hex')),
    [update('', BASE, NLRI).toString('hex')],
  );
});

test('UPDATE, all attributes there and back (RFC 1997, 4360, 4456, 6793, 8092), and to another AS without the internal ones', () => {
  const [message] = announce(batchOf('10.1.0.0/16'), RICH);
  assert.deepEqual(decodeUpdate(message!, DEFAULT_CONTEXT).attributes, RICH);
  const external = { ...DEFAULT_CONTEXT, external: true };
  const [out] = announce(batchOf('10.1.0.0/16'), RICH, external);
  assert.deepEqual(
    decodeUpdate(out!, external).attributes,
    RICH.with({ localPref: undefined, originatorId: undefined, clusterList: undefined }),
  );
});

test('UPDATE, RFC 6793 4.2: an old speaker gets AS_TRANS and AS4_PATH, and the two are joined on the way back', () => {
  const old: MessageContext = { ...DEFAULT_CONTEXT, as4: false };
  const [message] = announce(batchOf('10.1.0.0/16'), RICH, old);
  const decoded = decodeUpdate(message!, old);
  assert.deepEqual(decoded.attributes, RICH);
  assert.deepEqual(decoded.problems, []);
});

test('UPDATE, RFC 6793 4.2.3: an AS_PATH longer than AS4_PATH keeps its lead', () => {
  const old: MessageContext = { ...DEFAULT_CONTEXT, as4: false };
  // AS_PATH 100 23456 23456, AS4_PATH 70000 70001
  const attributes = `${ORIGIN} 4002080203 0064 5ba0 5ba0 ${NEXT_HOP} c0110a0202 00011170 00011171`;
  const decoded = decodeUpdate(update('', attributes, NLRI), old);
  assert.deepEqual(decoded.attributes?.asPath, [{ type: 2, asns: [100, 70000, 70001] }]);
});

test('UPDATE, RFC 4760 and 2545: IPv6 with a link-local next hop; RFC 8950: IPv4 with an IPv6 next hop', () => {
  const attributes = new PathAttributes().with({
    asPath: [{ type: 2, asns: [65000] }],
    nextHop: 'fd00::1',
    linkLocalNextHop: 'fe80::1',
  });
  for (const cidrs of [
    ['fd00:1::/64', 'fd00:2::/61', '::/0', 'fd00::5/128'],
    ['10.0.0.0/26', '10.1.0.0/16'],
  ]) {
    const messages = announce(batchOf(...cidrs), attributes);
    const decoded = decodeUpdate(messages[0]!, DEFAULT_CONTEXT);
    assert.deepEqual(
      decoded.announced.map(n => formatCidr(n.cidr)),
      cidrs,
    );
    assert.deepEqual(decoded.attributes, attributes);
    // RFC 7606 5.1: MP_REACH_NLRI stands first.
    assert.equal(messages[0]![24], 14);
  }
});

test('UPDATE, RFC 7911 3: path identifiers in both directions', () => {
  const context = { ...DEFAULT_CONTEXT, addPath4: true, addPath6: true };
  const [message] = announce(batchOf('10.1.0.0/16', '10.1.0.0/16'), RICH, context);
  assert.deepEqual(
    decodeUpdate(message!, context).announced.map(n => n.pathId),
    [1, 2],
  );
  const messages: Buffer[] = [];
  encodeWithdrawals(batchOf('fd00::/64'), context, scratch, m => messages.push(Buffer.from(m)));
  assert.deepEqual(
    decodeUpdate(messages[0]!, context).withdrawn.map(n => [formatCidr(n.cidr), n.pathId]),
    [['fd00::/64', 1]],
  );
});

test('UPDATE, packing: as many prefixes as 4096 bytes hold, 65535 with RFC 8654', () => {
  for (const stem of ['10.', 'fd00:']) {
    const cidrs = Array.from({ length: 3000 }, (_, i) =>
      stem === '10.' ? `10.${i >> 8}.${i & 255}.0/24` : `fd00:${i.toString(16)}::/48`,
    );
    const small = announce(
      batchOf(...cidrs),
      RICH.with({ nextHop: stem === '10.' ? '10.0.0.1' : 'fd00::1' }),
    );
    const large = announce(
      batchOf(...cidrs),
      RICH.with({ nextHop: stem === '10.' ? '10.0.0.1' : 'fd00::1' }),
      { ...DEFAULT_CONTEXT, maxMessageBytes: 65535 },
    );
    assert.ok(small.every(m => m.length <= 4096) && small.slice(0, -1).every(m => m.length > 4060));
    assert.equal(large.length, 1);
    const seen = small.flatMap(m => decodeUpdate(m, DEFAULT_CONTEXT).announced.map(n => formatCidr(n.cidr)));
    assert.equal(new Set(seen).size, 3000);
    const withdrawn: string[] = [];
    encodeWithdrawals(batchOf(...cidrs), DEFAULT_CONTEXT, scratch, m => {
      assert.ok(m.length <= 4096);
      withdrawn.push(...decodeUpdate(Buffer.from(m), DEFAULT_CONTEXT).withdrawn.map(n => formatCidr(n.cidr)));
    });
    assert.equal(new Set(withdrawn).size, 3000);
  }
});

test('End-of-RIB, RFC 4724 2', () => {
  assert.equal(decodeUpdate(encodeEndOfRib(4), DEFAULT_CONTEXT).endOfRib, 4);
  assert.equal(decodeUpdate(encodeEndOfRib(6), DEFAULT_CONTEXT).endOfRib, 6);
  assert.equal(decodeUpdate(update('100a0b', '', ''), DEFAULT_CONTEXT).endOfRib, undefined);
});

test('UPDATE, RFC 4271 5: what is mandatory counts for announcements; a withdrawal may carry other attributes', () => {
  const message = update('180a0b0c', `${ORIGIN}${AS_PATH}`, '');
  const { withdrawn, problems } = decodeUpdate(message, DEFAULT_CONTEXT);
  assert.deepEqual([withdrawn.map(n => formatCidr(n.cidr)), problems], [['10.11.12.0/24'], []]);
});

const WITHDRAW: [title: string, attributes: string, external?: boolean][] = [
  ['7.1 ORIGIN of 2 bytes', `4001020000${AS_PATH}${NEXT_HOP}`],
  ['7.1 ORIGIN 3', `40010103${AS_PATH}${NEXT_HOP}`],
  ['7.2 AS_PATH segment type 9', `${ORIGIN}4002060901 0000fde8${NEXT_HOP}`],
  ['7.2 AS_PATH overrun', `${ORIGIN}4002060202 0000fde8${NEXT_HOP}`],
  ['7.2 AS_PATH segment of length zero', `${ORIGIN}40020202 00${NEXT_HOP}`],
  ['7.3 NEXT_HOP of 3 bytes', `${ORIGIN}${AS_PATH}4003030a0000`],
  ['7.4 MULTI_EXIT_DISC of 3 bytes', `${BASE}800403000000`],
  ['7.5 LOCAL_PREF of 2 bytes inside the AS', `${BASE}4005020000`],
  ['7.8 COMMUNITIES of 3 bytes', `${BASE}c00803000000`],
  ['7.8 COMMUNITIES of 0 bytes', `${BASE}c00800`],
  ['7.9 ORIGINATOR_ID of 5 bytes', `${BASE}8009050000000000`],
  ['7.10 CLUSTER_LIST of 0 bytes', `${BASE}800a00`],
  ['7.14 EXTENDED_COMMUNITIES of 7 bytes', `${BASE}c0100700000000000000`],
  ['RFC 8092 6: LARGE_COMMUNITY of 11 bytes', `${BASE}c0200b${'00'.repeat(11)}`],
  ['3 (d) a mandatory attribute is missing', `${ORIGIN}${NEXT_HOP}`],
  ['3 (d) NEXT_HOP is missing', `${ORIGIN}${AS_PATH}`],
  ['3 (c) ORIGIN with the flags of an optional attribute', `c0010100${AS_PATH}${NEXT_HOP}`],
  ['4 the last attribute overruns the list', `${BASE}c008ff0000`],
  ['4 one byte is left over', `${BASE}c0`],
  ['an unknown well-known attribute', `${BASE}406300`],
];

for (const [title, attributes, external] of WITHDRAW)
  test(`treat-as-withdraw, RFC 7606 ${title}`, () => {
    const context = { ...DEFAULT_CONTEXT, external: external === true };
    const decoded = decodeUpdate(update('', attributes, NLRI), context);
    assert.deepEqual(decoded.announced, []);
    assert.deepEqual(
      decoded.withdrawn.map(n => formatCidr(n.cidr)),
      ['10.10.1.0/24'],
    );
    assert.ok(decoded.problems.some(p => p.disposition === 'withdraw'));
  });

const DISCARD: [title: string, attributes: string, external?: boolean][] = [
  ['7.6 ATOMIC_AGGREGATE with a value', `${BASE}40060100`],
  ['7.7 AGGREGATOR of 6 bytes between four-octet speakers', `${BASE}c00706000000000000`],
  ['7.5 LOCAL_PREF from another AS', `${BASE}40050400000064`, true],
  ['7.9 ORIGINATOR_ID from another AS', `${BASE}80090400000001`, true],
  ['7.10 CLUSTER_LIST from another AS', `${BASE}800a0400000001`, true],
  ['3 (g) ORIGIN twice: the first one counts', `${BASE}40010102`],
  ['RFC 6793 6: AS4_PATH from a four-octet speaker', `${BASE}c01106020100011170`],
];

for (const [title, attributes, external] of DISCARD)
  test(`attribute discard, RFC 7606 ${title}`, () => {
    const context = { ...DEFAULT_CONTEXT, external: external === true };
    const decoded = decodeUpdate(update('', attributes, NLRI), context);
    assert.equal(decoded.announced.length, 1);
    assert.equal(decoded.attributes?.origin, 0);
    assert.equal(decoded.attributes?.localPref, undefined);
    assert.deepEqual(
      decoded.problems.map(p => p.disposition),
      ['discard'],
    );
  });

const RESET: [title: string, message: Buffer, subcode: number][] = [
  [
    'RFC 4271 6.3: withdrawn routes do not fit',
    Buffer.concat([update('', '', '').subarray(0, 19), Buffer.from('00ff0000', 'hex')]),
    1,
  ],
  [
    'RFC 4271 6.3: attributes do not fit',
    Buffer.concat([update('', '', '').subarray(0, 19), Buffer.from('000000ff', 'hex')]),
    1,
  ],
  [
    'RFC 7606 3 (g): MP_REACH_NLRI twice',
    update('', `${'800e09000101040a00000100'.repeat(2)}${BASE}`, ''),
    1,
  ],
  ['RFC 7606 3 (j): prefix of 33 bits', update('', BASE, '210a0a010100'), 10],
  ['RFC 7606 3 (j): prefix cut short', update('', BASE, '180a'), 10],
  ['RFC 7606 5.3: withdrawn prefix of 40 bits', update('280a0a0101', '', ''), 10],
  ['RFC 7606 7.11: MP_REACH_NLRI next hop overruns', update('', `800e0500010140 00 ${BASE}`, ''), 9],
  ['RFC 7606 7.12: MP_UNREACH_NLRI of 2 bytes', update('', '800f020001', ''), 9],
  [
    'RFC 7606 5.2: a bad attribute and nothing to withdraw',
    update('', `40010103${AS_PATH}${NEXT_HOP}`, ''),
    1,
  ],
];

for (const [title, message, subcode] of RESET)
  test(`session reset, ${title}`, () => {
    assert.throws(
      () => decodeUpdate(message, DEFAULT_CONTEXT),
      (thrown: unknown) =>
        thrown instanceof BgpMessageError && thrown.errorCode === 3 && thrown.errorSubcode === subcode,
    );
  });
