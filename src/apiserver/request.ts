// One request from its first byte to its metrics: identify, authorize, dispatch, and a Status for whatever goes wrong.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { resourceNotFound } from '../api/status.ts';
import { errorMessage } from '../lib/errors.ts';
import type { Health } from '../observe/health.ts';
import { createMetricsHandler } from '../observe/metrics.ts';
import type { Discovery } from './discovery.ts';
import { chooseHandler, findDefinition } from './dispatch.ts';
import type { ServerParts } from './handlers/call.ts';
import { type RequestInfo, requestInfo } from './http/request-info.ts';
import { sendError, sendJson } from './http/respond.ts';
import type { RequestLabels } from './metrics.ts';
import { versionInfo } from './version.ts';

export interface Endpoint {
  parts: ServerParts;
  health: Health;
  discovery: Discovery;
}

export async function serveRequest(
  endpoint: Endpoint,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { parts } = endpoint;
  const started = performance.now();
  const url = requestUrl(request);
  const info = requestInfo(request.method ?? 'GET', url.pathname, url.searchParams);
  const longRunning = info.kind === 'resource' && (info.verb === 'watch' || info.subresource === 'log');
  const done = parts.metrics.begin(labelsOf(request, info), longRunning);
  let userName = '';
  let problem: unknown;
  try {
    const user = parts.authenticator.authenticate(request);
    userName = user.name;
    await parts.authorizer.authorize(user, info);
    if (info.kind === 'path') await servePath(endpoint, request, response, url);
    else {
      const definition = findDefinition(parts.registry, info);
      const handler = chooseHandler(definition, info);
      const call = { request, response, info, query: url.searchParams, definition, user, warnings: [] };
      await handler(call, parts);
    }
  } catch (error) {
    problem = error;
    const code = sendError(request, response, error);
    if (code >= 500)
      parts.log.error({ error, method: request.method, url: request.url, user: userName }, 'request failed');
  } finally {
    done(response.statusCode);
    if (parts.log.isLevelEnabled('debug'))
      parts.log.debug(
        {
          method: request.method,
          url: request.url,
          user: userName,
          agent: request.headers['user-agent'],
          peer: request.socket.remoteAddress,
          code: response.statusCode,
          milliseconds: Math.round((performance.now() - started) * 100) / 100,
          ...(problem === undefined ? {} : { problem: errorMessage(problem) }),
        },
        'request',
      );
  }
}

/** Only path and query matter; a malformed target is no path of ours. */
export function requestUrl(request: IncomingMessage): URL {
  return URL.parse(request.url ?? '/', 'https://localhost') ?? new URL('https://localhost/%');
}

async function servePath(
  endpoint: Endpoint,
  request: IncomingMessage,
  response: ServerResponse,
  url: URL,
): Promise<void> {
  const { pathname } = url;
  if (request.method !== 'GET' && request.method !== 'HEAD') throw resourceNotFound();
  if (endpoint.health.handle(request, response)) return;
  if (pathname === '/version' || pathname === '/version/')
    return sendJson(request, response, 200, JSON.stringify(versionInfo()));
  if (pathname === '/metrics')
    return createMetricsHandler(endpoint.parts.metrics.registry)(request, response);
  if (await endpoint.discovery.serve(request, response, url)) return;
  throw resourceNotFound();
}

function labelsOf(request: IncomingMessage, info: RequestInfo): RequestLabels {
  if (info.kind === 'path')
    return {
      verb: request.method ?? 'GET',
      group: '',
      version: '',
      resource: '',
      subresource: info.path.startsWith('/openapi/') ? '/openapi' : '',
      scope: '',
    };
  const { group, version, resource, subresource, namespace, name } = info;
  const verb = { create: 'POST', update: 'PUT', deletecollection: 'DELETE' }[info.verb as string];
  return {
    verb: verb ?? info.verb.toUpperCase(),
    group,
    version,
    resource,
    subresource,
    scope: name !== '' ? 'resource' : namespace !== '' ? 'namespace' : 'cluster',
  };
}
