// Whatever bytes or text a client sends: the decoders give a value or an ApiError of 4xx, nothing else.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { trackFields } from '../../../src/api/apply.ts';
import { checkFields } from '../../../src/api/field-validation.ts';
import { applyPatch } from '../../../src/api/patch.ts';
import { decodeKubernetesProtobuf, encodeKubernetesProtobuf } from '../../../src/api/protobuf.ts';
import { parseQuantity } from '../../../src/api/quantity.ts';
import { RESOURCES, type ResourceDefinition } from '../../../src/api/resources.ts';
import { schemaOfKind, type TypeSchema, typeSchema } from '../../../src/api/schema.ts';
import { parseFieldSelector, parseLabelSelector } from '../../../src/api/selectors.ts';
import { toTable } from '../../../src/api/table.ts';
import type { KubeObject } from '../../../src/api/types.ts';
import { ApiError } from '../../../src/lib/errors.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../../../src/lib/json.ts';

const RUNS = Number(process.env.FUZZ_RUNS ?? 3000);

function valueOrRefusal<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch (error) {
    assert.ok(error instanceof ApiError, String(error));
    assert.ok(error.status >= 400 && error.status < 500, error.message);
    return undefined;
  }
}

const fixtures = join(import.meta.dirname, '../../fixtures/kubectl-protobuf');
const bodies = readdirSync(fixtures)
  .filter(file => file.endsWith('.bin'))
  .map(file => readFileSync(join(fixtures, file)));

const mutation = fc.record({
  body: fc.constantFrom(...bodies),
  changes: fc.array(fc.tuple(fc.nat(2000), fc.integer({ min: 0, max: 255 })), { maxLength: 6 }),
  cut: fc.option(fc.nat(2000), { freq: 4 }),
});

test('mutated protobuf bodies decode or are refused, and what decodes encodes', () => {
  fc.assert(
    fc.property(mutation, ({ body, changes, cut }) => {
      const bytes = Buffer.from(body);
      for (const [at, value] of changes) bytes[at % bytes.length] = value;
      const object = valueOrRefusal(() =>
        decodeKubernetesProtobuf(cut === null ? bytes : bytes.subarray(0, cut % bytes.length)),
      );
      if (object) encodeKubernetesProtobuf(object);
    }),
    { numRuns: RUNS },
  );
});

test('any text as a selector or quantity', () => {
  const text = fc.oneof(
    fc.string({ maxLength: 30 }),
    fc
      .array(
        fc.constantFrom(
          'a',
          'b/c',
          '=',
          '==',
          '!=',
          '!',
          ' in ',
          'notin',
          '(',
          ')',
          ',',
          '>',
          '<',
          ' ',
          '\\',
          '1',
          'Ki',
          '.',
          'e',
        ),
      )
      .map(parts => parts.join('')),
  );
  fc.assert(
    fc.property(text, value => {
      valueOrRefusal(() => parseLabelSelector(value));
      valueOrRefusal(() => parseFieldSelector(value));
      valueOrRefusal(() => parseQuantity(value));
    }),
    { numRuns: RUNS },
  );
});

const FIELDS = [
  'metadata',
  'spec',
  'status',
  'template',
  'containers',
  'name',
  'labels',
  'ports',
  'port',
  'selector',
  'env',
  'volumes',
  'resources',
  'limits',
  'cpu',
  '$patch',
  '$retainKeys',
  '$setElementOrder/containers',
  '$deleteFromPrimitiveList/finalizers',
  'finalizers',
  'subsets',
  'endpoints',
  'addresses',
  'conditions',
  'data',
  'rules',
  '__proto__',
];
const json: fc.Arbitrary<JsonValue> = fc
  .letrec<{ value: JsonValue }>(tie => ({
    value: fc.oneof(
      { depthSize: 'medium' },
      fc.constantFrom<JsonValue>(
        null,
        true,
        false,
        0,
        1,
        -1,
        2 ** 40,
        1.5,
        '',
        'a',
        'replace',
        'delete',
        '100m',
      ),
      fc.array(tie('value'), { maxLength: 3 }),
      fc.dictionary(fc.constantFrom(...FIELDS), tie('value'), { maxKeys: 5 }) as fc.Arbitrary<JsonValue>,
    ),
  }))
  .value.map(value => JSON.parse(JSON.stringify(value)) as JsonValue);

const resource = fc.constantFrom(...RESOURCES);
const WORDS = [
  '',
  'a',
  'A_',
  'x.y/z',
  'None',
  'TCP',
  'Always',
  'RollingUpdate',
  'NodePort',
  '10.0.0.1',
  'fd00::/64',
  '50%',
  '\n',
];

