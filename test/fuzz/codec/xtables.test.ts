// Bytes that are no legacy table, and texts that are no rule: taken, or refused with our own error; never anything else.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { digestChain } from '../../../src/codec/xtables/digest.ts';
import { TableEdit } from '../../../src/codec/xtables/edit.ts';
import { decodeInfo, type TableInfo } from '../../../src/codec/xtables/layout.ts';
import { RuleEncoder } from '../../../src/codec/xtables/rule.ts';
import { decodeTable, type XtTable } from '../../../src/codec/xtables/table.ts';
import { applyCommands, parseRestore } from '../../../src/codec/xtables/transaction.ts';
import { PodwireError } from '../../../src/lib/errors.ts';
import { RULE_SETS } from '../../harness/iptables-rules.ts';
import { emptyTable } from '../../harness/xtables-table.ts';

function tolerates(work: () => unknown): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof PodwireError)) throw error;
  }
}

function aligned(bytes: Uint8Array): Buffer {
  return Buffer.from(new Uint8Array(bytes).buffer);
}

/** Looks at everything that a decoded table offers. */
function use(table: XtTable): void {
  const edit = new TableEdit(table);
  for (let i = 0; i < table.chainCount; i++) {
    digestChain(table, i);
    edit.rules(table.columns.names[i]!);
  }
  edit.layOut();
}

function sample(family: 4 | 6): XtTable {
  const edit = new TableEdit(emptyTable(family));
  const { rules } = RULE_SETS[family][0]!;
  const encoder = new RuleEncoder({ family, isChain: name => edit.hasChain(name), supports: () => true });
  applyCommands(edit, encoder, [
    { kind: 'chain', chain: 'LEAF', rules: [] },
    { kind: 'chain', chain: 'MINE', rules: rules.slice(0, 16) },
    { kind: 'add', chain: 'INPUT', rule: '-j MINE' },
  ]);
  return edit.layOut().table;
}

test('any bytes as a table', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 800 }),
      fc.constantFrom(4 as const, 6 as const),
      (bytes, family) => {
        const info: TableInfo = { ...emptyTable(family).info, size: bytes.length };
        tolerates(() => use(decodeTable(family, info, aligned(bytes))));
        tolerates(() => decodeInfo(Buffer.from(bytes)));
      },
    ),
    { numRuns: 2000 },
  );
});

for (const family of [4, 6] as const)
  test(`IPv${family}: a table with a few bytes changed, cut off or added`, () => {
    const table = sample(family);
    let taken = 0;
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(table.bytes.length - 1), fc.nat(255)), { maxLength: 4 }),
        fc.integer({ min: -200, max: 16 }),
        (changes, more) => {
          const bytes = aligned(
            Buffer.concat([table.bytes, Buffer.alloc(16)]).subarray(
              0,
              table.bytes.length + Math.min(0, more + 100),
            ),
          );
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
          const info = { ...table.info, size: bytes.length };
          tolerates(() => {
            use(decodeTable(family, info, bytes));
            taken++;
          });
        },
      ),
      { numRuns: 3000 },
    );
    // Otherwise this would try nothing but the first check.
    assert.ok(taken > 100, `${taken} were taken`);
  });

test('any text as a rule, and as a transaction', () => {
  const words = RULE_SETS[4].flatMap(set => set.rules).flatMap(rule => rule.split(' '));
  const encoder = new RuleEncoder({ family: 4, isChain: name => name === 'LEAF', supports: () => true });
  fc.assert(
    fc.property(
      fc.array(fc.oneof({ weight: 6, arbitrary: fc.constantFrom(...words) }, fc.string({ maxLength: 12 })), {
        maxLength: 12,
      }),
      parts => {
        tolerates(() => encoder.encode(parts.join(' ')));
        tolerates(() => parseRestore(`*nat\n${parts.join(' ')}\nCOMMIT`));
      },
    ),
    { numRuns: 5000 },
  );
});
