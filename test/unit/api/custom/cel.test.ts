// x-kubernetes-validations: rules as users write them, in the words Kubernetes answers with.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { compileRules } from '../../../../src/api/custom/cel/compile.ts';
import { checkRules } from '../../../../src/api/custom/cel/evaluate.ts';
import { TimeLimitError, withinTime } from '../../../../src/api/custom/cel/time-limit.ts';
import { escapeName } from '../../../../src/api/custom/cel/types.ts';
import type { JsonSchema, ValidationRule } from '../../../../src/api/custom/json-schema.ts';
import { causeText } from '../../../../src/api/status.ts';
import { FieldPath } from '../../../../src/api/validation/field.ts';
import type { JsonObject, JsonValue } from '../../../../src/lib/json.ts';

const INT: JsonSchema = { type: 'integer' };
const TEXT: JsonSchema = { type: 'string' };

const object = (properties: Record<string, JsonSchema>, ...rules: ValidationRule[]): JsonSchema => ({
  type: 'object',
  properties,
  'x-kubernetes-validations': rules,
});

/** The schema of a kind whose spec is this. */
const kind = (spec: JsonSchema): JsonSchema => ({ type: 'object', properties: { spec } });

function problems(spec: JsonSchema, value: JsonValue, old?: JsonValue): string[] {
  const path = new FieldPath();
  const whole = (each: JsonValue): JsonObject => ({ apiVersion: 'a/v1', kind: 'K', spec: each });
  checkRules(whole(value), old === undefined ? undefined : whole(old), kind(spec), path);
  return path.causes.map(causeText);
}

function mistakes(schema: JsonSchema): string[] {
  const path = new FieldPath();
  compileRules(schema, path.child('schema'));
  return path.causes.map(causeText);
}

const MIN_MAX = { min: INT, max: INT };

describe('answers', () => {
  const cases: [title: string, spec: JsonSchema, value: JsonValue, wanted: string[]][] = [
    ['a rule that holds', object(MIN_MAX, { rule: 'self.min <= self.max' }), { min: 1, max: 2 }, []],
    [
      'without a message the rule is shown',
      object(MIN_MAX, { rule: ' self.min <= self.max' }),
      { min: 3, max: 2 },
      ['spec: Invalid value: "object": failed rule: self.min <= self.max'],
    ],
    [
      'message',
      object(MIN_MAX, { rule: 'self.min <= self.max', message: 'min above max' }),
      { min: 3, max: 2 },
      ['spec: Invalid value: "object": min above max'],
    ],
    [
      'messageExpression',
      object(MIN_MAX, {
        rule: 'self.min <= self.max',
        messageExpression: '"min " + string(self.min) + " above max"',
        message: 'not this',
      }),
      { min: 3, max: 2 },
      ['spec: Invalid value: "object": min 3 above max'],
    ],
    [
      'a messageExpression that fails gives way to message',
      object(MIN_MAX, { rule: 'false', messageExpression: 'string(1 / self.min)', message: 'plain' }),
      { min: 0 },
      ['spec: Invalid value: "object": plain'],
    ],
    [
      'reason and fieldPath',
      object(
        { ...MIN_MAX, 'max-age': INT },
        { rule: 'has(self.max)', reason: 'FieldValueRequired', fieldPath: '.max', message: 'say it' },
        { rule: 'false', reason: 'FieldValueForbidden', fieldPath: "['max-age']", message: 'no' },
        { rule: 'false', reason: 'FieldValueDuplicate' },
      ),
      { min: 0 },
      ['spec.max: Required value: say it', 'spec.max-age: Forbidden: no', 'spec: Duplicate value: "object"'],
    ],
    [
      'a value that is not there',
      object(MIN_MAX, { rule: 'self.max > 0', message: 'positive' }),
      { min: 1 },
      ['spec: Invalid value: "object": No such key: max evaluating rule: positive'],
    ],
    [
      'a scalar',
      object({ size: { ...INT, 'x-kubernetes-validations': [{ rule: 'self % 2 == 0' }] } }),
      { size: 3 },
      ['spec.size: Invalid value: "integer": failed rule: self % 2 == 0'],
    ],
    [
      'in lists and maps, each at its place',
      object({
        list: { type: 'array', items: object({ a: INT }, { rule: 'self.a > 0', message: 'low' }) },
        map: {
          type: 'object',
          additionalProperties: {
            ...INT,
            'x-kubernetes-validations': [{ rule: 'self > 0', message: 'low' }],
          },
        },
      }),
      { list: [{ a: 1 }, { a: 0 }], map: { x: 0, y: 1 } },
      ['spec.list[1]: Invalid value: "object": low', 'spec.map[x]: Invalid value: "integer": low'],
    ],
  ];
  for (const [title, spec, value, wanted] of cases)
    test(title, () => {
      assert.deepEqual(mistakes(kind(spec)), []);
      assert.deepEqual(problems(spec, value), wanted);
    });
});

