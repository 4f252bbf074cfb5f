import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connect } from 'node:tls';
import { promisify } from 'node:util';
import { gunzip, gzipSync } from 'node:zlib';
import { negotiateShape, wantsAggregatedDiscovery } from '../../../src/apiserver/http/accept.ts';
import { requestInfo } from '../../../src/apiserver/http/request-info.ts';
import { ServerFixture } from './server-fixture.ts';

let server: ServerFixture;
before(async () => {
  server = await ServerFixture.start();
});
after(() => server[Symbol.asyncDispose]());

const info = (method: string, url: string) => {
  const { pathname, searchParams } = new URL(url, 'https://x');
  const found = requestInfo(method, pathname, searchParams);
  if (found.kind === 'path') return `${found.verb} ${found.path}`;
  const { verb, group, version, resource, subresource, namespace, name, rest } = found;
  return [verb, group, version, resource, subresource, namespace, name, rest].join('|');
};

test('what a request asks for, as upstream’s request info says', () => {
  const cases: [method: string, url: string, expected: string][] = [
    ['GET', '/api/v1/pods', 'list||v1|pods||||'],
    ['GET', '/api/v1/pods?watch=true', 'watch||v1|pods||||'],
    ['GET', '/api/v1/watch/namespaces/a/pods', 'watch||v1|pods||a||'],
    ['GET', '/api/v1/namespaces/a/pods/b', 'get||v1|pods||a|b|'],
    ['HEAD', '/api/v1/namespaces/a/pods/b', 'get||v1|pods||a|b|'],
    ['POST', '/api/v1/namespaces/a/pods/b/binding', 'create||v1|pods|binding|a|b|'],
    ['GET', '/api/v1/namespaces', 'list||v1|namespaces||||'],
    ['GET', '/api/v1/namespaces/a', 'get||v1|namespaces||a|a|'],
    ['PUT', '/api/v1/namespaces/a/finalize', 'update||v1|namespaces|finalize|a|a|'],
    ['DELETE', '/apis/apps/v1/namespaces/a/deployments', 'deletecollection|apps|v1|deployments||a||'],
    ['PATCH', '/apis/apps/v1/namespaces/a/deployments/b/status', 'patch|apps|v1|deployments|status|a|b|'],
    ['GET', '/api/v1/pods?fieldSelector=metadata.name%3Dx', 'list||v1|pods|||x|'],
    ['GET', '/api/v1/namespaces/a/services/b/proxy/c/d%20e', 'get||v1|services|proxy|a|b|/c/d%20e'],
    ['GET', '/api', 'get /api'],
    ['GET', '/apis/apps/v1', 'get /apis/apps/v1'],
    ['GET', '/healthz', 'get /healthz'],
    ['TRACE', '/api/v1/pods', 'trace /api/v1/pods'],
    ['GET', '/api/v1/%zz', 'get /api/v1/%zz'],
  ];
  for (const [method, url, expected] of cases) assert.equal(info(method, url), expected, `${method} ${url}`);
});

test('shapes by Accept, in the client’s order', () => {
  const table = 'application/json;as=Table;v=v1;g=meta.k8s.io';
  assert.equal(negotiateShape(undefined), 'object');
  assert.equal(negotiateShape(`${table},application/json`), 'table');
  assert.equal(
    negotiateShape(`application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json`),
    'object',
  );
  assert.equal(negotiateShape(`application/json;q=0.5,${table}`), 'table');
  assert.equal(negotiateShape('application/vnd.kubernetes.protobuf,application/json'), 'object');
  assert.throws(() => negotiateShape('application/vnd.kubernetes.protobuf'), { code: 'NotAcceptable' });
  assert.ok(
    wantsAggregatedDiscovery(
      'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json',
    ),
  );
  assert.ok(!wantsAggregatedDiscovery('application/json'));
});

