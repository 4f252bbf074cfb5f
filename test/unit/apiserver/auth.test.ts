import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { readTokenFile } from '../../../src/apiserver/auth/authenticator.ts';
import {
  type ResourceAttributes,
  ruleAllowsPath,
  ruleAllowsResource,
} from '../../../src/apiserver/auth/roles.ts';
import { at, ServerFixture } from './server-fixture.ts';

let server: ServerFixture;
before(async () => {
  server = await ServerFixture.start();
});
after(() => server[Symbol.asyncDispose]());

test('nobody sees health and version, and is asked who they are for the rest', async () => {
  const agent = server.agentFor();
  for (const path of ['/healthz', '/livez', '/readyz', '/version'])
    assert.equal((await server.request('GET', path, { agent })).status, 200, path);
  for (const path of ['/api/v1/pods', '/metrics', '/apis']) {
    const answer = await server.request('GET', path, { agent });
    assert.deepEqual([answer.status, at(answer.body, 'reason')], [401, 'Unauthorized'], path);
  }
});

test('a wrong token and a certificate of another CA are refused, not taken for nobody', async () => {
  const agent = server.agentFor();
  const answer = await server.request('GET', '/version', {
    agent,
    headers: { authorization: 'Bearer nope' },
  });
  assert.equal(answer.status, 401);
});

test('tokens of the token file name users and groups', async () => {
  const file = join(server.directory, 'tokens.csv');
  writeFileSync(file, 'secret-1,alice,7,"devs,system:masters"\nsecret-2,bob,,\n');
  assert.equal(readTokenFile(file).size, 2);
  await server.stopServer();
  await server.boot({ tokenFile: file });
  const agent = server.agentFor();
  const as = (token: string, path: string, body?: object) =>
    server.request(body ? 'POST' : 'GET', path, {
      agent,
      body,
      headers: { authorization: `Bearer ${token}` },
    });
  assert.equal((await as('secret-1', '/api/v1/pods')).status, 200);
  const bob = await as('secret-2', '/api/v1/pods');
  assert.equal(bob.status, 403);
  assert.equal(
    at(bob.body, 'message'),
    'pods is forbidden: User "bob" cannot list resource "pods" in API group "" at the cluster scope',
  );
  const who = await as('secret-1', '/apis/authentication.k8s.io/v1/selfsubjectreviews', {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'SelfSubjectReview',
  });
  assert.deepEqual(at(who.body, 'status.userInfo.groups'), [
    'devs',
    'system:masters',
    'system:authenticated',
  ]);
});

test('a node writes its own node and pods, and reads only what its pods name', async () => {
  const n1 = server.agentFor('system:node:n1', ['system:nodes']);
  const n2 = server.agentFor('system:node:n2', ['system:nodes']);
  const node = (name: string) => ({ metadata: { name } });
  assert.equal((await server.request('POST', '/api/v1/nodes', { agent: n1, body: node('n1') })).status, 201);
  assert.equal((await server.request('POST', '/api/v1/nodes', { agent: n1, body: node('n2') })).status, 403);
  const patch = {
    headers: { 'content-type': 'application/merge-patch+json' },
    body: { metadata: { labels: { a: 'b' } } },
  };
  assert.equal((await server.request('PATCH', '/api/v1/nodes/n1', { ...patch, agent: n1 })).status, 200);
  assert.equal((await server.request('PATCH', '/api/v1/nodes/n1', { ...patch, agent: n2 })).status, 403);
  const restricted = {
    ...patch,
    body: { metadata: { labels: { 'node-restriction.kubernetes.io/x': 'y' } } },
  };
  assert.equal((await server.request('PATCH', '/api/v1/nodes/n1', { ...restricted, agent: n1 })).status, 403);

  const secrets = '/api/v1/namespaces/default/secrets';
  for (const name of ['used', 'other'])
    await server.request('POST', secrets, { body: { metadata: { name } } });
  await server.request('POST', '/api/v1/namespaces/default/pods', {
    body: {
      metadata: { name: 'p' },
      spec: {
        nodeName: 'n1',
        containers: [{ name: 'c', image: 'i', envFrom: [{ secretRef: { name: 'used' } }] }],
      },
    },
  });
  assert.equal((await server.request('GET', `${secrets}/used`, { agent: n1 })).status, 200);
  assert.equal((await server.request('GET', `${secrets}/other`, { agent: n1 })).status, 403);
  assert.equal((await server.request('GET', `${secrets}/used`, { agent: n2 })).status, 403);
  assert.equal((await server.request('GET', secrets, { agent: n1 })).status, 403);
  const status = { ...patch, body: { status: { phase: 'Running' } } };
  const path = '/api/v1/namespaces/default/pods/p';
  assert.equal((await server.request('PATCH', `${path}/status`, { ...status, agent: n1 })).status, 200);
  assert.equal((await server.request('PATCH', `${path}/status`, { ...status, agent: n2 })).status, 403);
  assert.equal((await server.request('PATCH', path, { ...patch, agent: n1 })).status, 403);
  assert.equal((await server.request('DELETE', path, { agent: n2 })).status, 403);
  assert.equal((await server.request('GET', '/api/v1/services', { agent: n1 })).status, 200);
  assert.equal((await server.request('GET', `${path}/exec`, { agent: n1 })).status, 403);
});

test('the components get by with their roles', async () => {
  const cases: [cn: string, method: string, path: string, allowed: boolean][] = [
    ['system:kube-proxy', 'GET', '/api/v1/services', true],
    [
      'system:kube-proxy',
      'GET',
      '/apis/discovery.k8s.io/v1/endpointslices?watch=true&timeoutSeconds=0',
      true,
    ],
    ['system:kube-proxy', 'GET', '/api/v1/secrets', false],
    ['system:kube-proxy', 'DELETE', '/api/v1/nodes/n1', false],
    ['system:kube-scheduler', 'GET', '/api/v1/pods', true],
    ['system:kube-scheduler', 'GET', '/api/v1/secrets', false],
    ['system:kube-controller-manager', 'GET', '/api/v1/secrets', true],
    ['system:kube-controller-manager', 'GET', '/api/v1/namespaces/default/pods/p/exec', false],
  ];
  for (const [cn, method, path, allowed] of cases) {
    const { status } = await server.request(method, path, { agent: server.agentFor(cn) });
    assert.equal(status !== 403, allowed, `${cn} ${method} ${path}: ${status}`);
  }
});

test('rules: stars, subresources, names, paths', () => {
  const asked = (resource: string, more: Partial<ResourceAttributes> = {}): ResourceAttributes => ({
    verb: 'get',
    group: '',
    resource,
    namespace: '',
    name: '',
    ...more,
  });
  const rule = { verbs: ['get'], groups: [''], resources: ['*', '*/status', 'pods/*'] };
  assert.ok(ruleAllowsResource(rule, asked('nodes')));
  assert.ok(ruleAllowsResource(rule, asked('nodes/status')));
  assert.ok(!ruleAllowsResource(rule, asked('nodes/proxy')));
  assert.ok(ruleAllowsResource(rule, asked('pods/exec')));
  assert.ok(!ruleAllowsResource(rule, asked('nodes', { verb: 'list' })));
  assert.ok(!ruleAllowsResource({ ...rule, names: ['a'] }, asked('nodes', { name: 'b' })));
  assert.ok(ruleAllowsPath({ verbs: ['*'], paths: ['/api/*'] }, 'get', '/api/v1'));
  assert.ok(!ruleAllowsPath({ verbs: ['get'], paths: ['/api'] }, 'get', '/apis'));
});
