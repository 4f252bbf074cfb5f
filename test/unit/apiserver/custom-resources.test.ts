// CustomResourceDefinitions over HTTP: rules that hold and rules that are refused, and watches that end with what they
// watch.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { at, ServerFixture } from './server-fixture.ts';

let server: ServerFixture;
before(async () => {
  server = await ServerFixture.start();
});
after(() => server[Symbol.asyncDispose]());

const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

interface Rule {
  readonly rule: string;
  readonly message?: string;
}

function definition(plural: string, rules: readonly Rule[] = []) {
  const kind = `${plural[0]!.toUpperCase()}${plural.slice(1, -1)}`;
  const size = { type: 'integer', 'x-kubernetes-validations': rules };
  const schema = { type: 'object', properties: { spec: { type: 'object', properties: { size } } } };
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.example.com` },
    spec: {
      group: 'example.com',
      scope: 'Cluster',
      names: { plural, kind },
      versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: schema } }],
    },
  };
}

/** Creates it and waits until its kind is served; answers the kind's path. */
async function serve(crd: ReturnType<typeof definition>): Promise<string> {
  const made = await server.request('POST', CRDS, { body: crd });
  assert.equal(made.status, 201, made.text);
  assert.equal(made.headers.warning, undefined);
  const path = `/apis/example.com/v1/${crd.spec.names.plural}`;
  while ((await server.request('GET', path)).status !== 200) await new Promise(r => setTimeout(r, 20));
  return path;
}

const object = (crd: ReturnType<typeof definition>, size: number) => ({
  apiVersion: 'example.com/v1',
  kind: crd.spec.names.kind,
  metadata: { name: 'one' },
  spec: { size },
});

test('rules are asked at every write, in the words of Kubernetes', async () => {
  const crd = definition('widgets', [
    { rule: 'self > 0', message: 'must be positive' },
    { rule: 'self >= oldSelf', message: 'may not shrink' },
  ]);
  const path = await serve(crd);
  const refused = await server.request('POST', path, { body: object(crd, 0) });
  assert.equal(refused.status, 422);
  assert.equal(
    at(refused.body, 'message'),
    'Widget.example.com "one" is invalid: spec.size: Invalid value: "integer": must be positive',
  );
  assert.equal((await server.request('POST', path, { body: object(crd, 5) })).status, 201);
  const patch = (size: number) =>
    server.request('PATCH', `${path}/one`, {
      body: { spec: { size } },
      headers: { 'content-type': 'application/merge-patch+json' },
    });
  assert.equal((await patch(6)).status, 200);
  assert.match(String(at((await patch(4)).body, 'message')), /spec\.size: .*may not shrink/);
});

test('a definition whose rule cannot be read is refused, and so is a conversion webhook', async () => {
  const bad = await server.request('POST', CRDS, {
    body: definition('gadgets', [{ rule: 'self.size > 1' }]),
  });
  assert.equal(bad.status, 422);
  assert.match(
    String(at(bad.body, 'message')),
    /x-kubernetes-validations\[0\]\.rule: Invalid value: .*compilation failed/,
  );
  const crd = definition('gadgets');
  const conversion = { strategy: 'Webhook', webhook: { conversionReviewVersions: ['v1'] } };
  const webhook = await server.request('POST', CRDS, { body: { ...crd, spec: { ...crd.spec, conversion } } });
  assert.match(
    String(at(webhook.body, 'message')),
    /spec\.conversion\.strategy: Unsupported value: "Webhook"/,
  );
});

test('a watch ends when its definition goes, after the DELETED of every object; and not when only its status changes', async () => {
  const crd = definition('things');
  const path = await serve(crd);
  assert.equal((await server.request('POST', path, { body: object(crd, 1) })).status, 201);
  let over = false;
  const watch = server.request('GET', `${path}?watch=true&timeoutSeconds=60`).then(answer => {
    over = true;
    return answer;
  });
  const name = `${CRDS}/${crd.metadata.name}`;
  const label = { body: { metadata: { labels: { a: 'b' } } } };
  const headers = { 'content-type': 'application/merge-patch+json' };
  const labelled = await server.request('PATCH', name, { ...label, headers });
  assert.equal(labelled.status, 200, labelled.text);
  await new Promise(resolve => setTimeout(resolve, 200));
  assert.equal(over, false);
  assert.equal((await server.request('DELETE', name)).status, 200);
  const events = (await watch).text
    .trim()
    .split('\n')
    .map(line => at(JSON.parse(line), 'type'));
  assert.deepEqual(events, ['ADDED', 'DELETED']);
  assert.equal((await server.request('GET', `${path}?watch=true`)).status, 404);
});

test('a watch ends when the schema changes, so that clients list again', async () => {
  const crd = definition('items');
  const path = await serve(crd);
  const watch = server.request('GET', `${path}?watch=true&timeoutSeconds=60`);
  await new Promise(resolve => setTimeout(resolve, 100));
  const change = { spec: { names: { shortNames: ['it'] } } };
  const headers = { 'content-type': 'application/merge-patch+json' };
  const answer = await server.request('PATCH', `${CRDS}/${crd.metadata.name}`, { body: change, headers });
  assert.equal(answer.status, 200, answer.text);
  assert.equal((await watch).text, '');
  assert.equal((await server.request('GET', path)).status, 200);
});
