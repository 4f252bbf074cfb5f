// Custom resources' schemas: pruning, defaulting, validation; as tables and as properties over made-up schemas.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { customColumns } from '../../../../src/api/custom/columns.ts';
import { applySchemaDefaults } from '../../../../src/api/custom/default.ts';
import { compareVersions } from '../../../../src/api/custom/definition.ts';
import { evaluateJsonPath, parseJsonPath, setAt } from '../../../../src/api/custom/json-path.ts';
import type { JsonSchema } from '../../../../src/api/custom/json-schema.ts';
import { pruneObject } from '../../../../src/api/custom/prune.ts';
import { validateStructural } from '../../../../src/api/custom/structural.ts';
import { validateAgainst, validateValue } from '../../../../src/api/custom/validate.ts';
import { causeText } from '../../../../src/api/status.ts';
import { FieldPath } from '../../../../src/api/validation/field.ts';
import type { JsonObject, JsonValue } from '../../../../src/lib/json.ts';

function problems(value: JsonValue, schema: JsonSchema): string[] {
  const path = new FieldPath();
  validateValue(value, schema, path.child('spec', 'x'));
  return path.causes.map(causeText);
}

const BODY = 'spec.x in body';

describe('messages', () => {
  const cases: [string, JsonSchema, JsonValue, string[]][] = [
    [
      'type',
      { type: 'integer' },
      'a',
      [`spec.x: Invalid value: "string": ${BODY} must be of type integer: "string"`],
    ],
    [
      'null',
      { type: 'string' },
      null,
      [`spec.x: Invalid value: "null": ${BODY} must be of type string: "null"`],
    ],
    ['nullable', { type: 'string', nullable: true }, null, []],
    ['number takes integer', { type: 'number' }, 1, []],
    [
      'integer takes no fraction',
      { type: 'integer' },
      1.5,
      [`spec.x: Invalid value: "number": ${BODY} must be of type integer: "number"`],
    ],
    [
      'enum',
      { type: 'string', enum: ['a', ''] },
      'b',
      ['spec.x: Unsupported value: "b": supported values: "a", ""'],
    ],
    [
      'pattern',
      { type: 'string', pattern: '^a+$' },
      'b',
      [`spec.x: Invalid value: "b": ${BODY} should match '^a+$'`],
    ],
    [
      'minimum',
      { type: 'integer', minimum: 1 },
      0,
      [`spec.x: Invalid value: 0: ${BODY} should be greater than or equal to 1`],
    ],
    [
      'exclusive maximum',
      { type: 'integer', maximum: 5, exclusiveMaximum: true },
      5,
      [`spec.x: Invalid value: 5: ${BODY} should be less than 5`],
    ],
    [
      'multipleOf',
      { type: 'integer', multipleOf: 2 },
      3,
      [`spec.x: Invalid value: 3: ${BODY} should be a multiple of 2`],
    ],
    [
      'minLength',
      { type: 'string', minLength: 2 },
      'ä',
      [`spec.x: Invalid value: "ä": ${BODY} should be at least 2 chars long`],
    ],
    ['maxLength', { type: 'string', maxLength: 1 }, 'ab', ['spec.x: Too long: may not be more than 1 bytes']],
    [
      'minItems',
      { type: 'array', items: {}, minItems: 1 },
      [],
      [`spec.x: Invalid value: 0: ${BODY} should have at least 1 items`],
    ],
    [
      'maxItems',
      { type: 'array', items: {}, maxItems: 1 },
      [1, 2],
      ['spec.x: Too many: 2: must have at most 1 items'],
    ],
    [
      'items',
      { type: 'array', items: { type: 'string' } },
      ['a', 1],
      ['spec.x[1]: Invalid value: "integer": spec.x[1] in body must be of type string: "integer"'],
    ],
    [
      'set',
      { type: 'array', items: {}, 'x-kubernetes-list-type': 'set' },
      ['a', 'a'],
      ['spec.x[1]: Duplicate value: "a"'],
    ],
    ['required', { type: 'object', required: ['a'] }, {}, ['spec.x.a: Required value']],
    [
      'map values',
      { type: 'object', additionalProperties: { type: 'string' } },
      { a: 1 },
      ['spec.x.a: Invalid value: "integer": spec.x.a in body must be of type string: "integer"'],
    ],
    [
      'int or string',
      { 'x-kubernetes-int-or-string': true },
      true,
      [`spec.x: Invalid value: "boolean": ${BODY} must be of type integer,string: "boolean"`],
    ],
    [
      'format',
      { type: 'string', format: 'ipv4' },
      '1.2.3',
      [`spec.x: Invalid value: "1.2.3": ${BODY} must be of type ipv4: "1.2.3"`],
    ],
    [
      'int32',
      { type: 'integer', format: 'int32' },
      2 ** 31,
      [`spec.x: Invalid value: 2147483648: ${BODY} must be of type int32: "2147483648"`],
    ],
    ['unknown format', { type: 'string', format: 'poem' }, 'x', []],
    [
      'not',
      { type: 'string', not: { enum: ['a'] } },
      'a',
      ['spec.x: Invalid value: "": "spec.x" must not validate the schema (not)'],
    ],
    [
      'oneOf twice',
      { type: 'integer', oneOf: [{ minimum: 0 }, { minimum: 1 }] },
      1,
      [
        'spec.x: Invalid value: "": "spec.x" must validate one and only one schema (oneOf). Found 2 valid alternatives',
      ],
    ],
    [
      'anyOf none',
      { type: 'integer', anyOf: [{ minimum: 9 }, { minimum: 5 }] },
      1,
      [
        'spec.x: Invalid value: "": "spec.x" must validate at least one schema (anyOf)',
        `spec.x: Invalid value: 1: ${BODY} should be greater than or equal to 9`,
      ],
    ],
    [
      'allOf',
      { type: 'integer', allOf: [{ minimum: 2 }, { maximum: 0 }] },
      1,
      [
        `spec.x: Invalid value: 1: ${BODY} should be greater than or equal to 2`,
        `spec.x: Invalid value: 1: ${BODY} should be less than or equal to 0`,
      ],
    ],
  ];
  for (const [name, schema, value, expected] of cases)
    test(name, () => assert.deepEqual(problems(value, schema), expected));

  test('a list map is found out by its keys, defaults included', () => {
    const schema: JsonSchema = {
      type: 'array',
      'x-kubernetes-list-type': 'map',
      'x-kubernetes-list-map-keys': ['port', 'protocol'],
      items: { type: 'object', properties: { port: {}, protocol: { type: 'string', default: 'TCP' } } },
    };
    assert.equal(problems([{ port: 1 }, { port: 1, protocol: 'UDP' }], schema).length, 0);
    assert.equal(problems([{ port: 1 }, { port: 1, protocol: 'TCP' }], schema).length, 1);
  });
});

