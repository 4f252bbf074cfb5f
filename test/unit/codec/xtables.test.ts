// The codec of legacy tables: rules to the bytes that iptables was seen to write, and edits of whole tables against a
// model of lists of texts.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { digestChain, digestRules } from '../../../src/codec/xtables/digest.ts';
import { TableEdit } from '../../../src/codec/xtables/edit.ts';
import { LAYOUT, REPLACE_HEADER } from '../../../src/codec/xtables/layout.ts';
import { splitWords } from '../../../src/codec/xtables/option-reader.ts';
import { RuleEncoder } from '../../../src/codec/xtables/rule.ts';
import { decodeTable, isUnchanged, type XtTable } from '../../../src/codec/xtables/table.ts';
import {
  applyCommands,
  parseRestore,
  type TableCommand,
  writeRestore,
} from '../../../src/codec/xtables/transaction.ts';
import { RULE_SETS } from '../../harness/iptables-rules.ts';
import { emptyTable } from '../../harness/xtables-table.ts';

const FIXTURE = join(import.meta.dirname, '../../fixtures/xtables/entries.json');
const RECORDED = JSON.parse(readFileSync(FIXTURE, 'utf8')) as Record<'ip4' | 'ip6', Record<string, string>>;

const supports = (): boolean => true;
const encoder = (family: 4 | 6, isChain = (name: string): boolean => name === 'LEAF'): RuleEncoder =>
  new RuleEncoder({ family, isChain, supports });

const shorten = (hex: string): string => hex.replace(/(?:00){6,}/g, zeros => `(${zeros.length / 2})`);

describe('rules', () => {
  for (const family of [4, 6] as const)
    for (const { rules } of RULE_SETS[family])
      for (const rule of rules)
        test(`IPv${family}: ${rule || '(a rule that does nothing)'}`, () => {
          const { bytes, at, size } = encoder(family).encode(rule);
          assert.equal(shorten(bytes.toString('hex', at, at + size)), RECORDED[`ip${family}`][rule]);
        });

  test('what is not plainly right is refused, and leaves nothing behind for the next rule', () => {
    const one = encoder(4);
    for (const rule of [
      '-m comment',
      '-m conntrack -j ACCEPT',
      '-j MARK',
      '-m comment --comment "open',
      `-m comment --comment ${'x'.repeat(256)}`,
      '-p tcp -m tcp --dport 90:80',
      '-p tcp -m tcp --dport 080',
      '-m mark --mark 0x100000000',
      '-m statistic --mode random --probability 1.1',
      '-m statistic --probability 0.5',
      '-m statistic --mode nth --every 3',
      '-m statistic --mode nth --every 3 --packet 3',
      '-m recent --name X',
      '-m conntrack --ctstate WORN',
      '-m multiport --dports 80',
      `-p tcp -m multiport --dports ${Array.from({ length: 16 }, (_, i) => i + 1).join(',')}`,
      '-i interface-with-a-long-name',
      '-s fd00::1',
      '-s 10.0.0.0/33',
      '! -s 0.0.0.0/0',
      '-j LEAF -j LEAF',
      '-j LEAF -m comment --comment late',
      '-j DNAT',
      '-p tcp -j DNAT --to-destination 10.0.0.1:0',
      '-j SNAT --to-source 10.0.0.1:80',
      '-j REJECT --reject-with tcp-reset',
      '-j REJECT --reject-with icmp6-no-route',
      '-j NOWHERE',
      '-j __proto__',
      '-m toString',
      '-g ACCEPT',
      'stray',
    ])
      assert.throws(() => one.encode(rule), { code: 'XTABLES_UNSUPPORTED' }, rule);
    const { bytes, at, size } = one.encode('-j LEAF');
    assert.equal(shorten(bytes.toString('hex', at, at + size)), RECORDED.ip4['-j LEAF']);
  });

  test('an extension that the kernel has in older revisions only is refused', () => {
    const old = new RuleEncoder({ family: 4, isChain: supports, supports: (_, name) => name !== 'DNAT' });
    assert.throws(() => old.encode('-j DNAT --to-destination 10.0.0.1'), { code: 'XTABLES_UNSUPPORTED' });
    old.encode('-j MARK --set-xmark 0x1/0x1');
  });

  test('words are split as iptables-restore does', () => {
    assert.deepEqual(splitWords('-m  comment --comment "a \\"b\\\\ c" -j X'), [
      '-m',
      'comment',
      '--comment',
      'a "b\\ c',
      '-j',
      'X',
    ]);
    assert.deepEqual(splitWords('--comment ""'), ['--comment', '']);
  });
});

