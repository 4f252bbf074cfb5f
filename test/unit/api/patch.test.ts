import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { applyPatch as applyReference, createPatch } from 'rfc6902';
import { createMergePatch } from '../../../src/api/merge-patch.ts';
import { applyJsonPatch, applyMergePatch, applyStrategicMergePatch } from '../../../src/api/patch.ts';
import { schemaOfKind } from '../../../src/api/schema.ts';
import type { JsonObject, JsonValue } from '../../../src/lib/json.ts';

const key = fc.stringMatching(/^[a-d~/0-9]{1,3}$/);
const json = fc.letrec<{ value: JsonValue; object: JsonObject }>(tie => ({
  value: fc.oneof(
    { depthSize: 'small' },
    fc.constantFrom<JsonValue>(null, true, 1, 'x'),
    fc.array(tie('value'), { maxLength: 4 }),
    tie('object'),
  ),
  object: fc.dictionary(key, tie('value'), { maxKeys: 4 }) as fc.Arbitrary<JsonObject>,
}));

/** As it comes off the wire: ordinary prototypes. */
const plain = json.object.map(value => JSON.parse(JSON.stringify(value)) as JsonObject);

const withoutNulls = (value: JsonValue): JsonValue =>
  value === null || typeof value !== 'object' || Array.isArray(value)
    ? value
    : Object.fromEntries(
        Object.entries(value)
          .filter(([, item]) => item !== null)
          .map(([name, item]) => [name, withoutNulls(item)]),
      );

test('JSON patch: what rfc6902 makes leads from one document to the other', () => {
  fc.assert(
    fc.property(plain, plain, (from, to) => {
      const before = structuredClone(from);
      assert.deepEqual(applyJsonPatch(from, createPatch(from, to)), { ...to });
      assert.deepEqual(from, before);
    }),
  );
});

const pointer = fc
  .array(fc.constantFrom('a', 'b', '0', '1', '-', 'a~1'), { maxLength: 3 })
  .map(parts => parts.map(p => `/${p}`).join(''));
const operation = fc.oneof(
  fc.record({ op: fc.constantFrom('add', 'replace', 'test'), path: pointer, value: json.value }),
  fc.record({ op: fc.constant('remove'), path: pointer }),
  fc.record({ op: fc.constantFrom('move', 'copy'), path: pointer, from: pointer }),
);
const small: fc.Arbitrary<JsonObject> = fc.record({
  a: fc.oneof(fc.constant([1, { b: 2 }]), fc.constant({ b: [1, 2], a: {} })),
  b: fc.constant(3),
}) as unknown as fc.Arbitrary<JsonObject>;

test('JSON patch: where both carry an operation out, the outcome is that of rfc6902', () => {
  fc.assert(
    fc.property(small, operation, (document, op) => {
      // The root is replaced, not changed in place, which the reference cannot show.
      if (op.path === '' || ('from' in op && op.from === '')) return;
      const reference = structuredClone(document);
      let ours: JsonValue;
      try {
        ours = applyJsonPatch(document, [op]);
      } catch {
        return; // The reference carries out more: members of numbers, for one.
      }
      const [error] = applyReference(reference, [op] as never);
      if (error === null) assert.deepEqual(ours, reference);
    }),
    { numRuns: 500 },
  );
});

test('JSON patch: RFC 6902 appendix A, the refusals', () => {
  const refused: [JsonValue, unknown][] = [
    [{ foo: 'bar' }, [{ op: 'add', path: '/baz/bat', value: 'qux' }]], // A.12
    [{ baz: 'qux' }, [{ op: 'test', path: '/baz', value: 'bar' }]], // A.9
    [{ '/': 9, '~1': 10 }, [{ op: 'test', path: '/~01', value: '10' }]], // A.15
    [{ a: 1 }, [{ op: 'remove', path: '/b' }]],
    [{ a: [1] }, [{ op: 'add', path: '/a/2', value: 1 }]],
    [{ a: [1] }, [{ op: 'replace', path: '/a/01', value: 1 }]],
    [{ a: { b: 1 } }, [{ op: 'move', from: '/a', path: '/a/b/c' }]],
    [{}, { op: 'add' }],
    [{}, [{ op: 'spam', path: '/a' }]],
    [{}, [{ op: 'add', path: 'a', value: 1 }]],
  ];
  for (const [document, patch] of refused)
    assert.throws(() => applyJsonPatch(document, patch), { name: 'ApiError' });
});

test('merge patch: RFC 7386 appendix A', () => {
  const cases: [JsonValue, JsonValue, JsonValue][] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [
      ['a', 'b'],
      ['c', 'd'],
      ['c', 'd'],
    ],
    [{ a: 'foo' }, null, null],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ];
  for (const [target, patch, result] of cases) assert.deepEqual(applyMergePatch(target, patch), result);
});

