import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  checkConfigKey,
  checkDns1035Label,
  checkDns1123Label,
  checkDns1123Subdomain,
  checkEnvName,
  checkLabelValue,
  checkPathSegment,
  checkPortName,
  checkQualifiedName,
  generateName,
  type NameCheck,
  randomSuffix,
  safeEncode,
} from '../../../src/api/names.ts';

const TABLE: [check: NameCheck, good: string[], bad: string[]][] = [
  [
    checkDns1123Label,
    ['a', '0-9', 'a'.repeat(63)],
    ['', 'A', 'a.b', '-a', 'a-', 'a'.repeat(64), 'a_b', 'a\n'],
  ],
  [checkDns1123Subdomain, ['a.b-c.d', '0'], ['', '.a', 'a..b', 'A', 'a'.repeat(254)]],
  [checkDns1035Label, ['a', 'a-0'], ['0a', 'a.b', '']],
  [
    checkQualifiedName,
    ['a', 'A_b.c', 'example.com/Name'],
    ['', '/a', 'a/', 'a/b/c', 'Exa.com/a', '-a', 'a'.repeat(64)],
  ],
  [checkLabelValue, ['', 'a', 'A.b_c-1'], ['-a', 'a b', 'a'.repeat(64), 'a/b']],
  [checkPortName, ['http', 'a-1'], ['80', '-a', 'a--b', 'averyveryverylong', 'A', '']],
  [checkEnvName, ['A_B', '.a', 'a.b-c'], ['1a', '', '..a', 'a b', '.', '..']],
  [checkConfigKey, ['a.b_c-D', '.x'], ['', 'a b', '..', '..x', '.', 'a/b']],
  [checkPathSegment, ['system:node', 'a b'], ['.', '..', 'a/b', 'a%b']],
];

for (const [check, good, bad] of TABLE)
  test(`good and bad names by rule ${TABLE.findIndex(row => row[0] === check)}`, () => {
    for (const name of good) assert.deepEqual(check(name), [], name);
    for (const name of bad) assert.notDeepEqual(check(name), [], name);
  });

test('generated names fit a label and spell nothing', () => {
  assert.match(generateName('web-'), /^web-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
  assert.equal(generateName('x'.repeat(100)).length, 63);
  assert.equal(new Set(Array.from({ length: 200 }, () => randomSuffix())).size, 200);
  assert.match(safeEncode('3735928559'), /^[bcdfghjklmnpqrstvwxz2456789]{10}$/);
});