describe('the language', () => {
  const fields: Record<string, JsonSchema> = {
    n: INT,
    x: { type: 'number' },
    s: TEXT,
    b: { type: 'boolean' },
    any: { 'x-kubernetes-int-or-string': true },
    maybe: { ...TEXT, nullable: true },
    when: { ...TEXT, format: 'date-time' },
    long: { ...TEXT, format: 'duration' },
    bytes: { ...TEXT, format: 'byte' },
    tags: { type: 'array', items: TEXT },
    pairs: { type: 'array', items: { type: 'object', properties: { k: TEXT, v: INT } } },
    labels: { type: 'object', additionalProperties: TEXT },
    'a-b.c/d': INT,
    namespace: TEXT,
    under__score: INT,
  };
  const value: JsonObject = {
    ...{ n: 3, x: 1.5, s: 'abc', b: true, any: '10%', maybe: null, long: '90s', bytes: 'aGk=' },
    when: '2026-01-02T03:04:05Z',
    tags: ['a', 'b'],
    pairs: [
      { k: 'p', v: 1 },
      { k: 'q', v: 2 },
    ],
    labels: { app: 'web', tier: 'x' },
    ...{ 'a-b.c/d': 7, namespace: 'ns', under__score: 1 },
  };
  const truths = [
    'self.n == 3 && self.n / 2 == 1 && self.x > 1.0',
    'self.any == "10%" || self.any == 5',
    'type(self.any) == string && self.any.endsWith("%")',
    'self.maybe == null',
    'self.when > timestamp("2026-01-01T00:00:00Z") && self.when.getFullYear() == 2026',
    'self.long == duration("1m30s")',
    'self.bytes == b"hi"',
    'self.tags.all(t, t.size() == 1) && "a" in self.tags && self.tags.isSorted()',
    'self.pairs.exists_one(p, p.k == "p") && self.pairs.map(p, p.v).sum() == 3',
    'self.pairs.filter(p, p.v > 1).size() == 1 && self.pairs[1].k == "q"',
    'self.pairs == self.pairs && self.pairs[0] != self.pairs[1]',
    'self.labels.all(k, self.labels[k].size() > 0) && self.labels.app == "web"',
    'self.a__dash__b__dot__c__slash__d == 7 && self.__namespace__ == "ns" && self.under__underscores__score == 1',
    '!has(self.nothing) || true',
    'self.s.matches("^[a-c]+$") && self.s.find("b.") == "bc" && self.s.replace("a", "x") == "xbc"',
    'quantity("1Gi").isGreaterThan(quantity("900Mi")) && isQuantity("5") && !isQuantity("five")',
    'ip("10.0.0.1").family() == 4 && cidr("fd00::/8").containsIP("fd00::1") && !isIP("10.0.0.256")',
    'url("https://a.b:8443/c").getPort() == "8443" && !isURL("nothing")',
    'sets.contains(self.tags, ["a"]) && !sets.intersects(self.tags, ["c"])',
    'self.?n.orValue(0) == 3',
  ].filter(rule => !rule.includes('self.nothing'));
  for (const rule of truths)
    test(rule, () => {
      assert.deepEqual(mistakes(kind(object(fields, { rule }))), []);
      assert.deepEqual(problems(object(fields, { rule }), value), []);
      assert.equal(problems(object(fields, { rule: `!(${rule})` }), value).length, 1, 'and not the opposite');
    });

  test('names that a rule can say', () => {
    assert.deepEqual(['plain', 'for', 'a-b', 'a__b', 'a.b/c', '1st', '$ref'].map(escapeName), [
      'plain',
      '__for__',
      'a__dash__b',
      'a__underscores__b',
      'a__dot__b__slash__c',
      undefined,
      undefined,
    ]);
  });

  test('the root and embedded resources have apiVersion, kind and the name', () => {
    const schema: JsonSchema = {
      ...{ type: 'object', properties: { spec: object({}) } },
      'x-kubernetes-validations': [{ rule: 'self.metadata.name.startsWith("a") && self.kind == "K"' }],
    };
    const path = new FieldPath();
    checkRules({ apiVersion: 'a/v1', kind: 'K', metadata: { name: 'b' }, spec: {} }, undefined, schema, path);
    assert.equal(path.causes.length, 1);
  });
});

