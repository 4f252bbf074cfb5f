// pods/log and pods/exec against a stand-in kubelet that answers over TLS as a real one would.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { createServer, request as httpsRequest, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { WebSocket, WebSocketServer } from 'ws';
import { issueCertificate } from '../../../src/apiserver/pki.ts';
import { at, ServerFixture } from './server-fixture.ts';

let server: ServerFixture;
let kubelet: Server;
const seen: { url: string; user: unknown }[] = [];

before(async () => {
  server = await ServerFixture.start();
  await server.stopServer();
  const files = server.pki.kubeletClient;
  await server.boot({
    kubeletClient: { certFile: files.cert, keyFile: files.key, caFile: server.pki.ca.cert },
  });
  const ca = { cert: readFileSync(server.pki.ca.cert, 'utf8'), key: readFileSync(server.pki.ca.key, 'utf8') };
  kubelet = createServer(
    {
      ...issueCertificate(ca, { cn: 'system:node:n1', sans: ['127.0.0.1'], usages: ['server'] }),
      ca: ca.cert,
      requestCert: true,
    },
    (request, response) => {
      note(request);
      response.write('first\n');
      setTimeout(() => response.end('second\n'), 20);
    },
  );
  const sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: protocols => [...protocols][0] ?? false,
  });
  kubelet.on('upgrade', (request, socket, head) => {
    note(request);
    sockets.handleUpgrade(request, socket, head, websocket => {
      websocket.on('message', (data, isBinary) => websocket.send(data, { binary: isBinary }));
    });
  });
  await new Promise<void>(resolve => kubelet.listen(0, '127.0.0.1', () => resolve()));
  const port = (kubelet.address() as AddressInfo).port;
  await server.request('POST', '/api/v1/nodes', {
    body: {
      metadata: { name: 'n1' },
      status: {
        addresses: [{ type: 'InternalIP', address: '127.0.0.1' }],
        daemonEndpoints: { kubeletEndpoint: { Port: port } },
      },
    },
  });
  const spec = { nodeName: 'n1', containers: [{ name: 'a', image: 'i' }] };
  await server.request('POST', '/api/v1/namespaces/default/pods', {
    body: { metadata: { name: 'p' }, spec },
  });
  const two = { ...spec, containers: [...spec.containers, { name: 'b', image: 'i' }] };
  await server.request('POST', '/api/v1/namespaces/default/pods', {
    body: { metadata: { name: 'two' }, spec: two },
  });
  const { nodeName: _none, ...unbound } = spec;
  await server.request('POST', '/api/v1/namespaces/default/pods', {
    body: { metadata: { name: 'u' }, spec: unbound },
  });
});
after(async () => {
  kubelet.closeAllConnections();
  kubelet.close();
  await server[Symbol.asyncDispose]();
});

function note(request: IncomingMessage): void {
  const certificate = (request.socket as TLSSocket).getPeerCertificate();
  seen.push({ url: request.url ?? '', user: certificate.subject?.CN });
}

test('log is streamed from the pod’s node, asked for with our certificate', async () => {
  const answer = await server.request(
    'GET',
    '/api/v1/namespaces/default/pods/p/log?tailLines=5&follow=true&pretty=x',
  );
  assert.equal(answer.text, 'first\nsecond\n');
  assert.deepEqual(seen.at(-1), {
    url: '/containerLogs/default/p/a?follow=true&tailLines=5',
    user: 'kube-apiserver-kubelet-client',
  });
});

test('log says what is missing: container, node, pod', async () => {
  const two = await server.request('GET', '/api/v1/namespaces/default/pods/two/log');
  assert.match(
    String(at(two.body, 'message')),
    /a container name must be specified for pod two, choose one of: \[a b\]/,
  );
  assert.equal(
    (await server.request('GET', '/api/v1/namespaces/default/pods/two/log?container=b')).status,
    200,
  );
  assert.equal(
    (await server.request('GET', '/api/v1/namespaces/default/pods/two/log?container=c')).status,
    400,
  );
  const unbound = await server.request('GET', '/api/v1/namespaces/default/pods/u/log');
  assert.match(String(at(unbound.body, 'message')), /does not have a host assigned/);
  assert.equal((await server.request('GET', '/api/v1/namespaces/default/pods/none/log')).status, 404);
});

test('exec joins the two WebSockets, whatever is said in them', async () => {
  const { cert, key } = clientOptions();
  const socket = new WebSocket(
    `wss://127.0.0.1:${server.port}/api/v1/namespaces/default/pods/p/exec?command=sh&command=-c&stdin=true&stdout=true&tty=true`,
    ['v5.channel.k8s.io'],
    { ca: readFileSync(server.pki.ca.cert), cert, key },
  );
  const echoed = await new Promise<string>((resolve, reject) => {
    socket.on('open', () => socket.send(Buffer.from('\0hello')));
    socket.on('message', data => resolve(data.toString()));
    socket.on('error', reject);
  });
  assert.equal(echoed, '\0hello');
  assert.equal(socket.protocol, 'v5.channel.k8s.io');
  const { url } = seen.at(-1)!;
  assert.match(url, /^\/exec\/default\/p\/a\?input=1&output=1&tty=1&command=sh&command=-c$/);
  const closed = new Promise(resolve => socket.on('close', resolve));
  socket.close();
  await closed;
});

test('exec refused: no such pod, not allowed, no upgrade asked', async () => {
  const { cert, key } = clientOptions();
  const refused = await new Promise<{ status: number; text: string }>((resolve, reject) => {
    const request = httpsRequest({
      host: '127.0.0.1',
      port: server.port,
      path: '/api/v1/namespaces/default/pods/none/exec?command=x',
      headers: { connection: 'Upgrade', upgrade: 'websocket' },
      ca: readFileSync(server.pki.ca.cert),
      cert,
      key,
    });
    request.on('response', response => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', chunk => {
        text += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    request.on('error', reject);
    request.end();
  });
  assert.equal(refused.status, 404);
  assert.match(refused.text, /pods \\"none\\" not found/);
  const plain = await server.request('GET', '/api/v1/namespaces/default/pods/p/exec?command=x');
  assert.match(String(at(plain.body, 'message')), /Upgrade request required/);
});

function clientOptions(): { cert: string; key: string } {
  const ca = { cert: readFileSync(server.pki.ca.cert, 'utf8'), key: readFileSync(server.pki.ca.key, 'utf8') };
  return issueCertificate(ca, { cn: 'admin', organizations: ['system:masters'], usages: ['client'] });
}
