// iptables rules as iptables-nft keeps them: rule text to entry to expressions and back, the forms that iptables-nft has and
// we do not write, and changes of a table as a batch.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NftBatch } from '../../../src/codec/nft/batch.ts';
import type { RuleInfo } from '../../../src/codec/nft/chain.ts';
import { encodeExpressions } from '../../../src/codec/nft/compare.ts';
import { bitwise } from '../../../src/codec/nft/expression/bitwise.ts';
import { cmp } from '../../../src/codec/nft/expression/cmp.ts';
import { counter } from '../../../src/codec/nft/expression/counter.ts';
import type { Expression } from '../../../src/codec/nft/expression/expression.ts';
import { verdict } from '../../../src/codec/nft/expression/immediate.ts';
import { lookup } from '../../../src/codec/nft/expression/lookup.ts';
import { masquerade } from '../../../src/codec/nft/expression/masquerade.ts';
import { meta } from '../../../src/codec/nft/expression/meta.ts';
import { payload } from '../../../src/codec/nft/expression/payload.ts';
import { range } from '../../../src/codec/nft/expression/range.ts';
import { isSameRule } from '../../../src/codec/xtables/edit.ts';
import { LAYOUT, type XtablesFamily } from '../../../src/codec/xtables/layout.ts';
import { decodeNftRule } from '../../../src/codec/xtables/nft-entry.ts';
import { commentOf, encodeNftRule } from '../../../src/codec/xtables/nft-rule.ts';
import { NftTableEdit } from '../../../src/codec/xtables/nft-table.ts';
import { type Piece, RuleEncoder } from '../../../src/codec/xtables/rule.ts';

const ENCODERS = ([4, 6] as const).map(
  family => new RuleEncoder({ family, isChain: name => /^[A-Z]+-/.test(name), supports: () => true }),
);
const encoder = (family: XtablesFamily): RuleEncoder => ENCODERS[family === 4 ? 0 : 1]!;
const same = (a: Piece, b: Piece, family: XtablesFamily): boolean =>
  isSameRule(a, b, LAYOUT[family].nfcache, LAYOUT[family]);
const bytesOf = (piece: Piece, family: XtablesFamily): Buffer =>
  encodeExpressions(encodeNftRule(piece, family).expressions);

const RULES: [rule: string, family?: XtablesFamily][] = [
  ['-j ACCEPT'],
  ['-j RETURN'],
  ['-g CNI-X'],
  [''],
  ['-s 10.1.0.0/16 ! -d 10.1.2.3 -j DROP'],
  ['-s 10.1.0.0/20 -j DROP'],
  ['-s 255.0.255.0/255.0.255.0 -j DROP'],
  ['! -i br0 -o veth+ -j CNI-X'],
  ['-i fifteencharname -j CNI-X'],
  ['-p tcp -m tcp --dport 80 ! --sport 1:100 -j CNI-X'],
  ['! -p udp -j CNI-X'],
  ['-p udp -m comment --comment "a \\"b\\"" -m multiport --dports 1,2:4 -j CNI-X'],
  ['-m mark ! --mark 0x1/0xff -j MASQUERADE'],
  ['-m conntrack --ctstate NEW,RELATED -m addrtype --dst-type LOCAL -j MARK --set-xmark 0x2000/0x2000'],
  ['-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.1.0.5:8080'],
  ['-p sctp -m sctp --dport 80 -j DNAT --to-destination [fd00::5]:8080', 6],
  ['-s fd00::/64 ! -d fd00:1::/57 -p tcp -j MASQUERADE', 6],
  ['-s fd00::1 -j CNI-X', 6],
];

test('a rule goes into expressions and comes back the same', () => {
  for (const [rule, family = 4] of RULES) {
    const piece = encoder(family).encode(rule);
    const back = decodeNftRule(family, bytesOf(piece, family));
    assert.ok(back !== undefined && same(piece, back, family), rule);
    assert.equal(back.jump, piece.jump);
  }
});

test('rules that differ do not look the same afterwards', () => {
  for (const [rule, family = 4] of RULES)
    for (const [other, otherFamily = 4] of RULES) {
      if (rule === other || family !== otherFamily) continue;
      const back = decodeNftRule(family, bytesOf(encoder(family).encode(other), family))!;
      assert.ok(!same(encoder(family).encode(rule), back, family), `${rule} and ${other}`);
    }
});

const u16 = (port: number): Buffer => Buffer.of(port >> 8, port & 255);
const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

