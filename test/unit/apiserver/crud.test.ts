import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { at, ServerFixture } from './server-fixture.ts';

let server: ServerFixture;
before(async () => {
  server = await ServerFixture.start();
});
after(() => server[Symbol.asyncDispose]());

const CONFIGMAPS = '/api/v1/namespaces/default/configmaps';
const PODS = '/api/v1/namespaces/default/pods';
const pod = (name: string, more: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, ...more },
  spec: { containers: [{ name: 'c', image: 'i' }] },
});

test('create, get, update, delete; the object keeps who it is', async () => {
  const created = await server.request('POST', CONFIGMAPS, {
    body: { metadata: { name: 'a' }, data: { k: '1' } },
  });
  assert.equal(created.status, 201);
  assert.equal(at(created.body, 'kind'), 'ConfigMap');
  const uid = at(created.body, 'metadata.uid');
  assert.match(String(uid), /^[0-9a-f-]{36}$/);
  const got = await server.request('GET', `${CONFIGMAPS}/a`);
  assert.deepEqual(got.body, created.body);

  const replacement = { metadata: { name: 'a', labels: { x: 'y' } }, data: { k: '2' } };
  const updated = await server.request('PUT', `${CONFIGMAPS}/a`, { body: replacement });
  assert.equal(updated.status, 200);
  assert.equal(at(updated.body, 'metadata.uid'), uid);
  assert.equal(at(updated.body, 'data.k'), '2');
  assert.ok(
    Number(at(updated.body, 'metadata.resourceVersion')) >
      Number(at(created.body, 'metadata.resourceVersion')),
  );

  const same = await server.request('PUT', `${CONFIGMAPS}/a`, { body: updated.body });
  assert.equal(
    at(same.body, 'metadata.resourceVersion'),
    at(updated.body, 'metadata.resourceVersion'),
    'no change, no write',
  );

  const gone = await server.request('DELETE', `${CONFIGMAPS}/a`);
  assert.equal(at(gone.body, 'status'), 'Success');
  const missing = await server.request('GET', `${CONFIGMAPS}/a`);
  assert.equal(missing.status, 404);
  assert.equal(at(missing.body, 'message'), 'configmaps "a" not found');
});

test('a stale resourceVersion or another uid conflicts, of parallel updates one wins', async () => {
  const { body } = await server.request('POST', CONFIGMAPS, { body: { metadata: { name: 'race' } } });
  const results = await Promise.all(
    Array.from({ length: 8 }, (_, index) =>
      server.request('PUT', `${CONFIGMAPS}/race`, {
        body: { ...(body as object), data: { n: String(index) } },
      }),
    ),
  );
  assert.deepEqual(results.map(result => result.status).sort(), [200, 409, 409, 409, 409, 409, 409, 409]);
  assert.equal(at(results.find(result => result.status === 409)?.body, 'reason'), 'Conflict');
  const other = await server.request('PUT', `${CONFIGMAPS}/race`, {
    body: { metadata: { name: 'race', uid: '00000000-0000-0000-0000-000000000000' } },
  });
  assert.equal(other.status, 409);
});

test('parallel patches all land', async () => {
  await server.request('POST', CONFIGMAPS, { body: { metadata: { name: 'patched' } } });
  const results = await Promise.all(
    Array.from({ length: 10 }, (_, index) =>
      server.request('PATCH', `${CONFIGMAPS}/patched`, {
        body: { data: { [`k${index}`]: 'v' } },
        headers: { 'content-type': 'application/merge-patch+json' },
      }),
    ),
  );
  assert.ok(results.every(result => result.status === 200));
  const { body } = await server.request('GET', `${CONFIGMAPS}/patched`);
  assert.equal(Object.keys(at(body, 'data') as object).length, 10);
});