test('a transaction is written and read', () => {
  const text = `*nat
:A - [0:0]
:B - [0:0]
-A A -s 10.0.0.0/8 -j B
-A B
-D OUTPUT -j A
-I OUTPUT 2 -j A
-I OUTPUT 1 -j B
-F OLD
-X OLD
COMMIT
`;
  const [parsed] = parseRestore(text.replace('-I OUTPUT 1', '-I OUTPUT'));
  assert.equal(writeRestore(parsed!), text);
  for (const bad of ['-A X', '*nat\n:INPUT ACCEPT [0:0]\nCOMMIT', '*nat\n-R X 1 -j Y\nCOMMIT', '*nat\n-A X'])
    assert.throws(() => parseRestore(bad), { code: 'XTABLES_UNSUPPORTED' }, bad);
});

/** Chains and their rules' digests, as a table shows them. */
function contents(table: XtTable): Map<string, number> {
  return new Map(table.columns.names.map((name, i) => [name, digestChain(table, i)]));
}

const RULES = [
  '',
  '-j ACCEPT',
  '-s 10.0.0.0/8 -j DROP',
  '-m comment --comment "ä" -j RETURN',
  '-p tcp -m tcp --dport 1',
];
const NAMES = ['A', 'AA', 'B', 'KUBE-X', 'Z', 'z'];
const edits = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constant('chain' as const),
      chain: fc.constantFrom(...NAMES),
      rules: fc.array(fc.constantFrom(...RULES, ...NAMES.map(name => `-j ${name}`)), { maxLength: 4 }),
    }),
    fc.record({
      kind: fc.constant('add' as const),
      chain: fc.constantFrom(...NAMES, 'INPUT', 'OUTPUT'),
      rule: fc.constantFrom(...RULES, '-g A', '-j Z'),
      position: fc.option(fc.constant(1), { nil: undefined }),
    }),
    fc.record({
      kind: fc.constant('remove' as const),
      chain: fc.constantFrom('INPUT', 'A'),
      rule: fc.constantFrom(...RULES, '-j Z'),
    }),
    fc.record({ kind: fc.constant('flush' as const), chain: fc.constantFrom(...NAMES, 'INPUT') }),
    fc.record({ kind: fc.constant('delete-chain' as const), chain: fc.constantFrom(...NAMES) }),
  ),
  { minLength: 1, maxLength: 4 },
);

/** The same edit on lists of texts; undefined when it must be refused. */
function model(
  before: ReadonlyMap<string, string[]>,
  list: readonly TableCommand[],
): Map<string, string[]> | undefined {
  const chains = new Map([...before].map(([name, rules]) => [name, [...rules]]));
  for (const one of list) if (one.kind === 'chain') chains.set(one.chain, []);
  const target = (rule: string): string | undefined => /-[jg] ([A-Za-z-]+)/.exec(rule)?.[1];
  const isKnown = (rule: string): boolean => {
    const name = target(rule);
    return name === undefined || ['ACCEPT', 'DROP', 'RETURN'].includes(name) || chains.has(name);
  };
  for (const one of list) {
    const rules = chains.get(one.chain);
    // Chains are made before everything else; one that is deleted after that stays so.
    if (one.kind === 'chain' && one.rules.length === 0) continue;
    if (rules === undefined) return undefined;
    if (one.kind === 'chain') {
      if (!one.rules.every(isKnown)) return undefined;
      rules.push(...one.rules);
    } else if (one.kind === 'add') {
      if (!isKnown(one.rule)) return undefined;
      if (one.position === undefined) rules.push(one.rule);
      else rules.splice(one.position - 1, 0, one.rule);
    } else if (one.kind === 'remove') {
      const index = rules.indexOf(one.rule);
      if (!isKnown(one.rule) || index < 0) return undefined;
      rules.splice(index, 1);
    } else if (one.kind === 'flush') rules.length = 0;
    else if (rules.length > 0) return undefined;
    else chains.delete(one.chain);
  }
  for (const rules of chains.values()) if (!rules.every(isKnown)) return undefined;
  return chains;
}

