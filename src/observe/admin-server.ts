// A process's own HTTP endpoint on a Unix socket that only root may open: status, diff, metrics, probes.
// It serves `podwire status`, `podwire diff` and the lab; it is no Kubernetes API.
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { errorMessage, PodwireError } from '../lib/errors.ts';

const MAX_BODY_BYTES = 64 * 1024;

/** Takes the query and the parsed JSON body; what it returns is sent as JSON, a string as text. */
export type AdminRoute = (input: { query: URLSearchParams; body: unknown }) => Promise<unknown> | unknown;

/** Keys are `METHOD /path`. */
export type AdminRoutes = Record<string, AdminRoute>;

export class AdminServer {
  readonly #server: Server;
  readonly #socketPath: string;
  readonly #routes: AdminRoutes;

  constructor(socketPath: string, routes: AdminRoutes) {
    this.#socketPath = socketPath;
    this.#routes = routes;
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  async start(): Promise<void> {
    rmSync(this.#socketPath, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.#socketPath, () => resolve());
    });
    chmodSync(this.#socketPath, 0o600);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise(resolve => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://localhost');
    const route = this.#routes[`${request.method} ${url.pathname}`];
    try {
      if (!route)
        throw new PodwireError(
          'NOT_FOUND',
          `no such endpoint; there are ${Object.keys(this.#routes).join(', ')}`,
        );
      const result = await route({ query: url.searchParams, body: await readJson(request) });
      const text = typeof result === 'string' ? result : JSON.stringify(result ?? null);
      response.setHeader('content-type', typeof result === 'string' ? 'text/plain' : 'application/json');
      response.end(text);
    } catch (thrown) {
      response.statusCode = thrown instanceof PodwireError && thrown.code === 'NOT_FOUND' ? 404 : 500;
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ error: errorMessage(thrown) }));
    }
  }
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES)
      throw new PodwireError('TOO_LARGE', `the body has more than ${MAX_BODY_BYTES} bytes`);
    chunks.push(chunk);
  }
  return size === 0 ? undefined : JSON.parse(Buffer.concat(chunks).toString('utf8'));
}
