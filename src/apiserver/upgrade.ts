// Requests that become a stream (exec, attach, portforward): the same checks as any request, then two sockets are joined.
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { badRequest, methodNotAllowed, serviceUnavailable, statusFromError } from '../api/status.ts';
import { errorMessage } from '../lib/errors.ts';
import { findDefinition, UPGRADES } from './dispatch.ts';
import { podAndNode } from './handlers/pod-subresources.ts';
import { requestInfo } from './http/request-info.ts';
import { kubeletPath } from './kubelet-proxy.ts';
import { type Endpoint, requestUrl } from './request.ts';

const STREAM_PATH = /\/(exec|attach|portforward)(\?|$)/;

/** Whether the HTTP server hands this request over as a socket; any other is answered as if it asked for no upgrade. */
export function isUpgrade(request: IncomingMessage): boolean {
  return STREAM_PATH.test(request.url ?? '');
}

export async function serveUpgrade(
  endpoint: Endpoint,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const { parts } = endpoint;
  // A client that goes away mid-way is no error of ours.
  socket.on('error', () => socket.destroy());
  const url = requestUrl(request);
  const info = requestInfo(request.method ?? 'GET', url.pathname, url.searchParams);
  try {
    const user = parts.authenticator.authenticate(request);
    await parts.authorizer.authorize(user, info);
    if (info.kind !== 'resource' || !UPGRADES.has(info.subresource))
      throw badRequest('this path does not stream');
    const definition = findDefinition(parts.registry, info);
    if (info.verb !== 'get' && info.verb !== 'create') throw methodNotAllowed(definition, info.verb);
    const { pod, node } = await podAndNode({ info }, parts);
    if (!parts.kubelets) throw serviceUnavailable('this API server has no client certificate for kubelets');
    const path = kubeletPath(info.subresource, pod, url.searchParams);
    await parts.kubelets.upgrade(request, socket, head, node, path);
    parts.log.debug({ url: request.url, user: user.name }, 'stream');
  } catch (error) {
    const status = statusFromError(error);
    const body = JSON.stringify(status);
    socket.end(
      `HTTP/1.1 ${status.code} ${status.reason}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
    );
    parts.log.debug({ url: request.url, problem: errorMessage(error) }, 'stream refused');
  }
}