for (const family of [4, 6] as const)
  test(`IPv${family}: edits of a table, one after the other, give what a model of texts gives`, () => {
    fc.assert(
      fc.property(fc.array(edits, { maxLength: 5 }), rounds => {
        let table = emptyTable(family);
        let expected = new Map(table.columns.names.map((name): [string, string[]] => [name, []]));
        for (const round of rounds) {
          const commands = round.map(({ ...command }) => {
            if (family === 6 && 'rule' in command)
              command.rule = command.rule.replace('10.0.0.0/8', 'fd00::/8');
            if (family === 6 && 'rules' in command)
              command.rules = command.rules.map(rule => rule.replace('10.0.0.0/8', 'fd00::/8'));
            return command;
          });
          const after = model(expected, commands as readonly TableCommand[]);
          const edit = new TableEdit(table);
          const apply = (): XtTable => {
            applyCommands(
              edit,
              encoder(family, name => edit.hasChain(name)),
              commands as readonly TableCommand[],
            );
            const { bytes, table: laidOut } = edit.layOut();
            // What was noted while laying out is what reading finds.
            const entries = Buffer.from(Uint8Array.prototype.slice.call(bytes, REPLACE_HEADER).buffer);
            const read = decodeTable(family, laidOut.info, entries);
            assert.ok(isUnchanged(read, entries));
            assert.deepEqual({ ...laidOut.columns, digests: 0 }, { ...read.columns, digests: 0 });
            assert.deepEqual(laidOut.jumps, read.jumps);
            assert.deepEqual(contents(laidOut), contents(read));
            return laidOut;
          };
          if (after === undefined) {
            assert.throws(apply, error => typeof (error as { code?: unknown }).code === 'string');
            continue;
          }
          table = apply();
          expected = after;
          assert.deepEqual([...contents(table).keys()].slice(2), [...after.keys()].slice(2).sort());
          const any = encoder(family, () => true);
          for (const [name, rules] of after)
            assert.equal(
              digestChain(table, table.indexOf(name)),
              digestRules(
                rules.map(rule => any.encode(rule)),
                LAYOUT[family],
              ),
              `chain ${name}`,
            );
        }
      }),
      { numRuns: 300 },
    );
  });

test('counters are kept for every entry that stays, in unchanged chains and in changed ones', () => {
  const edit = new TableEdit(emptyTable(4));
  const commands = parseRestore(`*filter
:A - [0:0]
:M - [0:0]
:Z - [0:0]
-A A -s 10.0.0.1 -j M
-A M -s 10.0.0.2
-A Z -s 10.0.0.3
COMMIT`)[0]!.commands;
  applyCommands(
    edit,
    encoder(4, name => edit.hasChain(name)),
    commands,
  );
  const { table } = edit.layOut();
  const next = new TableEdit(table);
  const change = parseRestore(
    '*filter\n:B - [0:0]\n-A B -s 10.0.0.9\n-I M 1 -s 10.0.0.8\n-A INPUT -j A\nCOMMIT',
  )[0]!.commands;
  applyCommands(
    next,
    encoder(4, name => next.hasChain(name)),
    change,
  );
  const { table: now, moved } = next.layOut();
  const described = (of: XtTable): string[] => {
    const list: string[] = [];
    for (let at = 0; at < of.info.size; at += of.sizeAt(at)) {
      // The source address tells our rules apart, the size and place the rest.
      const chain = of.columns.names[of.columns.starts.findLastIndex(start => start <= at)];
      list.push(`${chain} ${of.bytes.toString('hex', at, at + 4)} ${of.sizeAt(at)}`);
    }
    return list;
  };
  const before = described(table);
  const after = described(now);
  const kept = moved.flatMap(({ from, to, count }) =>
    Array.from({ length: count }, (_, i): [number, number] => [from + i, to + i]),
  );
  for (const [from, to] of kept) assert.equal(before[from], after[to]);
  // All but the end of the table; and of the new one all but that, chain B with its three entries, and two rules.
  assert.equal(kept.length, before.length - 1);
  assert.equal(new Set(kept.map(([, to]) => to)).size, after.length - 1 - 3 - 2);
});
