// A typed client of the Kubernetes REST API: verbs on ResourceRefs, refusals as ApiError, watches as async iterables.
// It keeps no state of the cluster (see informer.ts) and knows no kind beyond its path.
import type { KubeList, KubeObject, Pod, Status, Stored } from '../api/types.ts';
import { backoffMs } from '../lib/backoff.ts';
import { sleep } from '../lib/clock.ts';
import type { ApiError } from '../lib/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { ClientConfig } from './kubeconfig.ts';
import { groupVersionOf, RESOURCE, resourcePath, type TypedRef } from './resources.ts';
import { ServedVersions, type Versioned } from './served-versions.ts';
import { errorFromBody } from './status.ts';
import {
  classifyTransportError,
  type Transport,
  type TransportRequest,
  type TransportResponse,
  UndiciTransport,
} from './transport.ts';
import { readWatch, type WatchEvent } from './watch-stream.ts';

export type { ClientConfig } from './kubeconfig.ts';
export type { WatchEvent } from './watch-stream.ts';

export interface KubeClientOptions {
  userAgent?: string;
  log?: Logger;
  /** How often a request is tried again when the server is not there or asks to wait; default 6 (about 2 s). */
  retries?: number;
  /** Parallel requests; default 8. */
  connections?: number;
  /** Instead of HTTP, for tests. */
  transport?: Transport;
}

export type Query = Record<string, string | number | boolean | undefined>;

export interface CallOptions {
  signal?: AbortSignal;
  /** Overrides the client's number of retries. */
  retries?: number;
}

export interface ListOptions extends CallOptions {
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  limit?: number;
  continue?: string;
  resourceVersion?: string;
}

export interface WatchOptions {
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  resourceVersion?: string;
  signal?: AbortSignal;
  /** The server ends the watch after this; default 5 to 10 minutes at random. */
  timeoutSeconds?: number;
  /** Silence that means the peer is gone; default 150 s. */
  idleMs?: number;
  /** Called when the server has accepted the watch, before the first event. */
  onOpen?: () => void;
}

export interface WriteOptions extends CallOptions {
  namespace?: string;
  subresource?: string;
  fieldManager?: string;
  dryRun?: boolean;
}

export interface PatchOptions extends WriteOptions {
  type: 'merge' | 'strategic' | 'json' | 'apply';
  force?: boolean;
}

export interface DeleteOptions extends CallOptions {
  namespace?: string;
  gracePeriodSeconds?: number;
  propagationPolicy?: 'Background' | 'Foreground' | 'Orphan';
  preconditions?: { uid?: string; resourceVersion?: string };
}

export interface RequestOptions extends CallOptions {
  query?: Query;
  body?: string | Uint8Array;
  headers?: Record<string, string>;
  stream?: boolean;
  headersTimeoutMs?: number;
}

const PATCH_TYPE = {
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  json: 'application/json-patch+json',
  apply: 'application/apply-patch+yaml',
} as const;

const RETRY = { baseMs: 20, maxMs: 1_000, factor: 2.5, jitter: 0.3 };
const DEFAULT_RETRIES = 6;
const DEFAULT_IDLE_MS = 150_000;
/** A server that asks for more patience than this gets its error reported instead. */
const MAX_RETRY_AFTER_MS = 10_000;

export class KubeClient {
  readonly config: ClientConfig;
  readonly #transport: Transport;
  readonly #userAgent: string;
  readonly #retries: number;
  readonly #log: Logger | undefined;
  readonly #versions = new ServedVersions(path => this.#json('GET', path, {}));

  constructor(config: ClientConfig, options: KubeClientOptions = {}) {
    this.config = config;
    this.#transport = options.transport ?? new UndiciTransport(config, { connections: options.connections });
    this.#userAgent = options.userAgent ?? 'podwire';
    this.#retries = options.retries ?? DEFAULT_RETRIES;
    this.#log = options.log;
  }

