// Servers that have a resource in an earlier version: who uses the client sees ours, whatever the server has, also when
// it changes under way; a server that has neither is an error, and a missing object is not a reason to ask.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KubeClient } from '../../../src/client/client.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { isNotFound } from '../../../src/client/status.ts';
import type { Transport, TransportRequest, TransportResponse } from '../../../src/client/transport.ts';

const OLD_SLICE = {
  metadata: { name: 'web-1', namespace: 'default', resourceVersion: '5' },
  addressType: 'IPv4',
  endpoints: [
    {
      addresses: ['10.244.1.2'],
      conditions: { ready: true },
      topology: {
        'kubernetes.io/hostname': 'n1',
        'topology.kubernetes.io/zone': 'a',
        'topology.kubernetes.io/region': 'r',
      },
    },
    { addresses: ['10.244.1.3'], conditions: {} },
  ],
};
const NEW_ENDPOINTS = [
  {
    addresses: ['10.244.1.2'],
    conditions: { ready: true },
    nodeName: 'n1',
    zone: 'a',
    deprecatedTopology: { 'topology.kubernetes.io/region': 'r' },
  },
  { addresses: ['10.244.1.3'], conditions: {} },
];

/** A server with these versions of discovery.k8s.io; what it was asked is in `asked`. */
class OldServer implements Transport {
  readonly asked: string[] = [];
  readonly bodies: unknown[] = [];
  versions: string[];

  constructor(...versions: string[]) {
    this.versions = versions;
  }

  async request({ method, path, body }: TransportRequest): Promise<TransportResponse> {
    this.asked.push(`${method} ${path.split('?')[0]}`);
    if (body !== undefined) this.bodies.push(JSON.parse(String(body)));
    const [status, text] = this.#answer(path);
    const bytes = Buffer.from(text);
    return {
      status,
      headers: {},
      text: async () => text,
      body: (async function* () {
        yield bytes;
      })(),
    } as TransportResponse;
  }

  #answer(path: string): [number, string] {
    const [, version = '', rest = ''] = /^\/apis\/discovery\.k8s\.io\/?([^/?]*)(.*)$/.exec(path) ?? [];
    if (version === '')
      return [200, JSON.stringify({ versions: this.versions.map(one => ({ version: one })) })];
    if (!this.versions.includes(version)) return [404, '404 page not found\n'];
    const apiVersion = `discovery.k8s.io/${version}`;
    if (rest.includes('/missing'))
      return [
        404,
        JSON.stringify({ kind: 'Status', code: 404, reason: 'NotFound', details: { name: 'missing' } }),
      ];
    const object = version === 'v1' ? { ...OLD_SLICE, endpoints: NEW_ENDPOINTS } : OLD_SLICE;
    if (rest.includes('watch=true'))
      return [
        200,
        `${JSON.stringify({ type: 'ADDED', object: { apiVersion, kind: 'EndpointSlice', ...object } })}\n`,
      ];
    if (/web-1/.test(rest)) return [200, JSON.stringify({ apiVersion, kind: 'EndpointSlice', ...object })];
    return [200, JSON.stringify({ apiVersion, kind: 'EndpointSliceList', metadata: {}, items: [object] })];
  }

  async close(): Promise<void> {}
}

const clientOf = (server: OldServer): KubeClient =>
  new KubeClient({ server: 'http://unused' }, { transport: server, retries: 0 });

test('v1beta1 is found by asking once, and read as v1', async () => {
  const server = new OldServer('v1beta1');
  const client = clientOf(server);
  const list = await client.list(RESOURCE.endpointSlices);
  assert.equal(list.apiVersion, 'discovery.k8s.io/v1');
  assert.deepEqual(list.items[0]?.endpoints, NEW_ENDPOINTS);
  const got = await client.get(RESOURCE.endpointSlices, 'web-1', 'default');
  assert.equal(got.apiVersion, 'discovery.k8s.io/v1');
  assert.deepEqual(got.endpoints, NEW_ENDPOINTS);
  for await (const { object } of client.watch(RESOURCE.endpointSlices)) {
    assert.deepEqual(object.endpoints, NEW_ENDPOINTS);
    assert.equal(object.apiVersion, 'discovery.k8s.io/v1');
  }
  assert.deepEqual(server.asked, [
    'GET /apis/discovery.k8s.io/v1/endpointslices',
    'GET /apis/discovery.k8s.io',
    'GET /apis/discovery.k8s.io/v1beta1/endpointslices',
    'GET /apis/discovery.k8s.io/v1beta1/namespaces/default/endpointslices/web-1',
    'GET /apis/discovery.k8s.io/v1beta1/endpointslices',
  ]);
});

test('what is written is of the version that the server has', async () => {
  const server = new OldServer('v1beta1');
  const client = clientOf(server);
  const slice = await client.get(RESOURCE.endpointSlices, 'web-1', 'default');
  await client.update(RESOURCE.endpointSlices, slice);
  await client.patch(
    RESOURCE.endpointSlices,
    'web-1',
    { endpoints: [{ addresses: ['10.244.1.4'], nodeName: 'n2' }] },
    { namespace: 'default', type: 'merge' },
  );
  const [put, patch] = server.bodies as (typeof OLD_SLICE & { apiVersion?: string })[];
  assert.equal(put?.apiVersion, 'discovery.k8s.io/v1beta1');
  assert.deepEqual(put?.endpoints[0]?.topology, OLD_SLICE.endpoints[0]?.topology);
  assert.deepEqual(put?.endpoints[1], OLD_SLICE.endpoints[1]);
  assert.deepEqual(patch?.endpoints[0]?.topology, { 'kubernetes.io/hostname': 'n2' });
});

test('a server that has v1 is asked nothing more; a missing object is just that', async () => {
  const server = new OldServer('v1', 'v1beta1');
  const client = clientOf(server);
  await client.list(RESOURCE.endpointSlices);
  await assert.rejects(client.get(RESOURCE.endpointSlices, 'missing', 'default'), isNotFound);
  assert.equal(server.asked.length, 2);
});

test('an upgrade of the server is found out', async () => {
  const server = new OldServer('v1beta1');
  const client = clientOf(server);
  await client.list(RESOURCE.endpointSlices);
  server.versions = ['v1'];
  const { items } = await client.list(RESOURCE.endpointSlices);
  assert.deepEqual(items[0]?.endpoints, NEW_ENDPOINTS);
  assert.equal(server.asked.at(-1), 'GET /apis/discovery.k8s.io/v1/endpointslices');
});

test('a server without the resource at all: the refusal comes through', async () => {
  await assert.rejects(clientOf(new OldServer()).list(RESOURCE.endpointSlices), isNotFound);
});
