// Our expressions against those nft 1.0.6 made of the same rules' text, as the kernel told them back.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { compileRule } from '../../../proxy/backend/nftables/apply/compile.ts';
import type { Family, Rule } from '../../../proxy/backend/nftables/plan/state.ts';
import { formatRule } from '../../../proxy/backend/nftables/plan/text.ts';
import { encodeExpressions, sameExpressions } from '../../../src/codec/nft/compare.ts';

interface Recorded {
  family: Family;
  rule: Rule;
  text: string;
  hex: string;
}

const recorded: Recorded[] = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../fixtures/proxy/nftables-expressions.json'), 'utf8'),
);

for (const { family, rule, text, hex } of recorded)
  test(`IPv${family}: ${text}`, () => {
    assert.equal(formatRule(family, rule), text);
    const ours = encodeExpressions(compileRule(family, rule));
    const found = Buffer.from(hex, 'hex');
    assert.ok(sameExpressions(ours, found), `${ours.toString('hex')}\n${hex}`);
    assert.ok(sameExpressions(ours, ours));
  });

test('another rule is not the same, nor one with something more', () => {
  for (const { family, rule, hex } of recorded) {
    const found = Buffer.from(hex, 'hex');
    for (const other of recorded)
      if (other.text !== formatRule(family, rule) && other.family === family)
        assert.ok(
          !sameExpressions(encodeExpressions(compileRule(family, other.rule)), found),
          `${formatRule(family, rule)} and ${other.text}`,
        );
    const longer = [...rule, { is: 'verdict', verdict: 'drop' } as const];
    assert.ok(
      !sameExpressions(
        encodeExpressions(compileRule(family, rule)),
        encodeExpressions(compileRule(family, longer)),
      ),
    );
  }
});