  get<T extends KubeObject>(
    ref: TypedRef<T>,
    name: string,
    namespace?: string,
    options: CallOptions & { resourceVersion?: string } = {},
  ): Promise<Stored<T>> {
    const { resourceVersion, ...call } = options;
    return this.#call(ref, at =>
      this.#json('GET', resourcePath(at.ref, { namespace, name }), { ...call, query: { resourceVersion } }),
    );
  }

  list<T extends KubeObject>(ref: TypedRef<T>, options: ListOptions = {}): Promise<KubeList<T>> {
    const { namespace, signal, retries, ...query } = options;
    return this.#versions.run(ref, async at => {
      const path = resourcePath(at.ref, { namespace });
      return at.readList(
        await this.#json<KubeList<T>>('GET', path, { query: { ...query }, signal, retries }),
      );
    });
  }

  create<T extends KubeObject>(
    ref: TypedRef<T>,
    object: T,
    namespace = object.metadata?.namespace,
    options: Omit<WriteOptions, 'namespace'> & { name?: string } = {},
  ): Promise<Stored<T>> {
    const { subresource, name, ...rest } = options;
    return this.#call(ref, at =>
      this.#json('POST', resourcePath(at.ref, { namespace, name, subresource }), {
        ...writeCall(rest),
        body: JSON.stringify(at.write(typed(ref, object))),
      }),
    );
  }

  /** PUT: the object's resourceVersion, where it has one, must still be the stored one (409 otherwise). */
  update<T extends KubeObject>(ref: TypedRef<T>, object: T, options: WriteOptions = {}): Promise<Stored<T>> {
    const namespace = options.namespace ?? object.metadata?.namespace;
    const where = { namespace, name: object.metadata?.name, subresource: options.subresource };
    return this.#call(ref, at =>
      this.#json('PUT', resourcePath(at.ref, where), {
        ...writeCall(options),
        body: JSON.stringify(at.write(typed(ref, object))),
      }),
    );
  }

  patch<T extends KubeObject>(
    ref: TypedRef<T>,
    name: string,
    patch: object,
    options: PatchOptions,
  ): Promise<Stored<T>> {
    const { namespace, subresource } = options;
    const call = writeCall(options);
    return this.#call(ref, at =>
      this.#json('PATCH', resourcePath(at.ref, { namespace, name, subresource }), {
        ...call,
        query: { ...call.query, force: options.force },
        headers: { 'content-type': PATCH_TYPE[options.type] },
        body: JSON.stringify(at.writePatch(patch)),
      }),
    );
  }

  /** The answer is the object on its way out (finalizers, grace period) or a Status. */
  delete<T extends KubeObject>(
    ref: TypedRef<T>,
    name: string,
    options: DeleteOptions = {},
  ): Promise<Stored<T> | Status> {
    const { namespace, signal, retries, ...rest } = options;
    return this.#call(ref, at =>
      this.#json('DELETE', resourcePath(at.ref, { namespace, name }), {
        signal,
        retries,
        body: JSON.stringify({ kind: 'DeleteOptions', apiVersion: 'v1', ...rest }),
      }),
    );
  }

  /** Events from `resourceVersion` on (from "now" without one), bookmarks included. Ends when the server ends it. */
  async *watch<T extends KubeObject>(
    ref: TypedRef<T>,
    options: WatchOptions = {},
  ): AsyncGenerator<WatchEvent<T>> {
    const abort = new AbortController();
    const stop = (): void => abort.abort(options.signal?.reason);
    if (options.signal?.aborted) return;
    options.signal?.addEventListener('abort', stop, { once: true });
    try {
      const { response, at } = await this.#versions.run(ref, async at => ({
        response: await this.request('GET', resourcePath(at.ref, { namespace: options.namespace }), {
          stream: true,
          retries: 0,
          signal: abort.signal,
          query: {
            watch: 'true',
            allowWatchBookmarks: 'true',
            timeoutSeconds: options.timeoutSeconds ?? 300 + Math.floor(Math.random() * 300),
            resourceVersion: options.resourceVersion,
            labelSelector: options.labelSelector,
            fieldSelector: options.fieldSelector,
          },
        }),
        at,
      }));
      options.onOpen?.();
      const idleMs = options.idleMs ?? DEFAULT_IDLE_MS;
      const events = readWatch<T>(response.body, idleMs, reason => abort.abort(reason));
      if (at.ref === ref) yield* events;
      else for await (const event of events) yield { ...event, object: at.read(event.object) };
    } finally {
      options.signal?.removeEventListener('abort', stop);
      abort.abort();
    }
  }

  /** pods/binding: puts a pod on a node. */
  async createBinding(pod: Stored<Pod>, nodeName: string, options: CallOptions = {}): Promise<void> {
    const namespace = pod.metadata.namespace;
    const path = resourcePath(RESOURCE.pods, { namespace, name: pod.metadata.name, subresource: 'binding' });
    await this.#json('POST', path, {
      ...options,
      body: JSON.stringify({
        apiVersion: 'v1',
        kind: 'Binding',
        metadata: { name: pod.metadata.name, namespace, uid: pod.metadata.uid },
        target: { apiVersion: 'v1', kind: 'Node', name: nodeName },
      }),
    });
  }

  /**
   * The raw way: any method and path. Throws ApiError on a status of 400 and above.
   * Tried again: whatever never reached a server; reads whose connection broke; answers that ask to (429, 503).
   */
  async request(method: string, path: string, options: RequestOptions = {}): Promise<TransportResponse> {
    const full = path + queryText(options.query);
    const headers: Record<string, string> = {
      accept: 'application/json',
      'user-agent': this.#userAgent,
      ...(options.body === undefined ? {} : { 'content-type': 'application/json' }),
      ...options.headers,
    };
    const request: TransportRequest = {
      method,
      path: full,
      headers,
      body: options.body,
      signal: options.signal,
      stream: options.stream,
      headersTimeoutMs: options.headersTimeoutMs,
    };
    const retries = options.retries ?? this.#retries;
    for (let failures = 0; ; failures++) {
      const outcome = await this.#attempt(request, failures < retries);
      if (typeof outcome !== 'number') return outcome;
      const waitMs = outcome > 0 ? outcome : backoffMs(RETRY, failures);
      this.#log?.debug({ method, path, failures, waitMs }, 'request is tried again');
      await sleep(waitMs, options.signal);
      options.signal?.throwIfAborted();
    }
  }

  close(): Promise<void> {
    return this.#transport.close();
  }

  /** One try: the response, or the time to wait before the next (0: as the back-off says). */
  async #attempt(request: TransportRequest, mayRetry: boolean): Promise<TransportResponse | number> {
    let response: TransportResponse;
    try {
      response = await this.#transport.request(request);
    } catch (error) {
      const kind = classifyTransportError(error);
      if (mayRetry && (kind === 'never-sent' || (kind === 'broken' && request.method === 'GET'))) return 0;
      throw error;
    }
    if (response.status < 400) return response;
    const text = await response.text();
    const attempt = `${request.method} ${request.path.split('?')[0]}`;
    const error = errorFromBody(response.status, text, attempt);
    const waitMs = retryAfterMs(response, error);
    if (mayRetry && waitMs !== undefined && waitMs <= MAX_RETRY_AFTER_MS) return waitMs;
    throw error;
  }

  /** A call whose answer is one object, in the version of it that this server has. */
  #call<T extends KubeObject, R>(ref: TypedRef<T>, call: (at: Versioned<T>) => Promise<R>): Promise<R> {
    return this.#versions.run(ref, async at => at.read(await call(at)));
  }

  async #json<R>(method: string, path: string, options: RequestOptions): Promise<R> {
    const response = await this.request(method, path, options);
    return JSON.parse(await response.text()) as R;
  }
}