/** A value of the type, with any fields of it and any values of theirs: well typed, seldom sensible. */
function buildValue(draw: fc.GeneratorValue, element: string, depth: number): JsonValue {
  const type = typeSchema(element);
  if (type) return buildObject(draw, type, depth);
  switch (element) {
    case 'bool':
      return draw(fc.boolean);
    case 'int32':
    case 'int64':
      return draw(fc.constantFrom<number[]>, -1, 0, 1, 80, 70_000, 2 ** 31 - 1);
    case 'double':
      return draw(fc.constantFrom<number[]>, 0.5, -1);
    case 'Quantity':
      return draw(fc.constantFrom<(string | number)[]>, '1', '-1', '100m', '2Gi', 0.5);
    case 'IntOrString':
      return draw(fc.constantFrom<(string | number)[]>, 0, 1, '25%', 'http', -1);
    case 'Time':
    case 'MicroTime':
      return '2024-01-01T00:00:00.5+01:00';
    case 'bytes':
      return draw(fc.constantFrom<string[]>, '', 'AAAA');
    case 'RawExtension':
    case 'FieldsV1':
    case 'JSON':
      return { a: [null] };
    default:
      return draw(fc.constantFrom<string[]>, ...WORDS);
  }
}

function buildObject(draw: fc.GeneratorValue, type: TypeSchema, depth: number): JsonObject {
  const object: JsonObject = {};
  for (const field of type.fields.values()) {
    const likely = depth < 2 || field.required;
    if (depth > 6 || !(draw(fc.nat, { max: 9 }) < (likely ? 8 : 3))) continue;
    const one = (): JsonValue => buildValue(draw, field.element, depth + 1);
    const items = (): JsonValue[] => Array.from({ length: draw(fc.nat, { max: 2 }) }, one);
    if (field.shape === 'single') object[field.name] = one();
    else if (field.shape === 'list') object[field.name] = items();
    else object[field.name] = { [draw(fc.constantFrom<string[]>, ...WORDS)]: field.nested ? items() : one() };
  }
  return object;
}

const pair = fc.tuple(resource, fc.gen()).map(([definition, draw]) => {
  const type = schemaOfKind(definition.group, definition.version, definition.kind) as TypeSchema;
  return { definition, object: buildObject(draw, type, 0), old: buildObject(draw, type, 0) };
});

/** Through everything a write goes through. */
function write(definition: ResourceDefinition, now: KubeObject, before: KubeObject): void {
  definition.defaults(now);
  definition.defaults(before);
  definition.prepareCreate(structuredClone(now));
  definition.validate(now);
  definition.validate(now, before);
  definition.prepareUpdate(now, before, 'status');
  definition.prepareUpdate(now, before);
  trackFields({ old: before, object: now, manager: 'm', subresource: '', time: '2024-01-01T00:00:00Z' });
  definition.selectableFields(now);
  definition.conversion?.fromStorage(definition.conversion.toStorage(now));
  toTable(definition, [now], Date.now());
}

test('any well typed object is defaulted, validated, printed; a second pass finds nothing to change', () => {
  fc.assert(
    fc.property(pair, ({ definition, object, old }) => {
      const { group, version, kind } = definition;
      for (const one of [object, old]) {
        assert.deepEqual(checkFields(group, version, kind, one), { unknown: [], mistyped: [] });
        const again = structuredClone(one);
        checkFields(group, version, kind, again);
        assert.deepEqual(again, one);
      }
      write(definition, object as unknown as KubeObject, old as unknown as KubeObject);
    }),
    { numRuns: RUNS / 3, endOnFailure: true },
  );
});

test('any JSON as an object is refused, or goes through', () => {
  fc.assert(
    fc.property(resource, json, (definition, value) => {
      const object: JsonObject = isJsonObject(value) ? value : { spec: value };
      if (!isJsonObject(object.metadata)) object.metadata = { name: 'x' };
      const { mistyped } = checkFields(definition.group, definition.version, definition.kind, object);
      if (mistyped.length > 0) return;
      write(definition, object as unknown as KubeObject, { metadata: { name: 'x' } });
    }),
    { numRuns: RUNS },
  );
});

test('any JSON as a patch', () => {
  const schema = schemaOfKind('apps', 'v1', 'Deployment');
  fc.assert(
    fc.property(
      fc.constantFrom('json' as const, 'merge' as const, 'strategic' as const),
      json,
      json,
      (kind, document, patch) => {
        const target = isJsonObject(document) ? document : { spec: document };
        const before = JSON.stringify(target);
        valueOrRefusal(() => applyPatch(kind, target, patch, schema));
        assert.equal(JSON.stringify(target), before);
      },
    ),
    { numRuns: RUNS },
  );
});