test('pruning keeps TypeMeta at the root and what is to be preserved', () => {
  const schema: JsonSchema = {
    type: 'object',
    properties: {
      spec: {
        type: 'object',
        properties: {
          known: { type: 'string' },
          open: {
            type: 'object',
            'x-kubernetes-preserve-unknown-fields': true,
            properties: { in: { type: 'object' } },
          },
          list: { type: 'array', items: { type: 'object', properties: { a: {} } } },
          map: { type: 'object', additionalProperties: { type: 'object', properties: { a: {} } } },
        },
      },
    },
  };
  const object: JsonObject = {
    apiVersion: 'a/v1',
    kind: 'K',
    metadata: { name: 'n' },
    odd: 1,
    spec: {
      known: 'x',
      odd: 1,
      open: { any: 1, in: { gone: 1 } },
      list: [{ a: 1, b: 2 }],
      map: { k: { a: 1, b: 2 } },
    },
  };
  assert.deepEqual(pruneObject(object, schema), [
    'unknown field "odd"',
    'unknown field "spec.odd"',
    'unknown field "spec.open.in.gone"',
    'unknown field "spec.list[0].b"',
    'unknown field "spec.map.k.b"',
  ]);
  assert.deepEqual(object, {
    apiVersion: 'a/v1',
    kind: 'K',
    metadata: { name: 'n' },
    spec: { known: 'x', open: { any: 1, in: {} }, list: [{ a: 1 }], map: { k: { a: 1 } } },
  });
});

test('defaults: nested, in lists, in place of a null that may not be', () => {
  const schema: JsonSchema = {
    type: 'object',
    properties: {
      a: { type: 'object', default: {}, properties: { b: { type: 'integer', default: 0 } } },
      c: { type: 'string', default: 'x' },
      d: { type: 'string', default: 'x', nullable: true },
      e: { type: 'array', items: { type: 'object', properties: { f: { type: 'boolean', default: false } } } },
    },
  };
  const value: JsonObject = { c: null, d: null, e: [{}] };
  applySchemaDefaults(value, schema);
  assert.deepEqual(value, { c: 'x', d: null, e: [{ f: false }], a: { b: 0 } });
});

/** A structural schema together with values that satisfy it. */
const schemaAndValue: fc.Arbitrary<{ schema: JsonSchema; value: JsonValue }> = fc.letrec<{
  node: { schema: JsonSchema; value: JsonValue };
}>(tie => ({
  node: fc.oneof(
    { maxDepth: 4 },
    fc.string().map(value => ({ schema: { type: 'string', maxLength: 100 }, value })),
    fc.integer().map(value => ({ schema: { type: 'integer', minimum: -(2 ** 31) }, value })),
    fc.boolean().map(value => ({ schema: { type: 'boolean' }, value })),
    fc.array(tie('node'), { maxLength: 1 }).map(nodes => ({
      schema: { type: 'array', items: nodes[0]?.schema ?? { type: 'string' } },
      value: nodes.map(({ value }) => value),
    })),
    fc.dictionary(fc.stringMatching(/^[a-z]{1,8}$/), tie('node'), { maxKeys: 4 }).map(nodes => ({
      schema: {
        type: 'object',
        required: Object.keys(nodes),
        properties: Object.fromEntries(Object.entries(nodes).map(([name, { schema }]) => [name, schema])),
      },
      value: Object.fromEntries(Object.entries(nodes).map(([name, { value }]) => [name, value])),
    })),
  ),
})).node;