/** Servers that are overloaded (429) or not ready (503) say in Retry-After how long to wait. */
function retryAfterMs(response: TransportResponse, error: ApiError): number | undefined {
  if (response.status !== 429 && response.status !== 503) return undefined;
  const header = Number(response.headers['retry-after']);
  if (Number.isFinite(header) && response.headers['retry-after'] !== undefined) return header * 1000;
  const inBody = error.details?.retryAfterSeconds;
  return inBody === undefined ? undefined : inBody * 1000;
}

/** Built-in types come back from lists and informers without apiVersion and kind; a write must carry them. */
function typed<T extends KubeObject>(ref: TypedRef<T>, object: T): T {
  if (object.apiVersion !== undefined && object.kind !== undefined) return object;
  return { ...object, apiVersion: object.apiVersion ?? groupVersionOf(ref), kind: object.kind ?? ref.kind };
}

function writeCall(options: WriteOptions): RequestOptions {
  const { signal, retries, fieldManager, dryRun } = options;
  return { signal, retries, query: { fieldManager, dryRun: dryRun ? 'All' : undefined } };
}

function queryText(query: Query | undefined): string {
  if (!query) return '';
  const parts: string[] = [];
  for (const [key, value] of Object.entries(query))
    if (value !== undefined && value !== '') parts.push(`${key}=${encodeURIComponent(value)}`);
  return parts.length === 0 ? '' : `?${parts.join('&')}`;
}
