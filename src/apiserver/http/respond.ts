// Writing answers: JSON with length, gzip where it pays, warnings, Status objects for refusals.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { statusFromError } from '../../api/status.ts';
import { ApiError } from '../../lib/errors.ts';

/** k8s.io/apiserver defaultGzipThresholdBytes and level: below, compressing costs more than it saves. */
const GZIP_THRESHOLD_BYTES = 128 * 1024;
const GZIP_LEVEL = 1;
const compress = promisify(gzip);

/** Sends a JSON text that is already made. */
export function sendJson(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  json: string,
): Promise<void> {
  return sendBytes(request, response, status, Buffer.from(json, 'utf8'), 'application/json');
}

export async function sendBytes(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  bytes: Buffer,
  type: string,
): Promise<void> {
  if (response.headersSent || response.destroyed) return;
  response.setHeader('Content-Type', type);
  let body = bytes;
  if (body.length > GZIP_THRESHOLD_BYTES && /\bgzip\b/.test(request.headers['accept-encoding'] ?? '')) {
    body = await compress(body, { level: GZIP_LEVEL });
    response.setHeader('Content-Encoding', 'gzip');
    response.setHeader('Vary', 'Accept-Encoding');
  }
  finish(request, response, status, body);
}

function finish(request: IncomingMessage, response: ServerResponse, status: number, body: Buffer): void {
  response.setHeader('Cache-Control', 'no-cache, private');
  response.setHeader('Content-Length', body.length);
  response.writeHead(status);
  response.end(request.method === 'HEAD' ? undefined : body);
}

/** The Status object of anything thrown. Returns the HTTP code. */
export function sendError(request: IncomingMessage, response: ServerResponse, thrown: unknown): number {
  const status = statusFromError(thrown);
  if (response.headersSent) {
    // Too late for a Status: a cut connection is the only way left to say that this answer is not whole.
    response.destroy();
    return status.code;
  }
  if (status.code === 401) response.setHeader('WWW-Authenticate', 'Bearer realm="kubernetes"');
  if (thrown instanceof ApiError && thrown.details?.retryAfterSeconds !== undefined)
    response.setHeader('Retry-After', thrown.details.retryAfterSeconds);
  // What is left of a refused body must not be taken for the next request.
  if (!request.complete) response.setHeader('Connection', 'close');
  response.setHeader('Content-Type', 'application/json');
  finish(request, response, status.code, Buffer.from(JSON.stringify(status), 'utf8'));
  return status.code;
}

/** RFC 7234 warn-code 299, as kubectl prints it. Line breaks and quotes cannot stand in a header. */
export function addWarnings(response: ServerResponse, warnings: readonly string[]): void {
  if (warnings.length === 0 || response.headersSent) return;
  const quote = (text: string) =>
    text
      .replace(/[^\x20-\x7e]+/g, ' ')
      .replace(/["\\]/g, '\\$&')
      .slice(0, 256);
  response.setHeader(
    'Warning',
    [...new Set(warnings)].slice(0, 20).map(text => `299 - "${quote(text)}"`),
  );
}
