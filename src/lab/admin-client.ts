// Asks a component's admin endpoint (src/observe/admin-server.ts) over its Unix socket.
import { request } from 'node:http';
import { PodwireError } from '../lib/errors.ts';

const DEFAULT_TIMEOUT_MS = 10_000;

/** Throws PodwireError('ADMIN') when nobody answers, or with what the component said. */
export function askAdmin<T>(
  socketPath: string,
  method: 'GET' | 'POST',
  path: string,
  body?: unknown,
  timeoutMs = DEFAULT_TIMEOUT_MS,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const failed = (why: string) =>
      reject(new PodwireError('ADMIN', `${method} ${path} at ${socketPath}: ${why}`));
    const call = request({ socketPath, method, path, timeout: timeoutMs }, response => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', thrown => failed(thrown.message));
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        const isJson = response.headers['content-type'] === 'application/json';
        const value: unknown = isJson ? JSON.parse(text) : text;
        if (response.statusCode === 200) resolve(value as T);
        else failed((value as { error?: string }).error ?? text);
      });
    });
    call.on('timeout', () => call.destroy(new Error(`no answer within ${timeoutMs} ms`)));
    call.on('error', thrown => failed(thrown.message));
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
