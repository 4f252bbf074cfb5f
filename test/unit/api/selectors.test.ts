import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  checkFieldSelector,
  formatLabelSelector,
  labelSelectorFromObject,
  matchesFieldSelector,
  matchesLabelSelector,
  parseFieldSelector,
  parseLabelSelector,
} from '../../../src/api/selectors.ts';
import { ApiError } from '../../../src/lib/errors.ts';

const labels = { app: 'web', tier: 'front', n: '7' };

const MATCHES: [selector: string, matches: boolean][] = [
  ['', true],
  ['app=web', true],
  ['app==web,tier=front', true],
  ['app!=web', false],
  ['missing!=x', true],
  ['app in (web, api)', true],
  ['app notin (web,api)', false],
  ['missing notin (a)', true],
  ['app', true],
  ['!app', false],
  ['! missing', true],
  ['n>6,n<8', true],
  ['n>7', false],
  ['app>1', false],
  ['app in ()', false],
  ['missing=', false],
];

for (const [selector, matches] of MATCHES)
  test(`label selector "${selector}" ${matches ? 'matches' : 'does not match'}`, () => {
    assert.equal(matchesLabelSelector(parseLabelSelector(selector), labels), matches);
  });

for (const bad of ['a=b,', '=b', 'a in b', 'a in (b', 'a b', '-a=b', 'a=_', 'a=b=c', 'a>x', '(a)', 'a!b'])
  test(`label selector "${bad}" is refused`, () => {
    assert.throws(
      () => parseLabelSelector(bad),
      (error: unknown) => error instanceof ApiError && error.status === 400,
    );
  });

test('a missing LabelSelector selects nothing, an empty one everything', () => {
  assert.equal(matchesLabelSelector(labelSelectorFromObject(undefined), labels), false);
  assert.equal(matchesLabelSelector(labelSelectorFromObject({}), labels), true);
});

test('the members of a prototype are no labels', () => {
  assert.equal(matchesLabelSelector(parseLabelSelector('constructor'), {}), false);
});

const name = fc.stringMatching(/^[a-z]([a-z0-9-]{0,8}[a-z0-9])?$/);
const requirement = fc.oneof(
  fc.record({
    key: name,
    operator: fc.constantFrom('In' as const, 'NotIn' as const),
    values: fc.uniqueArray(name, { minLength: 1, maxLength: 3 }),
  }),
  fc.record({
    key: name,
    operator: fc.constantFrom('Exists' as const, 'DoesNotExist' as const),
    values: fc.constant<string[]>([]),
  }),
);

test('text form and object form select the same', () => {
  fc.assert(
    fc.property(fc.array(requirement, { maxLength: 4 }), fc.dictionary(name, name), (requirements, have) => {
      const sorted = requirements.map(r => ({ ...r, values: [...r.values].sort() }));
      const parsed = parseLabelSelector(formatLabelSelector(sorted));
      assert.deepEqual(parsed, sorted);
      const fromObject = labelSelectorFromObject({
        matchExpressions: sorted.map(({ key, operator, values }) => ({ key, operator, values: [...values] })),
      });
      assert.equal(matchesLabelSelector(parsed, have), matchesLabelSelector(fromObject, have));
    }),
  );
});

test('field selectors: equality, inequality, escapes', () => {
  const fields = { 'metadata.name': 'a,b', 'spec.nodeName': '' };
  assert.equal(matchesFieldSelector(parseFieldSelector('metadata.name=a\\,b,spec.nodeName='), fields), true);
  assert.equal(matchesFieldSelector(parseFieldSelector('metadata.name!=a\\,b'), fields), false);
  assert.equal(matchesFieldSelector(parseFieldSelector('spec.nodeName==n1'), fields), false);
  assert.throws(() => parseFieldSelector('metadata.name'), /invalid selector/);
  assert.throws(
    () => matchesFieldSelector(parseFieldSelector('spec.x=1'), fields),
    /field label not supported: spec.x/,
  );
  assert.throws(
    () => checkFieldSelector(parseFieldSelector('spec.x=1'), Object.keys(fields)),
    /not supported/,
  );
});
