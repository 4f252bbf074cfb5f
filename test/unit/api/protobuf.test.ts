// Bodies recorded from kubectl 1.32 (create, expose, auth can-i, create token), and round trips.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { decodeKubernetesProtobuf, encodeKubernetesProtobuf } from '../../../src/api/protobuf.ts';
import { ApiError } from '../../../src/lib/errors.ts';
import type { JsonObject } from '../../../src/lib/json.ts';

const fixtures = join(import.meta.dirname, '../../fixtures/kubectl-protobuf');
const objects = JSON.parse(readFileSync(join(fixtures, 'objects.json'), 'utf8')) as Record<
  string,
  JsonObject
>;

for (const [file, object] of Object.entries(objects))
  test(`kubectl's ${file} decodes, and encodes back to the same object`, () => {
    const decoded = decodeKubernetesProtobuf(readFileSync(join(fixtures, file)));
    assert.deepEqual(decoded, object);
    assert.deepEqual(decodeKubernetesProtobuf(encodeKubernetesProtobuf(decoded)), object);
  });

test('scalars that are messages, embedded structs, maps of bytes and of lists survive the round trip', () => {
  const values: JsonObject[] = [
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'p', creationTimestamp: '2024-02-03T04:05:06Z', generation: 3 },
      spec: {
        containers: [
          {
            name: 'c',
            image: 'i',
            resources: { limits: { cpu: '100m' } },
            livenessProbe: { grpc: { port: 5, service: '' }, terminationGracePeriodSeconds: 0 },
            readinessProbe: { httpGet: { port: 'http', path: '/' } },
            securityContext: { runAsUser: 0, privileged: false },
          },
        ],
        volumes: [
          { name: 'v', emptyDir: {} },
          { name: 'w', projected: { sources: [{ configMap: { name: 'x' } }] } },
        ],
        ephemeralContainers: [{ name: 'e', image: 'j', targetContainerName: 'c' }],
        terminationGracePeriodSeconds: 0,
      },
    },
    { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's' }, data: { a: 'AAECAw==', empty: '' } },
    {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name: 'l' },
      spec: { renewTime: '2024-02-03T04:05:06.000007Z', leaseDurationSeconds: 40 },
    },
    {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SubjectAccessReview',
      metadata: {},
      spec: { user: 'u', extra: { scopes: ['a', 'b'] } },
      status: { allowed: false },
    },
    { apiVersion: 'v1', kind: 'DeleteOptions', gracePeriodSeconds: 0, propagationPolicy: 'Foreground' },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: 'e' },
      addressType: 'IPv6',
      endpoints: [{ addresses: ['fd00::1'], conditions: { ready: false }, zone: 'z' }],
      ports: [{ name: '', port: 80, protocol: 'TCP' }],
    },
  ];
  for (const value of values)
    assert.deepEqual(decodeKubernetesProtobuf(encodeKubernetesProtobuf(value)), value);
});

test('what is not Kubernetes protobuf is refused with 400', () => {
  const good = encodeKubernetesProtobuf({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'x' } });
  for (const bytes of [new Uint8Array(), Buffer.from('{}'), good.subarray(0, good.length - 3)])
    assert.throws(
      () => decodeKubernetesProtobuf(bytes),
      (error: unknown) => error instanceof ApiError && error.status === 400,
    );
});

test('an unknown kind is named', () => {
  const bytes = Buffer.concat([
    Buffer.from('k8s\0'),
    Buffer.from([0x0a, 0x0b, 0x0a, 0x02, 0x76, 0x31, 0x12, 0x05]),
    Buffer.from('Thing'),
  ]);
  assert.throws(() => decodeKubernetesProtobuf(bytes), /no kind "Thing" is registered for version "v1"/);
});
