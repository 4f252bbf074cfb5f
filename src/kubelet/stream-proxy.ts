// Passes an upgraded connection (exec, attach, port-forward) on to the runtime's streaming server: the same upgrade is
// asked of it, then bytes go both ways. SPDY/3.1 and the runtime's own WebSocket protocols thus need no code of ours.
import { request as httpRequest, type IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { errorMessage } from '../lib/errors.ts';

/** The WebSocket subprotocols that CRI streaming servers speak (k8s.io/kubelet cri/streaming/remotecommand). */
const RUNTIME_PROTOCOLS = [
  'v4.channel.k8s.io',
  'v4.base64.channel.k8s.io',
  'channel.k8s.io',
  'base64.channel.k8s.io',
];

const CONNECT_TIMEOUT_MS = 10_000;

export function refuseUpgrade(socket: Duplex, status: number, message: string): void {
  const body = `${message}\n`;
  socket.end(
    `HTTP/1.1 ${status} ${status === 400 ? 'Bad Request' : status === 401 ? 'Unauthorized' : 'Error'}\r\n` +
      `Content-Type: text/plain; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}

/** Resolves when the streams are joined or the request was refused. */
export async function joinStreams(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  target: URL,
): Promise<void> {
  socket.on('error', () => socket.destroy());
  const upgrade = String(request.headers.upgrade ?? '').toLowerCase();
  if (upgrade === 'websocket') {
    const asked = String(request.headers['sec-websocket-protocol'] ?? '')
      .split(',')
      .map(protocol => protocol.trim());
    // Clients that speak only newer protocols (v5 adds half-close) fall back to SPDY when they are told no.
    if (!asked.some(protocol => RUNTIME_PROTOCOLS.includes(protocol))) {
      refuseUpgrade(socket, 400, `unable to upgrade: this node speaks SPDY/3.1 or ${RUNTIME_PROTOCOLS[0]}`);
      return;
    }
  }
  const { host: _, ...headers } = request.headers;
  await new Promise<void>(resolve => {
    const upstream = httpRequest({
      host: target.hostname,
      port: target.port,
      path: target.pathname + target.search,
      method: request.method,
      headers,
      agent: false,
      timeout: CONNECT_TIMEOUT_MS,
    });
    upstream.once('timeout', () => upstream.destroy(new Error('the container runtime does not answer')));
    upstream.once('error', error => {
      refuseUpgrade(socket, 502, `stream to the container runtime: ${errorMessage(error)}`);
      resolve();
    });
    upstream.once('response', answer => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('end', () => {
        refuseUpgrade(socket, answer.statusCode ?? 502, Buffer.concat(chunks).toString('utf8').trim());
        resolve();
      });
    });
    upstream.once('upgrade', (answer, runtime: Duplex, first: Buffer) => {
      upstream.setTimeout(0);
      const lines = [`HTTP/1.1 101 ${answer.statusMessage ?? 'Switching Protocols'}`];
      for (let i = 0; i < answer.rawHeaders.length; i += 2)
        lines.push(`${answer.rawHeaders[i]}: ${answer.rawHeaders[i + 1]}`);
      socket.write(`${lines.join('\r\n')}\r\n\r\n`);
      if (first.length > 0) socket.write(first);
      if (head.length > 0) runtime.write(head);
      for (const [from, to] of [
        [socket, runtime],
        [runtime, socket],
      ] as const) {
        from.pipe(to);
        from.on('error', () => to.destroy());
        from.on('close', () => to.destroy());
      }
      resolve();
    });
    upstream.end();
  });
}