test('property: a value made for its schema passes, and pruning and defaulting leave it alone', () => {
  fc.assert(
    fc.property(schemaAndValue, ({ schema, value }) => {
      const root: JsonSchema = { type: 'object', properties: { spec: schema } };
      const path = new FieldPath();
      validateStructural(root, path);
      const object = { apiVersion: 'a/v1', kind: 'K', metadata: {}, spec: value };
      const before = structuredClone(object);
      assert.deepEqual(pruneObject(object, root), []);
      applySchemaDefaults(object, root);
      validateAgainst(object, root, path);
      assert.deepEqual(path.causes, []);
      assert.deepEqual(object, before);
    }),
  );
});

test('property: whatever comes in, validation gives causes with paths and never throws; pruning is idempotent', () => {
  fc.assert(
    fc.property(schemaAndValue, fc.jsonValue(), ({ schema }, anything) => {
      const root: JsonSchema = { type: 'object', properties: { spec: schema } };
      const object = { spec: structuredClone(anything) as JsonValue };
      pruneObject(object, root);
      assert.deepEqual(pruneObject(object, root), []);
      const path = new FieldPath();
      validateAgainst(object, root, path);
      for (const cause of path.causes) assert.match(cause.field ?? '', /^spec/);
    }),
  );
});

test('structural: what is refused', () => {
  const refused = (schema: JsonSchema): string[] => {
    const path = new FieldPath();
    validateStructural(schema, path.child('s'));
    return path.causes.map(causeText);
  };
  const inSpec = (spec: JsonSchema): string[] => refused({ type: 'object', properties: { spec } });
  assert.deepEqual(refused({}), ['s.type: Required value: must not be empty at the root']);
  assert.deepEqual(inSpec({}), [
    's.properties[spec].type: Required value: must not be empty for specified object fields',
  ]);
  assert.deepEqual(inSpec({ type: 'array' }), [
    's.properties[spec].items: Required value: must be specified',
  ]);
  assert.match(
    inSpec({ type: 'string', pattern: '(' })[0] ?? '',
    /pattern: Invalid value: "\(": must be a valid regular/,
  );
  assert.match(
    inSpec({ type: 'object', properties: {}, additionalProperties: true })[0] ?? '',
    /mutual exclusive/,
  );
  assert.match(inSpec({ type: 'integer', default: 'x' })[0] ?? '', /default: Invalid value: "string"/);
  assert.match(
    inSpec({ type: 'array', items: { type: 'object' }, 'x-kubernetes-list-type': 'map' })[0] ?? '',
    /list-map-keys: Required/,
  );
});

test('JSON paths', () => {
  const root: JsonValue = {
    spec: {
      a: 1,
      list: [
        { type: 'Ready', status: 'True' },
        { type: 'Other', status: 'False' },
      ],
    },
    metadata: { annotations: { 'a.b/c': 'x' } },
  };
  const cases: [string, JsonValue[] | undefined][] = [
    ['.spec.a', [1]],
    ['{.spec.a}', [1]],
    ['.spec.list[0].type', ['Ready']],
    ['.spec.list[*].type', ['Ready', 'Other']],
    ['.spec.list[?(@.type=="Ready")].status', ['True']],
    [".spec.list[?(@.type=='None')].status", []],
    ['.metadata.annotations.a\\.b/c', ['x']],
    [".metadata.annotations['a.b/c']", ['x']],
    ['.spec.none.deeper', []],
    ['.spec[', undefined],
  ];
  for (const [text, expected] of cases) {
    const path = parseJsonPath(text);
    assert.deepEqual(path && evaluateJsonPath(path, root), expected, text);
  }
  const target: JsonObject = {};
  setAt(parseJsonPath('.spec.size.replicas')!, target, 3);
  assert.deepEqual(target, { spec: { size: { replicas: 3 } } });
});

test('columns: the name, the paths, no age unless it is asked for', () => {
  const columns = customColumns([
    { name: 'Size', type: 'integer', jsonPath: '.spec.size' },
    { name: 'Since', type: 'date', jsonPath: '.metadata.creationTimestamp', priority: 1 },
  ]);
  const object = { metadata: { name: 'n', creationTimestamp: '2024-01-01T00:00:00Z' }, spec: { size: 3 } };
  assert.deepEqual(
    columns.map(column => column.cell(object, Date.parse('2024-01-01T00:05:00Z'))),
    ['n', 3, '5m'],
  );
  assert.deepEqual(
    customColumns(undefined).map(({ name }) => name),
    ['Name', 'Age'],
  );
});

test('versions are ordered as Kubernetes orders them', () => {
  const names = ['foo10', 'v1', 'v10', 'v2beta1', 'v2', 'v1alpha1', 'v11beta2', 'foo1', 'v12alpha1'];
  assert.deepEqual(names.sort(compareVersions), [
    'v10',
    'v2',
    'v1',
    'v11beta2',
    'v2beta1',
    'v12alpha1',
    'v1alpha1',
    'foo1',
    'foo10',
  ]);
});
