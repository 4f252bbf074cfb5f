import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { applyObject, trackFields } from '../../../src/api/apply.ts';
import {
  difference,
  formatFieldSet,
  intersection,
  isEmpty,
  parseFieldSet,
  union,
} from '../../../src/api/field-set.ts';
import { schemaOfKind } from '../../../src/api/schema.ts';
import type { KubeObject } from '../../../src/api/types.ts';
import { ApiError } from '../../../src/lib/errors.ts';
import type { JsonObject, JsonValue } from '../../../src/lib/json.ts';

interface Loose extends KubeObject {
  spec: JsonObject;
}

const schema = schemaOfKind('apps', 'v1', 'Deployment');
const options = { subresource: '', time: '2024-01-01T00:00:00Z', schema, force: false };

function deployment(spec: JsonObject, metadata: JsonObject = {}): Loose {
  return { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'd', ...metadata }, spec } as Loose;
}

const containers = (...list: JsonValue[]): JsonObject => ({ template: { spec: { containers: list } } });

function managers(object: KubeObject): Record<string, unknown> {
  return Object.fromEntries(
    (object.metadata?.managedFields ?? []).map(e => [`${e.manager}/${e.operation}`, e.fieldsV1]),
  );
}

test('creating by apply owns what was applied', () => {
  const object = applyObject(
    undefined,
    deployment({ replicas: 2, ...containers({ name: 'c', image: 'i', ports: [{ containerPort: 80 }] }) }),
    {
      ...options,
      manager: 'me',
    },
  );
  assert.deepEqual(managers(object), {
    'me/Apply': {
      'f:spec': {
        'f:replicas': {},
        'f:template': {
          'f:spec': {
            'f:containers': {
              'k:{"name":"c"}': {
                '.': {},
                'f:image': {},
                'f:name': {},
                'f:ports': { 'k:{"containerPort":80,"protocol":"TCP"}': { '.': {}, 'f:containerPort': {} } },
              },
            },
          },
        },
      },
    },
  });
});

test('what another manager changed conflicts, is named, and can be forced', () => {
  const live = applyObject(undefined, deployment({ replicas: 2 }), { ...options, manager: 'me' });
  const scaled = structuredClone(live);
  scaled.spec.replicas = 5;
  trackFields({ old: live, object: scaled, manager: 'scaler', subresource: '', time: options.time });
  assert.deepEqual(managers(scaled), { 'scaler/Update': { 'f:spec': { 'f:replicas': {} } } });
  assert.throws(
    () => applyObject(scaled, deployment({ replicas: 2 }), { ...options, manager: 'me' }),
    (error: unknown) =>
      error instanceof ApiError &&
      error.status === 409 &&
      error.message ===
        'Apply failed with 1 conflict: conflict with "scaler" using apps/v1 at 2024-01-01T00:00:00Z: .spec.replicas' &&
      error.details?.causes?.[0]?.reason === 'FieldManagerConflict',
  );
  const forced = applyObject(scaled, deployment({ replicas: 2 }), { ...options, manager: 'me', force: true });
  assert.equal(forced.spec.replicas, 2);
  assert.deepEqual(managers(forced), { 'me/Apply': { 'f:spec': { 'f:replicas': {} } } });
});

test('the same value is owned by both, without conflict', () => {
  const live = applyObject(undefined, deployment({ replicas: 2 }), { ...options, manager: 'a' });
  const both = applyObject(live, deployment({ replicas: 2 }), { ...options, manager: 'b' });
  assert.deepEqual(Object.keys(managers(both)).sort(), ['a/Apply', 'b/Apply']);
});

test('what an apply no longer names goes, unless somebody else owns it', () => {
  const first = applyObject(
    undefined,
    deployment({
      replicas: 2,
      paused: true,
      ...containers({ name: 'a', image: '1' }, { name: 'b', image: '2' }),
    }),
    {
      ...options,
      manager: 'me',
    },
  );
  const shared = applyObject(first, deployment({ replicas: 2 }), { ...options, manager: 'other' });
  const next = applyObject(shared, deployment(containers({ name: 'b', image: '2' })), {
    ...options,
    manager: 'me',
  });
  assert.deepEqual(next.spec, { replicas: 2, ...containers({ name: 'b', image: '2' }) });
});

test('applied list elements come in their order; others stay where they were', () => {
  const live = deployment(
    containers({ name: 'x', image: '0' }, { name: 'a', image: '1' }, { name: 'y', image: '0' }),
  );
  const result = applyObject(
    live,
    deployment(containers({ name: 'b', image: '2' }, { name: 'a', image: '1' })),
    {
      ...options,
      manager: 'me',
    },
  );
  const names = (result.spec.template as { spec: { containers: { name: string }[] } }).spec.containers.map(
    c => c.name,
  );
  assert.deepEqual(names, ['x', 'b', 'a', 'y']);
});

test('applying twice changes nothing, not even the time', () => {
  const once = applyObject(undefined, deployment({ replicas: 1 }), { ...options, manager: 'me' });
  const twice = applyObject(once, deployment({ replicas: 1 }), {
    ...options,
    manager: 'me',
    time: '2030-01-01T00:00:00Z',
  });
  assert.deepEqual(twice, once);
});

test('an update that writes nothing leaves the managers; one with an empty list forgets them', () => {
  const live = applyObject(undefined, deployment({ replicas: 1 }), { ...options, manager: 'me' });
  const same = structuredClone(live);
  trackFields({ old: live, object: same, manager: 'x', subresource: '', time: options.time });
  assert.deepEqual(managers(same), managers(live));
  const reset = structuredClone(live);
  (reset.metadata as { managedFields?: unknown }).managedFields = [];
  trackFields({ old: live, object: reset, manager: 'x', subresource: '', time: options.time });
  assert.equal(reset.metadata?.managedFields, undefined);
});

test('removed fields are nobody’s', () => {
  const live = applyObject(undefined, deployment({ replicas: 1, paused: true }), {
    ...options,
    manager: 'me',
  });
  const changed = structuredClone(live);
  delete changed.spec.paused;
  trackFields({ old: live, object: changed, manager: 'x', subresource: '', time: options.time });
  assert.deepEqual(managers(changed), { 'me/Apply': { 'f:spec': { 'f:replicas': {} } } });
});

const node: fc.Arbitrary<JsonValue> = fc.letrec<{ node: JsonValue }>(tie => ({
  node: fc.oneof(
    { depthSize: 'small' },
    fc.constant({}),
    fc.dictionary(fc.constantFrom('.', 'f:a', 'f:b', 'f:c'), tie('node'), {
      maxKeys: 3,
      noNullPrototype: true,
    }),
  ),
})).node;
const set = node.map(value => parseFieldSet(value));

test('field sets: the algebra holds, and their text reads back', () => {
  fc.assert(
    fc.property(set, set, (a, b) => {
      const text = (value: typeof a): string => JSON.stringify(formatFieldSet(value));
      assert.equal(text(union(a, b)), text(union(b, a)));
      assert.equal(text(intersection(a, b)), text(intersection(b, a)));
      assert.ok(isEmpty(intersection(difference(a, b), b)));
      assert.equal(text(union(difference(a, b), intersection(a, b))), text(union(a, a)));
      assert.equal(text(parseFieldSet(formatFieldSet(a))), text(a));
    }),
  );
});