test('forms of iptables-nft’s own are read as the same rules', () => {
  const tcp = [meta('l4proto'), cmp('==', Buffer.of(6))];
  const FORMS: [rule: string, expressions: Expression[], comment?: string][] = [
    [
      '-p tcp -m tcp --dport 80 -j ACCEPT',
      [...tcp, payload('th dport'), cmp('==', u16(80)), counter(), verdict('accept')],
    ],
    [
      '-p tcp -m tcp ! --sport 1:9 --dport 80 -j ACCEPT',
      [
        ...tcp,
        payload('th sport'),
        range('!=', u16(1), u16(9)),
        payload('th dport'),
        cmp('==', u16(80)),
        counter(),
        verdict('accept'),
      ],
    ],
    [
      '-m mark --mark 0x2000/0x2000 -j MASQUERADE',
      [meta('mark'), bitwise(u32(0x2000)), cmp('==', u32(0x2000)), counter(), masquerade()],
    ],
    ['-m comment --comment hello -j CNI-X', [counter(), verdict({ jump: 'CNI-X' })], 'hello'],
    // nft's own interfaces fill the register.
    ['-i br0 -j DROP', [meta('iifname'), cmp('==', Buffer.from('br0'.padEnd(16, '\0'))), verdict('drop')]],
  ];
  for (const [rule, expressions, comment] of FORMS) {
    const back = decodeNftRule(4, encodeExpressions(expressions), comment);
    assert.ok(back !== undefined && same(encoder(4).encode(rule), back, 4), rule);
  }
});

test('what is not understood is no entry, and equals none', () => {
  for (const expressions of [
    [payload('ip saddr'), lookup('set'), verdict('accept')],
    [payload('th dport'), cmp('==', u16(80)), verdict('accept')],
    [meta('nfproto'), cmp('==', Buffer.of(2)), verdict('accept')],
  ])
    assert.equal(decodeNftRule(4, encodeExpressions(expressions)), undefined);
  for (const bytes of [
    Buffer.alloc(3),
    Buffer.from('ffffffff', 'hex'),
    Buffer.from('0800010041414141', 'hex'),
  ])
    try {
      decodeNftRule(4, bytes);
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'DECODE');
    }
});

test('a rule’s comment, wherever it stands', () => {
  const comments = [
    '-m comment --comment "one two" -j ACCEPT',
    '-p tcp -m tcp --dport 1 -m comment --comment "one two" -j ACCEPT',
  ].map(rule => commentOf(encoder(4).encode(rule), 4));
  assert.deepEqual(comments, ['one two', 'one two']);
  assert.equal(commentOf(encoder(4).encode('-j ACCEPT'), 4), undefined);
});

/** A table in memory; what a batch does to it. */
function tableWith(rules: string[]): { edit: NftTableEdit; operations: () => string[] } {
  const infos: RuleInfo[] = rules.map((rule, i) => ({
    table: 'filter',
    chain: 'FORWARD',
    handle: BigInt(i + 1),
    expressions: bytesOf(encoder(4).encode(rule), 4),
  }));
  const edit = new NftTableEdit(4, 'filter', {
    chainNames: () => ['FORWARD', 'CNI-OLD'],
    hasChain: name => ['FORWARD', 'CNI-OLD'].includes(name),
    rules: chain => (chain === 'FORWARD' ? infos : []),
  });
  return {
    edit,
    operations: () => {
      const batch = new NftBatch();
      edit.write(batch);
      return batch.operations.slice(1);
    },
  };
}

test('a table is changed by no more than what differs, in an order the kernel takes', () => {
  const { edit, operations } = tableWith(['-j CNI-OLD', '-s 10.0.0.1 -j ACCEPT']);
  assert.equal(edit.changed, false);
  assert.equal(edit.findRule('FORWARD', encoder(4).encode('-s 10.0.0.1 -j ACCEPT')), 1);
  assert.equal(edit.findRule('FORWARD', encoder(4).encode('-s 10.0.0.2 -j ACCEPT')), -1);
  assert.equal(edit.addChain('FORWARD'), false);
  assert.equal(edit.addChain('CNI-NEW'), true);
  edit.insertRule('FORWARD', encoder(4).encode('-j CNI-NEW'), 0);
  edit.insertRule('CNI-NEW', encoder(4).encode('-j RETURN'));
  edit.removeRuleAt('FORWARD', 1);
  assert.throws(() => edit.rules('CNI-GONE'), { code: 'NO_CHAIN' });
  edit.deleteChain('CNI-OLD');
  assert.equal(edit.hasChain('CNI-OLD'), false);
  assert.throws(() => edit.deleteChain('CNI-NEW'), { code: 'CHAIN_NOT_EMPTY' });
  assert.deepEqual(edit.chainNames().sort(), ['CNI-NEW', 'FORWARD']);
  assert.deepEqual(operations(), [
    'add table ip filter',
    'add chain ip filter CNI-NEW',
    'delete rule ip filter FORWARD handle 1',
    'add rule ip filter FORWARD',
    'add rule ip filter CNI-NEW',
    'delete chain ip filter CNI-OLD',
  ]);
});

test('the kernel’s own chains are made when a rule needs them, not when they are looked at', () => {
  const { edit, operations } = tableWith([]);
  assert.deepEqual(edit.rules('OUTPUT'), []);
  edit.insertRule('INPUT', encoder(4).encode('-j ACCEPT'));
  assert.deepEqual(operations(), [
    'add table ip filter',
    'add chain ip filter INPUT',
    'add rule ip filter INPUT',
  ]);
});
