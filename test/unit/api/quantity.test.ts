import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  addQuantity,
  compareQuantity,
  formatQuantity,
  isQuantity,
  parseQuantity,
  quantityMilliValue,
  quantityValue,
  subtractQuantity,
} from '../../../src/api/quantity.ts';

const CANONICAL: [text: string, canonical: string][] = [
  ['0', '0'],
  ['100m', '100m'],
  ['0.1', '100m'],
  ['1500m', '1500m'],
  ['1000m', '1'],
  ['1.5', '1500m'],
  ['1024Mi', '1Gi'],
  ['1.5Gi', '1536Mi'],
  ['1000Ki', '1000Ki'],
  ['512Ki', '512Ki'],
  ['1023', '1023'],
  ['1000', '1k'],
  ['1e3', '1e3'],
  ['12e6', '12e6'],
  ['1E', '1E'],
  ['-5', '-5'],
  ['+3k', '3k'],
  ['.5', '500m'],
  ['5.', '5'],
  ['100n', '100n'],
  ['0.5Ki', '512'],
];

for (const [text, canonical] of CANONICAL)
  test(`quantity ${text} is written ${canonical}`, () =>
    assert.equal(formatQuantity(parseQuantity(text)), canonical));

for (const bad of ['', '1Q', 'x', '1.2.3', '1 Gi', '--1', '1e', 'Ki', '1mi', 'Infinity'])
  test(`quantity "${bad}" is refused`, () => {
    assert.equal(isQuantity(bad), false);
    assert.throws(() => parseQuantity(bad), /quantities must match/);
  });

const quantity = fc
  .tuple(
    fc.integer({ min: -1e6, max: 1e6 }),
    fc.constantFrom('', 'n', 'u', 'm', 'k', 'M', 'G', 'Ki', 'Mi', 'Gi', 'e3'),
  )
  .map(([value, suffix]) => `${value}${suffix}`);

test('the canonical form has the same value, and is its own canonical form', () => {
  fc.assert(
    fc.property(quantity, text => {
      const parsed = parseQuantity(text);
      const canonical = formatQuantity(parsed);
      assert.equal(compareQuantity(parseQuantity(canonical), parsed), 0);
      assert.equal(formatQuantity(parseQuantity(canonical)), canonical);
    }),
  );
});

test('sums and differences undo each other', () => {
  fc.assert(
    fc.property(quantity, quantity, (a, b) => {
      const [left, right] = [parseQuantity(a), parseQuantity(b)];
      assert.equal(subtractQuantity(addQuantity(left, right), right).nano, left.nano);
    }),
  );
});

test('values round up', () => {
  assert.equal(quantityValue(parseQuantity('1100m')), 2n);
  assert.equal(quantityMilliValue(parseQuantity('100u')), 1n);
  assert.equal(quantityValue(parseQuantity('2Gi')), 2147483648n);
});