test('merge patch: the made patch leads from one object to the other', () => {
  fc.assert(
    fc.property(plain, plain, (a, b) => {
      const [from, to] = [withoutNulls(a) as JsonObject, withoutNulls(b) as JsonObject];
      assert.deepEqual(applyMergePatch(from, createMergePatch(from, to) ?? {}), { ...to });
    }),
  );
});

test('a member called __proto__ stays a member', () => {
  const patch = JSON.parse('{"__proto__":{"polluted":true}}') as JsonObject;
  const merged = applyMergePatch({}, patch) as JsonObject;
  assert.deepEqual(Object.keys(merged), ['__proto__']);
  assert.equal(({} as { polluted?: boolean }).polluted, undefined);
});

const deployment = schemaOfKind('apps', 'v1', 'Deployment');
const spec = (containers: JsonValue[]): JsonObject => ({ spec: { template: { spec: { containers } } } });
const strategic = (document: JsonObject, patch: JsonObject) =>
  applyStrategicMergePatch(document, patch, deployment);

test('strategic: containers merge by name, env by name, order by $setElementOrder', () => {
  const before = spec([
    { name: 'a', image: 'x', env: [{ name: 'P', value: '1' }] },
    { name: 'b', image: 'y' },
  ]);
  const patch: JsonObject = {
    spec: {
      template: {
        spec: {
          '$setElementOrder/containers': [{ name: 'b' }, { name: 'a' }],
          containers: [
            {
              name: 'a',
              env: [
                { name: 'Q', value: '2' },
                { $patch: 'delete', name: 'P' },
              ],
            },
          ],
        },
      },
    },
  };
  assert.deepEqual(
    strategic(before, patch),
    spec([
      { name: 'b', image: 'y' },
      { name: 'a', image: 'x', env: [{ name: 'Q', value: '2' }] },
    ]),
  );
});

test('strategic: $patch replace on an object and on a list, $retainKeys, $deleteFromPrimitiveList', () => {
  const document: JsonObject = {
    metadata: { finalizers: ['a/b', 'c/d'], labels: { x: '1', y: '2' } },
    spec: {
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1 } },
      template: { spec: { containers: [{ name: 'a' }] } },
    },
  };
  assert.deepEqual(
    strategic(document, {
      metadata: { '$deleteFromPrimitiveList/finalizers': ['a/b'], labels: { $patch: 'replace', z: '3' } },
      spec: {
        strategy: { $retainKeys: ['type'], type: 'Recreate' },
        template: { spec: { containers: [{ $patch: 'replace' }, { name: 'n', image: 'i' }] } },
      },
    }),
    {
      metadata: { finalizers: ['c/d'], labels: { z: '3' } },
      spec: {
        strategy: { type: 'Recreate' },
        template: { spec: { containers: [{ name: 'n', image: 'i' }] } },
      },
    },
  );
});

test('strategic: atomic lists are replaced, sets of scalars united, nulls delete and never arrive', () => {
  const document: JsonObject = {
    metadata: { finalizers: ['a/b'], labels: { x: '1' } },
    spec: { template: { spec: { tolerations: [{ key: 'a' }, { key: 'b' }] } } },
  };
  assert.deepEqual(
    strategic(document, {
      metadata: { finalizers: ['c/d', 'a/b'], labels: { x: null }, annotations: { n: null } },
      spec: { template: { spec: { tolerations: [{ key: 'z' }] } } },
    }),
    {
      metadata: { finalizers: ['c/d', 'a/b'], labels: {}, annotations: {} },
      spec: { template: { spec: { tolerations: [{ key: 'z' }] } } },
    },
  );
});

test('strategic: malformed patches are refused', () => {
  for (const patch of [
    { $patch: 'burn' },
    { spec: { template: { spec: { containers: [{ image: 'no-name' }] } } } },
    { spec: { template: { spec: { '$setElementOrder/containers': 'a' } } } },
    { spec: { strategy: { $retainKeys: 'type' } } },
  ] as JsonObject[])
    assert.throws(() => strategic(spec([{ name: 'a' }]), patch), { name: 'ApiError' });
});

test('strategic: without lists and directives it is a merge patch', () => {
  const scalars = fc.dictionary(
    fc.stringMatching(/^[a-c]$/),
    fc.oneof(
      fc.constantFrom<JsonValue>(null, 1, 'x'),
      fc.dictionary(fc.stringMatching(/^[a-c]$/), fc.constantFrom<JsonValue>(null, 1)),
    ),
  ) as fc.Arbitrary<JsonObject>;
  fc.assert(
    fc.property(scalars, scalars, (document, patch) => {
      const target = withoutNulls(document) as JsonObject;
      assert.deepEqual(applyStrategicMergePatch(target, patch, undefined), applyMergePatch(target, patch));
    }),
  );
});
