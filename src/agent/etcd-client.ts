// The calls of etcd v3 that leases need, over gRPC: promises with deadlines, several endpoints tried in turn, errors with
// a stable code (`ETCD_UNAVAILABLE`, `ETCD_COMPACTED`, …). It knows nothing of subnets.
import { readFileSync } from 'node:fs';
import {
  type ChannelCredentials,
  type ChannelOptions,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import {
  AuthClient,
  type Compare,
  type Event,
  type KeyValue,
  KVClient,
  LeaseClient,
  type RequestOp,
  WatchClient,
} from '../codec/etcd/gen/etcd.ts';
import { PodwireError } from '../lib/errors.ts';
import type { EtcdOptions } from './flanneld-options.ts';

const CALL_TIMEOUT_MS = 5_000;
const CHANNEL_OPTIONS: ChannelOptions = {
  // A member that restarts must be found again at once.
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2_000,
  // A watch must notice that its peer is gone without a FIN.
  'grpc.keepalive_time_ms': 20_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.use_local_subchannel_pool': 1,
};

export class EtcdError extends PodwireError {
  constructor(operation: string, cause: ServiceError) {
    const name = (status[cause.code] as string | undefined) ?? 'UNKNOWN';
    super(`ETCD_${name}`, `etcd: ${operation}: ${cause.details || cause.message}`, { cause });
  }
}

/** What a program can do about it: ask again, elsewhere. */
export function isEtcdAway(thrown: unknown): boolean {
  return (
    thrown instanceof PodwireError &&
    /^ETCD_(UNAVAILABLE|DEADLINE_EXCEEDED|CANCELLED|RESOURCE_EXHAUSTED|INTERNAL|UNKNOWN)$/.test(thrown.code)
  );
}

interface Member {
  kv: KVClient;
  watch: WatchClient;
  lease: LeaseClient;
  auth: AuthClient;
}

export interface WatchBatch {
  revision: bigint;
  events: Event[];
}

/** The end of the range of all keys that begin so. */
export function prefixEnd(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  end[end.length - 1] = end[end.length - 1]! + 1;
  return end;
}

type Reply<A> = (error: ServiceError | null, answer: A) => void;
type Deadline = { deadline: number };

export class EtcdClient {
  readonly #options: EtcdOptions;
  readonly #credentials: ChannelCredentials;
  readonly #members = new Map<string, Member>();
  #at = 0;
  #token: string | undefined;
  #closed = false;

  constructor(options: EtcdOptions) {
    this.#options = options;
    const file = (path: string): Buffer | null => (path === '' ? null : readFileSync(path));
    this.#credentials = options.endpoints.some(endpoint => endpoint.startsWith('https:'))
      ? credentials.createSsl(file(options.caFile), file(options.keyFile), file(options.certFile))
      : credentials.createInsecure();
  }

  /** Sorted by key, with the revision they are of. */
  async range(key: string, end?: Buffer): Promise<{ kvs: KeyValue[]; revision: bigint }> {
    const request = {
      key: Buffer.from(key),
      rangeEnd: end ?? Buffer.alloc(0),
      limit: 0n,
      revision: 0n,
      keysOnly: false,
      countOnly: false,
    };
    const answer = await this.#call(`read ${key}`, ({ kv }, metadata, deadline, reply: Reply<RangeAnswer>) =>
      kv.range(request, metadata, deadline, reply),
    );
    return { kvs: answer.kvs, revision: answer.header?.revision ?? 0n };
  }

  /** Whether the comparison held, so that `success` was done. */
  async txn(what: string, compare: Compare[], success: RequestOp[]): Promise<boolean> {
    const answer = await this.#call(
      what,
      ({ kv }, metadata, deadline, reply: Reply<{ succeeded: boolean }>) =>
        kv.txn({ compare, success, failure: [] }, metadata, deadline, reply),
    );
    return answer.succeeded;
  }

  async grant(ttlSeconds: number): Promise<bigint> {
    const request = { TTL: BigInt(ttlSeconds), ID: 0n };
    const answer = await this.#call(
      'grant a lease',
      ({ lease }, metadata, deadline, reply: Reply<{ ID: bigint }>) =>
        lease.leaseGrant(request, metadata, deadline, reply),
    );
    return answer.ID;
  }

  async revoke(ID: bigint): Promise<void> {
    await this.#call(`revoke lease ${ID}`, ({ lease }, metadata, deadline, reply: Reply<unknown>) =>
      lease.leaseRevoke({ ID }, metadata, deadline, reply),
    );
  }

  /** Seconds it lives from now on; 0 when there is no such lease. */
  async keepAlive(ID: bigint): Promise<number> {
    const answer = await this.#call(
      `renew lease ${ID}`,
      ({ lease }, metadata, deadline, reply: Reply<{ TTL: bigint }>) => {
        const stream = lease.leaseKeepAlive(metadata, deadline);
        stream.once('data', (data: { TTL: bigint }) => {
          reply(null, data);
          stream.end();
        });
        stream.on('error', (error: ServiceError) => reply(error, { TTL: 0n }));
        stream.write({ ID });
      },
    );
    return Math.max(0, Number(answer.TTL));
  }

  /** Changes of all keys that begin with `prefix`, from `revision` on; throws when the stream ends, ETCD_COMPACTED when too old. */
  async *watch(prefix: string, revision: bigint, signal: AbortSignal): AsyncGenerator<WatchBatch> {
    const stream = this.#member().watch.watch(await this.#metadata({ hasleader: 'true' }));
    const cancel = (): void => stream.cancel();
    signal.addEventListener('abort', cancel, { once: true });
    stream.write({
      createRequest: {
        key: Buffer.from(prefix),
        rangeEnd: prefixEnd(prefix),
        startRevision: revision,
        progressNotify: true,
        prevKv: false,
        watchId: 0n,
      },
    });
    try {
      for await (const answer of stream as AsyncIterable<WatchAnswer>) {
        if (answer.canceled) {
          if (answer.compactRevision > 0n)
            throw new PodwireError(
              'ETCD_COMPACTED',
              `etcd: revision ${revision} is gone, ${answer.compactRevision} is the oldest`,
            );
          this.#token = undefined;
          throw new PodwireError('ETCD_CANCELLED', `etcd: watch ended: ${answer.cancelReason}`);
        }
        yield { revision: answer.header?.revision ?? 0n, events: answer.events };
      }
      throw new PodwireError('ETCD_UNAVAILABLE', 'etcd: watch ended');
    } catch (thrown) {
      if (signal.aborted) return;
      if (thrown instanceof PodwireError) throw thrown;
      this.#at++;
      throw new EtcdError(`watch ${prefix}`, thrown as ServiceError);
    } finally {
      signal.removeEventListener('abort', cancel);
      stream.cancel();
    }
  }

  /** For good: a call that is still under way opens no new connection. */
  close(): void {
    this.#closed = true;
    for (const member of this.#members.values())
      for (const client of [member.kv, member.watch, member.lease, member.auth]) client.close();
    this.#members.clear();
  }

  #member(): Member {
    if (this.#closed) throw new PodwireError('ETCD_CLOSED', 'etcd: the client was closed');
    const { endpoints } = this.#options;
    const endpoint = endpoints[this.#at % endpoints.length]!;
    const known = this.#members.get(endpoint);
    if (known) return known;
    const { hostname, port } = new URL(endpoint);
    const address = `${hostname}:${port || 2379}`;
    const kv = new KVClient(address, this.#credentials, CHANNEL_OPTIONS);
    const shared = { ...CHANNEL_OPTIONS, channelOverride: kv.getChannel() };
    const member = {
      kv,
      watch: new WatchClient(address, this.#credentials, shared),
      lease: new LeaseClient(address, this.#credentials, shared),
      auth: new AuthClient(address, this.#credentials, shared),
    };
    this.#members.set(endpoint, member);
    return member;
  }

  async #metadata(extra: Record<string, string> = {}): Promise<Metadata> {
    const metadata = new Metadata();
    for (const [key, value] of Object.entries(extra)) metadata.set(key, value);
    const { username: name, password } = this.#options;
    if (name === '') return metadata;
    this.#token ??= (
      await unary(`log in as ${name}`, (deadline, reply: Reply<{ token: string }>) =>
        this.#member().auth.authenticate({ name, password }, new Metadata(), deadline, reply),
      )
    ).token;
    metadata.set('token', this.#token);
    return metadata;
  }

  /** Each endpoint gets its chance, and an outdated token one more. */
  async #call<A>(
    operation: string,
    start: (member: Member, metadata: Metadata, deadline: Deadline, reply: Reply<A>) => unknown,
  ): Promise<A> {
    let renewed = false;
    for (let attempt = 1; ; attempt++) {
      try {
        const metadata = await this.#metadata();
        return await unary(operation, (deadline, reply) => start(this.#member(), metadata, deadline, reply));
      } catch (thrown) {
        if (!(thrown instanceof EtcdError)) throw thrown;
        if (thrown.code === 'ETCD_UNAUTHENTICATED' && !renewed) {
          renewed = true;
          this.#token = undefined;
        } else if (isEtcdAway(thrown) && attempt < this.#options.endpoints.length) this.#at++;
        else {
          if (isEtcdAway(thrown)) this.#at++;
          throw thrown;
        }
      }
    }
  }
}

interface RangeAnswer {
  header?: { revision: bigint } | undefined;
  kvs: KeyValue[];
}

interface WatchAnswer {
  header?: { revision: bigint } | undefined;
  canceled: boolean;
  compactRevision: bigint;
  cancelReason: string;
  events: Event[];
}

function unary<A>(operation: string, start: (deadline: Deadline, reply: Reply<A>) => unknown): Promise<A> {
  return new Promise((resolve, reject) => {
    start({ deadline: Date.now() + CALL_TIMEOUT_MS }, (error, answer) => {
      if (error) reject(new EtcdError(operation, error));
      else resolve(answer);
    });
  });
}
