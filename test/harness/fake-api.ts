// An API server in memory behind the client's Transport: enough of list, watch, CRUD, status, binding, finalizers and
// 410 to test informers, controllers and the scheduler without sockets. It validates nothing.
import { randomUUID } from 'node:crypto';
import { applyMergePatch } from '../../src/api/merge-patch.ts';
import { matchesLabelSelector, parseLabelSelector } from '../../src/api/selectors.ts';
import type { KubeObject, Stored } from '../../src/api/types.ts';
import { KubeClient } from '../../src/client/client.ts';
import type { Informer } from '../../src/client/informer.ts';
import { keyOf, type TypedRef } from '../../src/client/resources.ts';
import type { Transport, TransportRequest, TransportResponse } from '../../src/client/transport.ts';
import { cloneJson, type JsonValue } from '../../src/lib/json.ts';

type Any = Stored<KubeObject> & Record<string, unknown>;
interface LogEntry {
  revision: number;
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  collection: string;
  object: Any;
}
interface Target {
  collection: string;
  groupVersion: string;
  namespace?: string;
  name?: string;
  subresource?: string;
}

class Refusal extends Error {
  readonly status: number;
  readonly reason: string;
  constructor(status: number, reason: string, message = reason) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

const KIND: Record<string, string> = { endpoints: 'Endpoints', endpointslices: 'EndpointSlice' };

export class FakeApi implements Transport {
  readonly requests: { method: string; path: string; body?: unknown }[] = [];
  /** Called before each request; throwing makes it fail, as a broken network would. */
  intercept: ((request: TransportRequest) => void) | undefined;
  #revision = 100;
  readonly #objects = new Map<string, Map<string, Any>>();
  #log: LogEntry[] = [];
  #compacted = 0;
  readonly #watchers = new Set<{ wake: () => void; cut: () => void }>();

  client(): KubeClient {
    return new KubeClient({ server: 'http://fake' }, { transport: this });
  }