test('refusals: twice the same name, no name, wrong kind, wrong namespace, bad JSON, too much', async () => {
  await server.request('POST', CONFIGMAPS, { body: { metadata: { name: 'once' } } });
  const twice = await server.request('POST', CONFIGMAPS, { body: { metadata: { name: 'once' } } });
  assert.deepEqual([twice.status, at(twice.body, 'reason')], [409, 'AlreadyExists']);
  const cases: [unknown, number, RegExp][] = [
    [{ metadata: {} }, 422, /metadata.name: Required value/],
    [{ kind: 'Secret', apiVersion: 'v1', metadata: { name: 'x' } }, 400, /does not match the expected kind/],
    [{ metadata: { name: 'x', namespace: 'other' } }, 400, /namespace of the provided object does not match/],
    [{ metadata: { name: 'x', resourceVersion: '7' } }, 400, /resourceVersion should not be set/],
    [{ metadata: { name: 'Bad_Name' } }, 422, /RFC 1123/],
    ['{"metadata": {"name": "x",}}', 400, /position 26 \(line 1 column 27\)/],
    ['[]', 400, /not an object/],
    ['', 400, /empty/],
    [{ metadata: { name: 'x' }, data: { big: 'x'.repeat(3_200_000) } }, 413, /limit/],
  ];
  for (const [body, status, message] of cases) {
    const answer = await server.request('POST', CONFIGMAPS, { body });
    assert.equal(answer.status, status, `${JSON.stringify(body).slice(0, 80)}: ${answer.text.slice(0, 200)}`);
    assert.match(String(at(answer.body, 'message')), message);
    assert.equal(at(answer.body, 'kind'), 'Status');
  }
  const nowhere = await server.request('POST', '/api/v1/namespaces/none/configmaps', {
    body: { metadata: { name: 'x' } },
  });
  assert.deepEqual([nowhere.status, at(nowhere.body, 'message')], [404, 'namespaces "none" not found']);
  assert.equal(
    (await server.request('POST', CONFIGMAPS, { body: 'x', headers: { 'content-type': 'text/html' } }))
      .status,
    415,
  );
  assert.equal((await server.request('GET', CONFIGMAPS, { headers: { accept: 'text/html' } })).status, 406);
  assert.equal((await server.request('GET', '/api/v1/nonsense')).status, 404);
  assert.equal((await server.request('PUT', '/api/v1/pods')).status, 405);
});

test('generateName, dryRun, fieldValidation, YAML bodies', async () => {
  const made = await server.request('POST', CONFIGMAPS, { body: { metadata: { generateName: 'gen-' } } });
  assert.match(String(at(made.body, 'metadata.name')), /^gen-[a-z0-9]{5}$/);
  const dry = await server.request('POST', `${CONFIGMAPS}?dryRun=All`, {
    body: { metadata: { name: 'dry' } },
  });
  assert.equal(dry.status, 201);
  assert.equal((await server.request('GET', `${CONFIGMAPS}/dry`)).status, 404);
  assert.equal(
    (await server.request('POST', `${CONFIGMAPS}?dryRun=Some`, { body: { metadata: { name: 'dry' } } }))
      .status,
    400,
  );
  const strict = await server.request('POST', `${CONFIGMAPS}?fieldValidation=Strict`, {
    body: { metadata: { name: 'strict' }, dataa: {} },
  });
  assert.equal(strict.status, 400);
  assert.match(String(at(strict.body, 'message')), /unknown field "dataa"/);
  const warned = await server.request('POST', `${CONFIGMAPS}?fieldValidation=Warn`, {
    body: { metadata: { name: 'warned' }, dataa: {} },
  });
  assert.equal(warned.status, 201);
  assert.match(String(warned.headers.warning), /299 - "unknown field \\"dataa\\""/);
  const yaml = await server.request('POST', CONFIGMAPS, {
    body: 'metadata:\n  name: yaml\ndata:\n  a: b\n',
    headers: { 'content-type': 'application/yaml' },
  });
  assert.equal(at(yaml.body, 'data.a'), 'b');
});