describe('oldSelf', () => {
  const once: ValidationRule = { rule: 'self == oldSelf', message: 'immutable' };
  const fixed = object({ a: { ...INT, 'x-kubernetes-validations': [once] }, b: INT });

  test('only where there was a value', () => {
    assert.deepEqual(problems(fixed, { a: 1 }), []);
    assert.deepEqual(problems(fixed, { a: 2 }, {}), []);
    assert.deepEqual(problems(fixed, { a: 1, b: 2 }, { a: 1 }), []);
    assert.deepEqual(problems(fixed, { a: 2 }, { a: 1 }), ['spec.a: Invalid value: "integer": immutable']);
  });

  test('whole objects', () => {
    const whole = object({ c: object({ a: INT, l: { type: 'array', items: INT } }, once) });
    assert.deepEqual(problems(whole, { c: { a: 1, l: [1, 2] } }, { c: { l: [1, 2], a: 1 } }), []);
    assert.equal(problems(whole, { c: { a: 1, l: [2, 1] } }, { c: { a: 1, l: [1, 2] } }).length, 1);
  });

  test('elements of a list that is a map are followed by their keys', () => {
    const list: JsonSchema = {
      type: 'array',
      'x-kubernetes-list-type': 'map',
      'x-kubernetes-list-map-keys': ['name'],
      items: {
        ...object({ name: TEXT, v: INT }, { rule: 'self.v >= oldSelf.v', message: 'down' }),
        required: ['name'],
      },
    };
    const element = (name: string, v: number) => ({ name, v });
    const old = { list: [element('a', 1), element('b', 5)] };
    const now = { list: [element('new', 0), element('b', 4), element('a', 1)] };
    assert.deepEqual(problems(object({ list }), now, old), ['spec.list[1]: Invalid value: "object": down']);
  });

  test('optionalOldSelf: asked at creation, too', () => {
    const rule: ValidationRule = {
      rule: 'oldSelf.hasValue() || self == 0',
      optionalOldSelf: true,
      message: 'begin at 0',
    };
    const spec = object({ a: { ...INT, 'x-kubernetes-validations': [rule] } });
    assert.deepEqual(mistakes(kind(spec)), []);
    assert.deepEqual(problems(spec, { a: 0 }), []);
    assert.deepEqual(problems(spec, { a: 1 }), ['spec.a: Invalid value: "integer": begin at 0']);
    assert.deepEqual(problems(spec, { a: 1 }, { a: 0 }), []);
  });

  test('a value that breaks a newer rule is left alone until it is changed', () => {
    const spec = object({ a: { ...INT, 'x-kubernetes-validations': [{ rule: 'self > 5' }] }, b: INT });
    assert.deepEqual(problems(spec, { a: 1, b: 2 }, { a: 1, b: 1 }), []);
    assert.equal(problems(spec, { a: 2 }, { a: 1 }).length, 1);
  });
});

describe('definitions that are refused', () => {
  const at = 'schema.properties[spec].x-kubernetes-validations[0]';
  const cases: [rule: ValidationRule, wanted: RegExp][] = [
    [
      { rule: 'self.nope == 1' },
      /\.rule: Invalid value: "self\.nope == 1": compilation failed: No such key: nope/,
    ],
    [{ rule: 'self.min == "a"' }, /compilation failed: no such overload: int == string/],
    [{ rule: 'self.min <' }, /compilation failed/],
    [{ rule: 'self.min + 1' }, /must evaluate to a bool/],
    [{ rule: '  ' }, /\.rule: Required value/],
    [{ rule: 'true', message: 'a\nb' }, /must not contain line breaks/],
    [{ rule: 'true', messageExpression: '1' }, /messageExpression must evaluate to a string/],
    [{ rule: 'true', messageExpression: 'self.q' }, /messageExpression compilation failed/],
    [{ rule: 'true', reason: 'Because' }, /\.reason: Unsupported value/],
    [{ rule: 'true', fieldPath: '.other' }, /fieldPath must be a valid path/],
    [{ rule: 'true', optionalOldSelf: true }, /may not be set if oldSelf is not used/],
    [{ rule: `self.min in [${Array.from({ length: 1001 }, (_, i) => i)}]` }, /compilation failed/],
  ];
  for (const [rule, wanted] of cases)
    test(JSON.stringify(rule).slice(0, 60), () => {
      const found = mistakes(kind(object(MIN_MAX, rule)));
      assert.equal(found.length, 1);
      assert.ok(found[0]!.startsWith(at), found[0]);
      assert.match(found[0]!, wanted);
    });

  test('oldSelf where elements cannot be followed', () => {
    const items: JsonSchema = { ...INT, 'x-kubernetes-validations': [{ rule: 'self >= oldSelf' }] };
    assert.match(mistakes(kind(object({ l: { type: 'array', items } })))[0]!, /uncorrelatable portion/);
  });
});

test('a rule that runs for ever is stopped, and the object refused', () => {
  const items: JsonSchema = { ...TEXT };
  const spec = object(
    { l: { type: 'array', items } },
    { rule: 'self.l.all(a, self.l.all(b, self.l.all(c, self.l.all(d, a + b != c + d + "x"))))' },
  );
  const begun = performance.now();
  const found = problems(spec, { l: Array.from({ length: 1000 }, (_, i) => `${i}`) });
  assert.ok(performance.now() - begun < 5000);
  assert.match(found[0]!, /took longer than 1000 ms/);
  const evil = object({ s: TEXT }, { rule: 'self.s.matches("^(a+)+$")' });
  assert.match(problems(evil, { s: `${'a'.repeat(40)}!` })[0]!, /took longer|failed rule/);
  assert.throws(
    () =>
      withinTime(20, () => {
        for (;;);
      }),
    TimeLimitError,
  );
  assert.equal(
    withinTime(20, () => 7),
    7,
  );
});