  /** Objects of one collection, as stored. */
  all<T extends KubeObject>(ref: TypedRef<T>): Stored<T>[] {
    return [...this.#collection(ref.plural).values()] as unknown as Stored<T>[];
  }

  find<T extends KubeObject>(ref: TypedRef<T>, name: string, namespace?: string): Stored<T> | undefined {
    const key = namespace ? `${namespace}/${name}` : name;
    return this.#collection(ref.plural).get(key) as unknown as Stored<T> | undefined;
  }

  /** Stores without any rule, as a user or another component would have. */
  put<T extends KubeObject>(ref: TypedRef<T>, object: T): Stored<T> {
    const full = cloneJson(object) as unknown as Any;
    full.apiVersion ??= ref.group ? `${ref.group}/${ref.version}` : ref.version;
    full.kind ??= ref.kind;
    const present = this.#collection(ref.plural).get(keyOf(full));
    return this.#store(ref.plural, full, present) as unknown as Stored<T>;
  }

  remove<T extends KubeObject>(ref: TypedRef<T>, name: string, namespace?: string): void {
    const object = this.#collection(ref.plural).get(namespace ? `${namespace}/${name}` : name);
    if (object) this.#erase(ref.plural, object);
  }

  /** Forgets history: watches from before now get 410. */
  compact(): void {
    this.#compacted = this.#revision;
    this.#log = [];
  }

  /** Breaks all watches. */
  cutWatches(): void {
    for (const watcher of [...this.#watchers]) watcher.cut();
  }

  get watchCount(): number {
    return this.#watchers.size;
  }

  close(): Promise<void> {
    this.cutWatches();
    return Promise.resolve();
  }

  async request(request: TransportRequest): Promise<TransportResponse> {
    const url = new URL(request.path, 'http://fake');
    const body = request.body === undefined ? undefined : JSON.parse(String(request.body));
    this.intercept?.(request);
    if (request.method !== 'GET') this.requests.push({ method: request.method, path: url.pathname, body });
    await Promise.resolve();
    try {
      const target = parsePath(url.pathname);
      if (request.method === 'GET' && url.searchParams.get('watch') === 'true')
        return this.#watch(target, url.searchParams, request.signal);
      return answer(200, this.#serve(request.method, target, url.searchParams, body, request.headers));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const { status: code, reason, message } = error;
      return answer(code, { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message });
    }
  }

  #serve(
    method: string,
    target: Target,
    query: URLSearchParams,
    body: Any | undefined,
    headers: Record<string, string>,
  ): unknown {
    const { collection, namespace, name } = target;
    if (method === 'GET' && !name) return this.#list(target, query);
    if (method === 'POST' && target.subresource === 'binding') return this.#bind(target, body);
    if (method === 'POST') return this.#create(target, body as Any);
    const key = namespace ? `${namespace}/${name}` : (name as string);
    const present = this.#collection(collection).get(key);
    if (!present) throw new Refusal(404, 'NotFound', `${collection} "${name}" not found`);
    if (method === 'GET') return present;
    if (method === 'DELETE') return this.#delete(collection, present, body);
    let next: Any;
    if (method === 'PUT') {
      next = cloneJson(body as Any);
      const { resourceVersion } = next.metadata;
      if (resourceVersion && resourceVersion !== present.metadata.resourceVersion)
        throw new Refusal(409, 'Conflict', `${collection} "${name}" was modified`);
    } else if (headers['content-type'] === 'application/json-patch+json') {
      throw new Refusal(415, 'UnsupportedMediaType');
    } else {
      next = patched(present, body as Any, headers['content-type'] ?? '');
    }
    if (target.subresource === 'status') {
      // Of a Node annotations may be written with its status, as node agents do.
      const { annotations } = next.metadata;
      const metadata =
        collection === 'nodes' && annotations ? { ...present.metadata, annotations } : present.metadata;
      next = { ...present, metadata, status: next.status };
    } else if (target.subresource === 'finalize') next = { ...present, spec: next.spec };
    else if ('status' in present) next = { ...next, status: present.status };
    return this.#store(collection, next, present);
  }

  #create(target: Target, body: Any): Any {
    const object = cloneJson(body);
    object.metadata ??= {} as Any['metadata'];
    if (target.namespace) object.metadata.namespace = target.namespace;
    if (!object.metadata.name && object.metadata.generateName)
      object.metadata.name = `${object.metadata.generateName}${randomUUID().slice(0, 5)}`;
    if (this.#collection(target.collection).has(keyOf(object)))
      throw new Refusal(
        409,
        'AlreadyExists',
        `${target.collection} "${object.metadata.name}" already exists`,
      );
    return this.#store(target.collection, object, undefined);
  }

  #bind(target: Target, body: Any | undefined): unknown {
    const pod = this.#collection('pods').get(`${target.namespace}/${target.name}`);
    if (!pod) throw new Refusal(404, 'NotFound');
    const spec = pod.spec as { nodeName?: string };
    if (spec.nodeName)
      throw new Refusal(409, 'Conflict', `pod is already assigned to node "${spec.nodeName}"`);
    const nodeName = (body as unknown as { target: { name: string } }).target.name;
    this.#store('pods', { ...pod, spec: { ...spec, nodeName } }, pod);
    return { kind: 'Status', apiVersion: 'v1', status: 'Success', code: 201 };
  }

  #delete(collection: string, present: Any, options: Record<string, unknown> | undefined): Any {
    const uid = (options?.preconditions as { uid?: string } | undefined)?.uid;
    if (uid && uid !== present.metadata.uid) throw new Refusal(409, 'Conflict', 'uid does not match');
    const finalizers = [...(present.metadata.finalizers ?? [])];
    if (options?.propagationPolicy === 'Foreground') finalizers.push('foregroundDeletion');
    if (options?.propagationPolicy === 'Orphan') finalizers.push('orphan');
    const graceful = collection === 'pods' && options?.gracePeriodSeconds !== 0 && podIsPlaced(present);
    if (finalizers.length === 0 && !graceful) return this.#erase(collection, present);
    const deletionTimestamp = present.metadata.deletionTimestamp ?? new Date().toISOString();
    const metadata = { ...present.metadata, deletionTimestamp, finalizers: [...new Set(finalizers)] };
    return this.#store(collection, { ...present, metadata }, present);
  }

  #list(target: Target, query: URLSearchParams): unknown {
    const items = [...this.#collection(target.collection).values()].filter(object =>
      selected(object, target, query),
    );
    return {
      kind: `${kindOf(target.collection)}List`,
      apiVersion: target.groupVersion,
      metadata: { resourceVersion: String(this.#revision) },
      items: cloneJson(items as unknown as JsonValue[]),
    };
  }

  #watch(target: Target, query: URLSearchParams, signal: AbortSignal | undefined): TransportResponse {
    let from = Number(query.get('resourceVersion') ?? this.#revision);
    if (from < this.#compacted) throw new Refusal(410, 'Expired', 'too old resource version');
    const state = { wake: () => {}, cut: () => {} };
    let cut = false;
    const watchers = this.#watchers;
    const log = (): LogEntry[] => this.#log;
    async function* body(): AsyncGenerator<Uint8Array> {
      try {
        while (!cut && !signal?.aborted) {
          const news = log().filter(entry => entry.revision > from && entry.collection === target.collection);
          for (const entry of news) {
            from = entry.revision;
            if (!selected(entry.object, target, query)) continue;
            yield Buffer.from(`${JSON.stringify({ type: entry.type, object: entry.object })}\n`);
          }
          if (news.length > 0) continue;
          await new Promise<void>(resolve => {
            state.wake = resolve;
          });
        }
      } finally {
        watchers.delete(state);
      }
    }
    state.cut = () => {
      cut = true;
      state.wake();
    };
    signal?.addEventListener('abort', state.cut, { once: true });
    watchers.add(state);
    return { status: 200, headers: {}, body: body(), text: () => Promise.resolve('') };
  }

  #collection(plural: string): Map<string, Any> {
    let found = this.#objects.get(plural);
    if (!found) {
      found = new Map();
      this.#objects.set(plural, found);
    }
    return found;
  }

  #store(collection: string, object: Any, present: Any | undefined): Any {
    const revision = this.#revision + 1;
    const metadata = {
      creationTimestamp: new Date().toISOString(),
      ...object.metadata,
      uid: present?.metadata.uid ?? object.metadata.uid ?? randomUUID(),
      generation: generationOf(object, present),
    };
    if (present && JSON.stringify({ ...object, metadata: present.metadata }) === JSON.stringify(present))
      if (JSON.stringify(metadata) === JSON.stringify(present.metadata)) return present;
    this.#revision = revision;
    const stored = { ...object, metadata: { ...metadata, resourceVersion: String(revision) } } as Any;
    if (metadata.deletionTimestamp && (metadata.finalizers ?? []).length === 0 && !podIsPlaced(stored))
      return this.#erase(collection, stored);
    this.#collection(collection).set(keyOf(stored), stored);
    this.#append(collection, present ? 'MODIFIED' : 'ADDED', stored);
    return stored;
  }

  #erase(collection: string, object: Any): Any {
    this.#collection(collection).delete(keyOf(object));
    const revision = ++this.#revision;
    const gone = { ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } };
    this.#append(collection, 'DELETED', gone);
    return gone;
  }