test('lists: pages, selectors, one revision for all pages, 410 for none', async () => {
  const path = '/api/v1/namespaces/kube-public/configmaps';
  for (let index = 0; index < 7; index++)
    await server.request('POST', path, {
      body: { metadata: { name: `c${index}`, labels: { odd: String(index % 2) } } },
    });
  const names: unknown[] = [];
  const revisions = new Set<unknown>();
  let next = '';
  do {
    const page = await server.request('GET', `${path}?limit=3&continue=${next}`);
    names.push(...(at(page.body, 'items') as object[]).map(item => at(item, 'metadata.name')));
    revisions.add(at(page.body, 'metadata.resourceVersion'));
    if (next === '') await server.request('DELETE', `${path}/c6`);
    next = String(at(page.body, 'metadata.continue') ?? '');
  } while (next !== '');
  assert.deepEqual(names, ['c0', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6'], 'the pages show one moment');
  assert.equal(revisions.size, 1);
  const odd = await server.request('GET', `${path}?labelSelector=odd%3D1&limit=2`);
  assert.equal((at(odd.body, 'items') as object[]).length, 2);
  assert.equal(at(odd.body, 'metadata.remainingItemCount'), undefined);
  const named = await server.request('GET', '/api/v1/configmaps?fieldSelector=metadata.name%3Dc1');
  assert.equal((at(named.body, 'items') as object[]).length, 1);
  assert.equal((await server.request('GET', `${path}?fieldSelector=spec.nope%3D1`)).status, 400);
  assert.equal((await server.request('GET', `${path}?labelSelector=a%3D%3D%3Db`)).status, 400);
  assert.equal((await server.request('GET', `${path}?continue=rubbish`)).status, 400);
  const future = await server.request('GET', `${path}?resourceVersion=99999`);
  assert.equal(future.status, 504);
  const table = await server.request('GET', path, {
    headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json' },
  });
  assert.equal(at(table.body, 'kind'), 'Table');
  assert.equal(at(table.body, 'rows.0.object.kind'), 'PartialObjectMetadata');
  const metadata = await server.request('GET', path, {
    headers: { accept: 'application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io' },
  });
  assert.equal(at(metadata.body, 'kind'), 'PartialObjectMetadataList');
  assert.equal(at(metadata.body, 'items.0.data'), undefined);
});

test('a pod without node goes at once; with a node when its kubelet says so', async () => {
  await server.request('POST', PODS, { body: pod('free') });
  assert.equal(at((await server.request('DELETE', `${PODS}/free`)).body, 'status'), 'Success');

  const created = await server.request('POST', PODS, { body: pod('bound') });
  assert.equal(at(created.body, 'status.phase'), 'Pending');
  assert.equal(at(created.body, 'spec.serviceAccountName'), 'default');
  assert.equal((at(created.body, 'spec.tolerations') as object[]).length, 2);
  const binding = {
    apiVersion: 'v1',
    kind: 'Binding',
    metadata: { name: 'bound' },
    target: { kind: 'Node', name: 'n1' },
  };
  assert.equal((await server.request('POST', `${PODS}/bound/binding`, { body: binding })).status, 201);
  const again = await server.request('POST', `${PODS}/bound/binding`, { body: binding });
  assert.match(String(at(again.body, 'message')), /already assigned to node "n1"/);
  assert.equal(
    (await server.request('GET', '/api/v1/pods?fieldSelector=spec.nodeName%3Dn1')).text.includes('"bound"'),
    true,
  );

  const deleting = await server.request('DELETE', `${PODS}/bound`, { body: { gracePeriodSeconds: 20 } });
  assert.equal(at(deleting.body, 'metadata.deletionGracePeriodSeconds'), 20);
  assert.ok(at(deleting.body, 'metadata.deletionTimestamp'));
  assert.equal((await server.request('GET', `${PODS}/bound`)).status, 200);
  const wrong = await server.request('DELETE', `${PODS}/bound`, {
    body: { gracePeriodSeconds: 0, preconditions: { uid: 'other' } },
  });
  assert.equal(wrong.status, 409);
  const confirmed = await server.request('DELETE', `${PODS}/bound`, {
    body: { gracePeriodSeconds: 0, preconditions: { uid: at(created.body, 'metadata.uid') } },
  });
  assert.equal(at(confirmed.body, 'status'), 'Success');
  assert.equal((await server.request('GET', `${PODS}/bound`)).status, 404);
});

test('finalizers hold an object; propagation policies become finalizers', async () => {
  await server.request('POST', CONFIGMAPS, {
    body: { metadata: { name: 'held', finalizers: ['example.com/hold'] } },
  });
  const deleting = await server.request('DELETE', `${CONFIGMAPS}/held?propagationPolicy=Foreground`);
  assert.deepEqual(at(deleting.body, 'metadata.finalizers'), ['example.com/hold', 'foregroundDeletion']);
  const released = await server.request('PATCH', `${CONFIGMAPS}/held`, {
    body: { metadata: { finalizers: null } },
    headers: { 'content-type': 'application/merge-patch+json' },
  });
  assert.equal(released.status, 200);
  assert.equal((await server.request('GET', `${CONFIGMAPS}/held`)).status, 404);
  const orphaning = await server.request('POST', CONFIGMAPS, { body: { metadata: { name: 'orphaner' } } });
  assert.equal(orphaning.status, 201);
  const marked = await server.request('DELETE', `${CONFIGMAPS}/orphaner`, {
    body: { propagationPolicy: 'Orphan' },
  });
  assert.deepEqual(at(marked.body, 'metadata.finalizers'), ['orphan']);
});

test('a namespace terminates before it goes, and takes nothing new', async () => {
  await server.request('POST', '/api/v1/namespaces', { body: { metadata: { name: 'brief' } } });
  const deleting = await server.request('DELETE', '/api/v1/namespaces/brief');
  assert.equal(at(deleting.body, 'status.phase'), 'Terminating');
  const late = await server.request('POST', '/api/v1/namespaces/brief/configmaps', {
    body: { metadata: { name: 'x' } },
  });
  assert.equal(late.status, 403);
  assert.match(String(at(late.body, 'message')), /being terminated/);
  const current = await server.request('GET', '/api/v1/namespaces/brief');
  const body = { ...(current.body as object), spec: { finalizers: [] } };
  assert.equal((await server.request('PUT', '/api/v1/namespaces/brief/finalize', { body })).status, 200);
  assert.equal((await server.request('GET', '/api/v1/namespaces/brief')).status, 404);
  assert.equal((await server.request('DELETE', '/api/v1/namespaces/kube-system')).status, 403);
});

test('scale and status are doors to parts of a Deployment', async () => {
  const path = '/apis/apps/v1/namespaces/default/deployments';
  const created = await server.request('POST', path, {
    body: {
      metadata: { name: 'web' },
      spec: {
        replicas: 2,
        selector: { matchLabels: { app: 'web' } },
        template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'c', image: 'i' }] } },
      },
      status: { replicas: 9 },
    },
  });
  assert.equal(created.status, 201, created.text);
  assert.equal(at(created.body, 'metadata.generation'), 1);
  assert.equal(at(created.body, 'status.replicas'), undefined);
  const scale = await server.request('GET', `${path}/web/scale`);
  assert.deepEqual([at(scale.body, 'spec.replicas'), at(scale.body, 'status.selector')], [2, 'app=web']);
  const scaled = await server.request('PATCH', `${path}/web/scale`, {
    body: { spec: { replicas: 5 } },
    headers: { 'content-type': 'application/merge-patch+json' },
  });
  assert.equal(at(scaled.body, 'spec.replicas'), 5);
  const negative = await server.request('PUT', `${path}/web/scale`, {
    body: { metadata: { name: 'web' }, spec: { replicas: -1 } },
  });
  assert.equal(negative.status, 422);
  const status = await server.request('PATCH', `${path}/web/status`, {
    body: { spec: { replicas: 7 }, status: { replicas: 3 } },
    headers: { 'content-type': 'application/merge-patch+json' },
  });
  assert.deepEqual([at(status.body, 'spec.replicas'), at(status.body, 'status.replicas')], [5, 3]);
  assert.equal(at(status.body, 'metadata.generation'), 2);
  const strategic = await server.request('PATCH', `${path}/web`, {
    body: { spec: { template: { spec: { containers: [{ name: 'c', env: [{ name: 'A', value: 'b' }] }] } } } },
    headers: { 'content-type': 'application/strategic-merge-patch+json' },
  });
  assert.equal(at(strategic.body, 'spec.template.spec.containers.0.image'), 'i');
  assert.equal(at(strategic.body, 'metadata.generation'), 3);
});
