// The client against a real HTTP server on the loopback: retries, refusals, watches, silence.
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { KubeClient } from '../../../src/client/client.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { isConflict, isNotFound } from '../../../src/client/status.ts';
import { ApiError, PodwireError } from '../../../src/lib/errors.ts';

type Handler = (request: IncomingMessage, response: ServerResponse, body: string) => void;

async function serve(
  handler: Handler,
): Promise<{ server: Server; client: KubeClient; port: number; close(): Promise<void> }> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', chunk => chunks.push(chunk));
    request.on('end', () => handler(request, response, Buffer.concat(chunks).toString()));
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const client = new KubeClient({ server: `http://127.0.0.1:${port}/prefix` });
  const close = async (): Promise<void> => {
    await client.close();
    server.closeAllConnections();
    await new Promise(resolve => server.close(resolve));
  };
  return { server, client, port, close };
}

function json(response: ServerResponse, status: number, body: unknown, headers = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
}

test('paths, queries, bodies and content types', async () => {
  const calls: string[] = [];
  const { client, close } = await serve((request, response, body) => {
    calls.push(`${request.method} ${request.url} ${request.headers['content-type'] ?? '-'} ${body}`);
    json(response, 200, { metadata: { name: 'a' }, items: [] });
  });
  await client.get(RESOURCE.pods, 'a', 'ns');
  await client.list(RESOURCE.deployments, { labelSelector: 'a=b,c', limit: 5 });
  await client.create(RESOURCE.nodes, { metadata: { name: 'n' } });
  await client.update(RESOURCE.pods, { metadata: { name: 'p', namespace: 'ns' } }, { subresource: 'status' });
  await client.patch(RESOURCE.nodes, 'n', { a: null }, { type: 'strategic', subresource: 'status' });
  await client.patch(RESOURCE.nodes, 'n', {}, { type: 'apply', fieldManager: 'me', force: true });
  await client.delete(RESOURCE.pods, 'p', {
    namespace: 'ns',
    gracePeriodSeconds: 0,
    preconditions: { uid: 'u' },
  });
  assert.deepEqual(calls, [
    'GET /prefix/api/v1/namespaces/ns/pods/a - ',
    'GET /prefix/apis/apps/v1/deployments?labelSelector=a%3Db%2Cc&limit=5 - ',
    'POST /prefix/api/v1/nodes application/json {"metadata":{"name":"n"},"apiVersion":"v1","kind":"Node"}',
    'PUT /prefix/api/v1/namespaces/ns/pods/p/status application/json {"metadata":{"name":"p","namespace":"ns"},"apiVersion":"v1","kind":"Pod"}',
    'PATCH /prefix/api/v1/nodes/n/status application/strategic-merge-patch+json {"a":null}',
    'PATCH /prefix/api/v1/nodes/n?fieldManager=me&force=true application/apply-patch+yaml {}',
    'DELETE /prefix/api/v1/namespaces/ns/pods/p application/json {"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,"preconditions":{"uid":"u"}}',
  ]);
  await close();
});

test('a Status becomes an ApiError; plain text too', async () => {
  const { client, close } = await serve((request, response) => {
    if (request.url?.endsWith('/a')) {
      const details = { name: 'a', kind: 'pods', causes: [{ field: 'spec' }] };
      json(response, 409, { kind: 'Status', code: 409, reason: 'Conflict', message: 'changed', details });
    } else {
      response.writeHead(404).end('nothing here');
    }
  });
  await assert.rejects(client.get(RESOURCE.pods, 'a', 'ns'), error => {
    assert.ok(error instanceof ApiError && isConflict(error));
    assert.equal(error.message, 'GET /api/v1/namespaces/ns/pods/a: changed');
    assert.equal(error.details?.causes?.[0]?.field, 'spec');
    return true;
  });
  await assert.rejects(
    client.get(RESOURCE.pods, 'b', 'ns'),
    error => isNotFound(error) && /nothing here/.test(String(error)),
  );
  await close();
});

test('waits for a server that starts, and when asked to by Retry-After; never repeats a write that was sent', async () => {
  const { port, close } = await serve(() => {});
  await close();
  const client = new KubeClient({ server: `http://127.0.0.1:${port}` });
  let calls = 0;
  const server = createServer((request, response) => {
    calls++;
    if (request.method === 'POST') request.socket.destroy();
    else if (calls === 1) json(response, 429, { kind: 'Status', code: 429 }, { 'retry-after': '0' });
    else json(response, 200, { metadata: { name: 'a' } });
  });
  setTimeout(() => server.listen(port, '127.0.0.1'), 120);
  const object = await client.get(RESOURCE.nodes, 'a');
  assert.equal(object.metadata.name, 'a');
  assert.equal(calls, 2);
  await assert.rejects(client.create(RESOURCE.nodes, { metadata: { name: 'b' } }));
  assert.equal(calls, 3);
  await client.close();
  server.closeAllConnections();
  server.close();
  await assert.rejects(
    new KubeClient({ server: `http://127.0.0.1:${port}` }, { retries: 1 }).get(RESOURCE.nodes, 'a'),
  );
});

test('watch: events over chunk borders, bookmarks, ERROR as ApiError, end', async () => {
  const event = (type: string, name: string): string =>
    `${JSON.stringify({ type, object: { kind: 'Node', metadata: { name, resourceVersion: '1' } } })}\n`;
  const { client, close } = await serve((request, response) => {
    const error = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old' };
    const text = event('ADDED', 'ä') + event('BOOKMARK', '') + event('DELETED', 'ä');
    const bytes = Buffer.from(
      request.url?.includes('resourceVersion=7')
        ? `${JSON.stringify({ type: 'ERROR', object: error })}\n`
        : text,
    );
    response.writeHead(200);
    let at = 0;
    const timer = setInterval(() => {
      response.write(bytes.subarray(at, at + 50));
      at += 50;
      if (at < bytes.length) return;
      clearInterval(timer);
      response.end();
    }, 1);
  });
  const seen: string[] = [];
  for await (const { type, object } of client.watch(RESOURCE.nodes))
    seen.push(`${type} ${object.metadata.name}`);
  assert.deepEqual(seen, ['ADDED ä', 'BOOKMARK ', 'DELETED ä']);
  await assert.rejects(
    async () => {
      for await (const _ of client.watch(RESOURCE.nodes, { resourceVersion: '7' }));
    },
    error => error instanceof ApiError && error.status === 410 && error.reason === 'Expired',
  );
  await close();
});

test('a watch gives up on a silent peer, and ends when its caller aborts', async () => {
  const { client, close } = await serve((_request, response) => {
    response.writeHead(200);
    response.flushHeaders();
  });
  await assert.rejects(
    async () => {
      for await (const _ of client.watch(RESOURCE.nodes, { idleMs: 50 }));
    },
    error => error instanceof PodwireError && error.code === 'WATCH_IDLE',
  );
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 50);
  await assert.rejects(
    async () => {
      for await (const _ of client.watch(RESOURCE.nodes, { signal: stop.signal }));
    },
    { name: 'AbortError' },
  );
  await close();
});