  #append(collection: string, type: LogEntry['type'], object: Any): void {
    this.#log.push({ revision: this.#revision, type, collection, object: cloneJson(object) });
    for (const watcher of this.#watchers) watcher.wake();
  }
}

function podIsPlaced(object: Any): boolean {
  return object.kind === 'Pod' && Boolean((object.spec as { nodeName?: string } | undefined)?.nodeName);
}

function generationOf(object: Any, present: Any | undefined): number {
  if (!present) return 1;
  const before = present.metadata.generation ?? 1;
  return JSON.stringify(object.spec) === JSON.stringify(present.spec) ? before : before + 1;
}

/** Merge patch; for the strategic one, conditions are merged by type as the real schema says. */
function patched(present: Any, patch: Any, type: string): Any {
  const conditions = (patch.status as { conditions?: { type: string }[] } | undefined)?.conditions;
  const next = applyMergePatch(
    present as unknown as JsonValue,
    patch as unknown as JsonValue,
  ) as unknown as Any;
  if (!type.includes('strategic') || !conditions) return next;
  const old = (present.status as { conditions?: { type: string }[] } | undefined)?.conditions ?? [];
  const merged = old.map(entry => ({ ...entry, ...conditions.find(other => other.type === entry.type) }));
  merged.push(...conditions.filter(entry => !old.some(other => other.type === entry.type)));
  return { ...next, status: { ...(next.status as object), conditions: merged } };
}

function kindOf(plural: string): string {
  return KIND[plural] ?? plural.replace(/s$/, '').replace(/^./, letter => letter.toUpperCase());
}

function parsePath(path: string): Target {
  const parts = path.split('/').filter(part => part !== '');
  const groupVersion = parts[0] === 'api' ? (parts[1] as string) : `${parts[1]}/${parts[2]}`;
  const rest = parts.slice(parts[0] === 'api' ? 2 : 3);
  if (rest[0] === 'namespaces' && rest[2] && rest[2] !== 'status' && rest[2] !== 'finalize')
    return { groupVersion, namespace: rest[1], collection: rest[2], name: rest[3], subresource: rest[4] };
  return { groupVersion, collection: rest[0] as string, name: rest[1], subresource: rest[2] };
}

function selected(object: Any, target: Target, query: URLSearchParams): boolean {
  if (target.namespace && object.metadata.namespace !== target.namespace) return false;
  const labels = query.get('labelSelector');
  if (labels && !matchesLabelSelector(parseLabelSelector(labels), object.metadata.labels)) return false;
  for (const term of (query.get('fieldSelector') ?? '').split(',').filter(text => text !== '')) {
    const [, path = '', operator, value] = /^([^!=]+)(!?=)(.*)$/.exec(term) ?? [];
    const found = path
      .split('.')
      .reduce<unknown>((at, part) => (at as Record<string, unknown> | undefined)?.[part], object);
    if ((String(found ?? '') === value) !== (operator === '=')) return false;
  }
  return true;
}

function answer(status: number, body: unknown): TransportResponse {
  const text = JSON.stringify(body);
  async function* bytes(): AsyncGenerator<Uint8Array> {
    yield Buffer.from(text);
  }
  return { status, headers: {}, body: bytes(), text: () => Promise.resolve(text) };
}

/** Waits until `probe` answers something else than false or undefined; fails after `timeoutMs`. */
export async function eventually<R>(
  probe: () => R | false | undefined,
  what: string,
  timeoutMs = 5_000,
): Promise<R> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const result = probe();
    if (result !== false && result !== undefined) return result;
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 5));
  }
}

/** Starts informers and waits for their first lists. */
export async function startAll(informers: Pick<Informer<KubeObject>, 'start' | 'synced'>[]): Promise<void> {
  for (const informer of informers) informer.start();
  await Promise.all(informers.map(informer => informer.synced()));
}
