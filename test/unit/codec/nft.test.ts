import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeMessages } from '../../../src/codec/netlink/message.ts';
import { NftBatch } from '../../../src/codec/nft/batch.ts';
import { encodeExpressions, sameExpressions } from '../../../src/codec/nft/compare.ts';
import { decodeNftEvent } from '../../../src/codec/nft/event.ts';
import { cmp } from '../../../src/codec/nft/expression/cmp.ts';
import { updateSet } from '../../../src/codec/nft/expression/dynset.ts';
import { fibSourceType } from '../../../src/codec/nft/expression/fib.ts';
import { numgenRandom } from '../../../src/codec/nft/expression/numgen.ts';
import { payload } from '../../../src/codec/nft/expression/payload.ts';
import { rejectReset, rejectUnreachable } from '../../../src/codec/nft/expression/reject.ts';
import { MAX_LIST_BYTES, parseVerdict, scanElements, verdictText } from '../../../src/codec/nft/scan.ts';
import { decodeSet, setInfo } from '../../../src/codec/nft/set.ts';

/** As the kernel (6.18) tells back what nft 1.0.6 made of the text. */
const RECORDED: [string, Parameters<typeof encodeExpressions>[0], string][] = [
  [
    'reject',
    [rejectUnreachable(4)],
    '24000100 0b00010072656a6563740000 14000200 0800010000000000 0500020003000000',
  ],
  ['reject with tcp reset', [rejectReset()], '1c000100 0b00010072656a6563740000 0c000200 0800010000000001'],
];

for (const [text, ours, hex] of RECORDED)
  test(text, () => {
    assert.ok(sameExpressions(encodeExpressions(ours), Buffer.from(hex.replaceAll(' ', ''), 'hex')));
  });

test('numgen random mod 5', () => {
  // NFTA_NG_DREG, MODULUS, TYPE, OFFSET.
  const attributes = '0800010000000001 0800020000000005 0800030000000001 0800040000000000'.replaceAll(
    ' ',
    '',
  );
  assert.match(encodeExpressions([numgenRandom(5)]).toString('hex'), new RegExp(`${attributes}$`));
});

test('another value, another expression, one more or one less is another rule', () => {
  const bytes = encodeExpressions([payload('th dport'), cmp('==', Buffer.from([0, 80]))]);
  for (const other of [
    [payload('th dport'), cmp('==', Buffer.from([0, 81]))],
    [payload('th sport'), cmp('==', Buffer.from([0, 80]))],
    [payload('th dport')],
    [payload('th dport'), cmp('!=', Buffer.from([0, 80]))],
    [fibSourceType(), cmp('==', Buffer.from([0, 80]))],
    [payload('th dport'), cmp('==', Buffer.from([0, 80])), updateSet('s', 1000)],
  ])
    assert.ok(!sameExpressions(bytes, encodeExpressions(other)));
  assert.ok(
    !sameExpressions(encodeExpressions([updateSet('s', 1000)]), encodeExpressions([updateSet('s', 2000)])),
  );
});

const latin1 = (length: number) =>
  fc.uint8Array({ minLength: length, maxLength: length }).map(bytes => Buffer.from(bytes).toString('latin1'));

test('elements as text: what is written is read, in as many messages as it takes', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ key: latin1(12), data: latin1(8) }), { minLength: 1, maxLength: 50 }),
      fc.integer({ min: 1, max: 60 }),
      (few, times) => {
        const elements = Array.from({ length: times }, () =>
          few.map(({ key, data }) => ({ key, data })),
        ).flat();
        const batch = new NftBatch();
        batch.addTextElements('ip', 'table', 'set', 'data', elements);
        batch.finish();
        const found: { key: string; data: string }[] = [];
        const messages = decodeMessages(batch.writer.view());
        for (const message of messages) {
          assert.ok(message.payload.length < MAX_LIST_BYTES + 200);
          scanElements(message, (key, data) => found.push({ key, data }));
        }
        assert.deepEqual(found, elements);
        assert.equal(batch.operations[1], 'add element ip table set');
      },
    ),
    { numRuns: 30 },
  );
});

test('verdict elements and their text', () => {
  const elements = ['goto lb-3', 'jump x', 'drop', 'accept', 'return'].map((data, n) => ({
    key: `k${n}\0\0`,
    data,
  }));
  const batch = new NftBatch();
  batch.delTextElements('ip6', 'table', 'map', 'verdict', elements);
  batch.finish();
  const found: { key: string; data: string }[] = [];
  for (const message of decodeMessages(batch.writer.view()))
    scanElements(message, (key, data) => found.push({ key, data }));
  assert.deepEqual(found, elements);
  for (const { data } of elements) assert.equal(verdictText(parseVerdict(data)), data);
  assert.throws(() => parseVerdict('queue'), { code: 'DECODE' });
});

test('a set is told back as it was declared', () => {
  for (const set of [
    { name: 'a', key: ['ipv4_addr', 'inet_proto', 'inet_service'], data: 'verdict' },
    { name: 'b', key: ['ipv6_addr'], dynamic: true },
    { name: 'c', key: ['integer'], data: ['ipv4_addr', 'inet_service'] },
  ] as const) {
    const batch = new NftBatch();
    batch.addSet('ip', 'table', set);
    batch.finish();
    const told = decodeSet(decodeMessages(batch.writer.view())[1]!);
    assert.deepEqual(told, setInfo('table', set));
  }
});

test('notifications name what changed', () => {
  const batch = new NftBatch();
  batch
    .addTable('ip', 't')
    .addChain('ip6', 't', { name: 'c' })
    .flushChain('inet', 't', 'c')
    .delSet('ip', 't', 's')
    .addTextElements('ip', 't', 's', 'set', [{ key: 'abcd', data: '' }]);
  batch.finish();
  const events = decodeMessages(batch.writer.view()).map(decodeNftEvent);
  assert.deepEqual(
    events.map(
      event =>
        event &&
        `${event.deleted ? 'del' : 'new'} ${event.kind} ${event.family} ${event.table} ${event.name}`,
    ),
    [
      undefined,
      'new table ip t ',
      'new chain ip6 t c',
      'del rule inet t c',
      'del set ip t s',
      'new elements ip t s',
      undefined,
    ],
  );
});