test('big answers are compressed for who asks; compressed bodies are read, and bounded', async () => {
  const path = '/api/v1/namespaces/default/configmaps';
  await server.request('POST', path, {
    body: { metadata: { name: 'big' }, data: { x: 'y'.repeat(200_000) } },
  });
  const raw = await new Promise<{ encoding: unknown; bytes: Buffer }>((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port: server.port, ...credentials() }, () =>
      socket.write(
        `GET ${path}/big HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n`,
      ),
    );
    const chunks: Buffer[] = [];
    socket.on('data', chunk => chunks.push(chunk));
    socket.on('error', reject);
    socket.on('end', () => {
      const all = Buffer.concat(chunks);
      const head = all.indexOf('\r\n\r\n');
      resolve({
        encoding: /content-encoding: (\w+)/i.exec(all.toString('latin1'))?.[1],
        bytes: all.subarray(head + 4),
      });
    });
  });
  assert.equal(raw.encoding, 'gzip');
  assert.match((await promisify(gunzip)(raw.bytes)).toString(), /"name":"big"/);
  const zipped = (value: unknown) => ({
    body: gzipSync(JSON.stringify(value)),
    headers: { 'content-encoding': 'gzip' },
  });
  assert.equal((await server.request('POST', path, zipped({ metadata: { name: 'zipped' } }))).status, 201);
  const bomb = await server.request(
    'POST',
    path,
    zipped({ metadata: { name: 'bomb' }, data: { x: 'y'.repeat(5_000_000) } }),
  );
  assert.equal(bomb.status, 413);
  const rubbish = await server.request('POST', path, {
    body: 'rubbish',
    headers: { 'content-encoding': 'gzip' },
  });
  assert.equal(rubbish.status, 400);
});

test('malformed HTTP and oversized headers do not harm the server', async () => {
  for (const text of [
    'nonsense\r\n\r\n',
    `GET / HTTP/1.1\r\nX: ${'y'.repeat(100_000)}\r\n\r\n`,
    '\0\0\0\0',
  ]) {
    const answer = await new Promise<string>(resolve => {
      const socket = connect({ host: '127.0.0.1', port: server.port, ...credentials() }, () =>
        socket.write(text),
      );
      let seen = '';
      socket.on('data', chunk => {
        seen += chunk;
      });
      socket.on('error', () => resolve(seen));
      socket.on('close', () => resolve(seen));
    });
    // The refusal may be lost when the connection is reset behind it.
    assert.match(answer, /^(HTTP\/1\.1 4\d\d |$)/);
  }
  const plain = await new Promise<string>(resolve => {
    const socket = connect({ host: '127.0.0.1', port: server.port, rejectUnauthorized: false });
    socket.on('secureConnect', () => socket.end());
    socket.on('close', () => resolve('closed'));
  });
  assert.equal(plain, 'closed');
  assert.equal((await server.request('GET', '/readyz')).text, 'ok');
});

test('it serves on an inherited listening socket', async () => {
  const listener: Server = createServer();
  await new Promise<void>(resolve => listener.listen(0, '127.0.0.1', () => resolve()));
  const { fd } = (listener as unknown as { _handle: { fd: number } })._handle;
  const { port } = listener.address() as AddressInfo;
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', join(import.meta.dirname, 'serve-on-fd.ts'), server.directory],
    { stdio: ['pipe', 'pipe', 'inherit', fd] },
  );
  try {
    await new Promise(resolve => child.stdout?.once('data', resolve));
    // The parent lets go: only the child answers.
    listener.close();
    const own = server.port;
    server.port = port;
    assert.equal((await server.request('GET', '/readyz')).text, 'ok');
    server.port = own;
  } finally {
    child.kill('SIGKILL');
  }
});

test('metrics carry upstream’s names', async () => {
  const { text } = await server.request('GET', '/metrics');
  assert.match(text, /^apiserver_request_total\{verb="GET",.*code="200"\} \d+$/m);
  assert.match(text, /^apiserver_request_duration_seconds_bucket\{le="0\.005",verb="GET"/m);
  assert.match(text, /^apiserver_storage_objects\{resource="namespaces"\} 4$/m);
});

function credentials() {
  const agent = server.admin.options;
  return { ca: readFileSync(server.pki.ca.cert), cert: agent.cert, key: agent.key };
}
