import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkFields } from '../../../src/api/field-validation.ts';
import type { JsonObject } from '../../../src/lib/json.ts';

const check = (object: JsonObject) => checkFields('apps', 'v1', 'Deployment', object);

test('unknown fields are named with their path, and dropped', () => {
  const object: JsonObject = {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'x', nmae: 1 },
    spec: { replicaz: 1, template: { spec: { containers: [{ name: 'c', imgae: 'i' }] } } },
  };
  assert.deepEqual(check(object).unknown, [
    'unknown field "metadata.nmae"',
    'unknown field "spec.replicaz"',
    'unknown field "spec.template.spec.containers[0].imgae"',
  ]);
  assert.deepEqual(object.spec, { template: { spec: { containers: [{ name: 'c' }] } } });
});

const MISTYPED: [spec: JsonObject, message: string][] = [
  [
    { replicas: '2' },
    'json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32',
  ],
  [
    { replicas: 1.5 },
    'json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32',
  ],
  [
    { replicas: 2 ** 31 },
    'json: cannot unmarshal number into Go struct field DeploymentSpec.spec.replicas of type int32',
  ],
  [
    { paused: 'no' },
    'json: cannot unmarshal string into Go struct field DeploymentSpec.spec.paused of type bool',
  ],
  [
    { selector: [] },
    'json: cannot unmarshal array into Go struct field DeploymentSpec.spec.selector of type v1.LabelSelector',
  ],
  [
    { template: { spec: { containers: {} } } },
    'json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container',
  ],
  [
    { template: { metadata: { labels: { a: 1 } } } },
    'json: cannot unmarshal number into Go struct field ObjectMeta.spec.template.metadata.labels.a of type string',
  ],
];
for (const [spec, message] of MISTYPED)
  test(message.slice(6, 70), () => assert.deepEqual(check({ spec }).mistyped, [message]));

test('base64, quantities and times are checked', () => {
  assert.deepEqual(checkFields('', 'v1', 'Secret', { data: { a: 'a_b=' } }).mistyped, [
    'data.a: illegal base64 data at input byte 1',
  ]);
  const pod: JsonObject = { metadata: { creationTimestamp: 'today' }, spec: { overhead: { cpu: 'x' } } };
  assert.match(
    checkFields('', 'v1', 'Pod', pod).mistyped.join('\n'),
    /parsing time "today"[\s\S]*spec.overhead.cpu: quantities must match/,
  );
});

test('values are put in canonical form; what says nothing is left out', () => {
  const pod: JsonObject = {
    metadata: {
      name: 'p',
      creationTimestamp: null,
      labels: {},
      finalizers: [],
      deletionTimestamp: '2024-01-01T01:00:00+01:00',
    },
    spec: {
      hostNetwork: false,
      terminationGracePeriodSeconds: 0,
      nodeName: '',
      containers: [
        { name: 'c', image: '', resources: { limits: { cpu: 0.5, memory: '1024Mi' } }, securityContext: {} },
      ],
      volumes: [{ name: 'v', emptyDir: {} }],
    },
  };
  assert.deepEqual(checkFields('', 'v1', 'Pod', pod), { unknown: [], mistyped: [] });
  assert.deepEqual(pod, {
    metadata: { name: 'p', deletionTimestamp: '2024-01-01T00:00:00Z' },
    spec: {
      terminationGracePeriodSeconds: 0,
      containers: [{ name: 'c', resources: { limits: { cpu: '500m', memory: '1Gi' } }, securityContext: {} }],
      volumes: [{ name: 'v', emptyDir: {} }],
    },
  });
});

test('a kind without schema is left alone', () => {
  const object: JsonObject = { any: { thing: [1] } };
  assert.deepEqual(checkFields('example.com', 'v1', 'Thing', object), { unknown: [], mistyped: [] });
  assert.deepEqual(object, { any: { thing: [1] } });
});
