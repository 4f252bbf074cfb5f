// HTTP to one API server: undici pools with the TLS material of the configuration. No Kubernetes meaning here, so that
// tests put a transport of their own in its place. Two pools: a bounded one for requests, an unbounded one for streams,
// because a watch keeps its HTTP/1.1 connection for minutes and must not starve requests.
import { readFileSync } from 'node:fs';
import type { Pool as UndiciPool } from 'undici';
import request from 'undici/lib/api/api-request.js';
import Pool from 'undici/lib/dispatcher/pool.js';
import type { ClientConfig } from './kubeconfig.ts';

export interface TransportRequest {
  method: string;
  /** With query. */
  path: string;
  headers: Record<string, string>;
  body?: string | Uint8Array;
  signal?: AbortSignal;
  /** A long answer (watch, log): own connection, no time limit on the body. */
  stream?: boolean;
  /** Until the answer's header must be there; default 60 s. */
  headersTimeoutMs?: number;
}

export interface TransportResponse {
  status: number;
  /** Lower-case names. */
  headers: Record<string, string | string[] | undefined>;
  body: AsyncIterable<Uint8Array>;
  text(): Promise<string>;
}

export interface Transport {
  request(request: TransportRequest): Promise<TransportResponse>;
  close(): Promise<void>;
}

const HEADERS_TIMEOUT_MS = 60_000;
const BODY_TIMEOUT_MS = 60_000;
const CONNECT_TIMEOUT_MS = 5_000;
const TOKEN_REREAD_MS = 60_000;

/** The real transport. `connections` bounds parallel requests (not streams). */
export class UndiciTransport implements Transport {
  readonly #config: ClientConfig;
  readonly #prefix: string;
  readonly #requests: UndiciPool;
  readonly #streams: UndiciPool;
  #fileToken: { value: string; readAt: number } | undefined;

  constructor(config: ClientConfig, options: { connections?: number } = {}) {
    const url = new URL(config.server);
    this.#config = config;
    this.#prefix = url.pathname.replace(/\/$/, '');
    const shared = {
      // h2 gives no error when the peer falls silent; h1 with a deadline of our own does.
      allowH2: false,
      keepAliveTimeout: 60_000,
      headersTimeout: HEADERS_TIMEOUT_MS,
      bodyTimeout: BODY_TIMEOUT_MS,
      connect: {
        timeout: CONNECT_TIMEOUT_MS,
        ca: config.ca,
        cert: config.cert,
        key: config.key,
        servername: config.tlsServerName,
        rejectUnauthorized: !config.insecureSkipTlsVerify,
        socketPath: config.socketPath,
      },
    };
    this.#requests = new Pool(url.origin, { ...shared, connections: options.connections ?? 8 });
    this.#streams = new Pool(url.origin, shared);
  }

  async request(options: TransportRequest): Promise<TransportResponse> {
    const token = this.#token();
    const headers = token ? { ...options.headers, authorization: `Bearer ${token}` } : options.headers;
    const response = await request.call(options.stream ? this.#streams : this.#requests, {
      method: options.method as 'GET',
      path: this.#prefix + options.path,
      headers,
      body: options.body ?? null,
      signal: options.signal,
      headersTimeout: options.headersTimeoutMs ?? HEADERS_TIMEOUT_MS,
      bodyTimeout: options.stream ? 0 : BODY_TIMEOUT_MS,
    });
    return {
      status: response.statusCode,
      headers: response.headers,
      body: response.body as AsyncIterable<Uint8Array>,
      text: () => response.body.text(),
    };
  }

  async close(): Promise<void> {
    await Promise.all([this.#requests.destroy(), this.#streams.destroy()]);
  }

  #token(): string | undefined {
    const { token, tokenFile } = this.#config;
    if (!tokenFile) return token;
    const now = Date.now();
    if (!this.#fileToken || now - this.#fileToken.readAt > TOKEN_REREAD_MS)
      this.#fileToken = { value: readFileSync(tokenFile, 'utf8').trim(), readAt: now };
    return this.#fileToken.value;
  }
}

/** Codes that mean: the request never reached a server, so any method may be tried again. */
const NOT_SENT = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOENT',
  'EAI_AGAIN',
  'UND_ERR_CONNECT_TIMEOUT',
]);
/** Codes that mean: the connection broke, the server may or may not have acted. */
const BROKEN = new Set([
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'UND_ERR_SOCKET',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
]);

/** What a transport error says about trying again: `never-sent`, `broken` (safe only for reads), or `other`. */
export function classifyTransportError(thrown: unknown): 'never-sent' | 'broken' | 'other' {
  const seen = new Set<unknown>();
  let broken = false;
  for (let error = thrown; error instanceof Error && !seen.has(error); error = error.cause) {
    seen.add(error);
    const inner = error instanceof AggregateError ? error.errors : [];
    for (const candidate of [error, ...inner]) {
      const { code } = candidate as { code?: unknown };
      if (typeof code !== 'string') continue;
      if (NOT_SENT.has(code)) return 'never-sent';
      broken ||= BROKEN.has(code);
    }
  }
  return broken ? 'broken' : 'other';
}
