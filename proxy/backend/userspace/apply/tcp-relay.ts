// Relays TCP connections inside one thread: accept, connect to an endpoint, move bytes both ways. An endpoint that
// refuses, or does not answer in 250 ms, 500 ms, 1 s, 2 s, is followed by the next one, which no kernel mode does
// (Kubernetes 1.20 pkg/proxy/userspace/proxysocket.go). When nobody answers, or either side resets, the other is reset.
//
//   listener ─accept─▶ dialing ─connected─▶ relaying (two Directions) ─both ended─▶ closed
//                        │ ▲ next endpoint
//                        └─┘
import {
  EAGAIN,
  int32,
  lastErrno,
  O_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  sysClose,
  sysSocket,
  tryGetsockopt,
  trySetsockopt,
} from '../../../../src/linux/ffi.ts';
import {
  acceptStream,
  connectStream,
  EINPROGRESS,
  EMFILE,
  ENFILE,
  EPOLLERR,
  EPOLLET,
  EPOLLEXCLUSIVE,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  type Epoll,
  shutdownWrite,
} from '../../../../src/linux/stream-io.ts';
import type { Balancer } from '../plan/balancer.ts';
import type { RelayEndpoint, RelayStats } from './messages.ts';
import { PipePool } from './pipes.ts';
import { Direction, relayBuffer, type Socket } from './stream.ts';

/** How long each attempt may take; there are no more attempts than these. */
export const DIAL_TIMEOUTS_MS = [250, 500, 1000, 2000] as const;
/** Accepted at one event, so that established connections are not kept waiting by a flood of new ones. */
const ACCEPT_BATCH = 64;
/** A relay without descriptors looks again after so long. */
const PAUSE_MS = 50;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const SO_ERROR = 4;
const EPIPE = 32;
const ECONNRESET = 104;
const SO_KEEPALIVE = 9;
const SO_LINGER = 13;
const SOCKADDR_BYTES = 28;
const ON = int32(1);
/** struct linger { on, 0 seconds }: close sends a reset. */
const RESET = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]);
const STREAM_EVENTS = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

export interface TcpListener {
  readonly fd: number;
  readonly balancer: Balancer<RelayEndpoint>;
  /** Affinity wants the client's address; without it, asking for that is saved. */
  readonly sticky: boolean;
}

interface Connection {
  readonly client: Side;
  readonly listener: TcpListener;
  readonly address: string;
  server: Side | undefined;
  /** Index into DIAL_TIMEOUTS_MS; -1 once connected. */
  attempt: number;
  deadlineMs: number;
  out: Direction | undefined;
  back: Direction | undefined;
  open: boolean;
}

interface Side extends Socket {
  connection: Connection;
}

function makeSocket(fd: number): Socket {
  return { fd, readable: false, writable: false, hangup: false };
}

export class TcpRelay {
  readonly #epoll: Epoll;
  readonly #stats: RelayStats;
  readonly #maxConnections: number;
  readonly #now: () => number;
  readonly #sides: (Side | undefined)[] = [];
  readonly #listeners = new Map<number, TcpListener>();
  readonly #buffer = relayBuffer();
  readonly #pipes = new PipePool();
  /** One queue for each timeout: what came first is over first. */
  readonly #dialing: Connection[][] = DIAL_TIMEOUTS_MS.map(() => []);
  readonly #peer = Buffer.alloc(SOCKADDR_BYTES);
  readonly #peerLength = new Int32Array(1);
  #ready: Direction[] = [];
  #pausedUntilMs: number | undefined;
  /** Everything that had happened by then was heard of: a dial is late only when nothing was heard since its deadline. */
  #heardUntilMs = 0;
  #active = 0;

  constructor(options: {
    epoll: Epoll;
    stats: RelayStats;
    maxConnections: number;
    now?: () => number;
  }) {
    this.#epoll = options.epoll;
    this.#stats = options.stats;
    this.#maxConnections = options.maxConnections;
    this.#now = options.now ?? (() => performance.now());
  }

  listen(listener: TcpListener): void {
    this.#listeners.set(listener.fd, listener);
    if (this.#pausedUntilMs === undefined) this.#watch(listener.fd);
  }

  /** Connections that were accepted go on. */
  unlisten(fd: number): void {
    if (this.#listeners.delete(fd)) this.#epoll.remove(fd);
  }

  /** False when the descriptor is none of ours. */
  handle(fd: number, events: number): boolean {
    const side = this.#sides[fd];
    if (side) this.#onSocket(side, events);
    else {
      const listener = this.#listeners.get(fd);
      if (!listener) return false;
      this.#accept(listener);
    }
    return true;
  }

  /** Goes on with fast streams, gives up on slow dials; how long the loop may sleep. */
  turn(): number {
    const ready = this.#ready;
    this.#ready = [];
    for (const direction of ready) {
      const connection = this.#sides[direction.from.fd]?.connection;
      if (connection?.open && (connection.out === direction || connection.back === direction))
        this.#pump(connection, direction);
    }
    const now = this.#now();
    let waitMs = Infinity;
    for (const queue of this.#dialing) {
      for (let first = queue[0]; first; first = queue[0]) {
        // Connected, ended, or dialing another endpoint already.
        const settled = !first.open || this.#dialing[first.attempt] !== queue;
        if (!settled && first.deadlineMs > this.#heardUntilMs) {
          waitMs = Math.min(waitMs, Math.max(0, first.deadlineMs - now));
          break;
        }
        queue.shift();
        if (!settled) this.#dialNext(first);
      }
    }
    if (this.#pausedUntilMs !== undefined) {
      if (now >= this.#pausedUntilMs && this.#active < this.#maxConnections) this.#resume();
      else waitMs = Math.min(waitMs, PAUSE_MS);
    }
    this.#heardUntilMs = now;
    return this.#ready.length > 0 ? 0 : waitMs;
  }

  /** Connections that are there. */
  get active(): number {
    return this.#active;
  }

  close(): void {
    for (const side of this.#sides) if (side?.connection.open) this.#end(side.connection, true);
    this.#pipes.close();
  }

  #watch(fd: number): void {
    // Level-triggered: what one batch left over is told again. Exclusive: one thread of several wakes up.
    this.#epoll.add(fd, EPOLLIN | EPOLLEXCLUSIVE);
  }

  /** New connections wait in the kernel's backlog until some of ours have ended. */
  #pause(): void {
    if (this.#pausedUntilMs === undefined) for (const fd of this.#listeners.keys()) this.#epoll.remove(fd);
    this.#pausedUntilMs = this.#now() + PAUSE_MS;
  }

  #resume(): void {
    this.#pausedUntilMs = undefined;
    for (const fd of this.#listeners.keys()) this.#watch(fd);
  }

  #accept(listener: TcpListener): void {
    for (let n = 0; n < ACCEPT_BATCH; n++) {
      if (this.#active >= this.#maxConnections) {
        this.#pause();
        return;
      }
      const fd = listener.sticky
        ? acceptStream(listener.fd, this.#peer, this.#peerLength)
        : acceptStream(listener.fd);
      if (fd === -EMFILE || fd === -ENFILE) {
        this.#pause();
        return;
      }
      if (fd === -EAGAIN) return;
      // A client that gave up before it was accepted.
      if (fd < 0) continue;
      const address = listener.sticky ? addressOf(this.#peer) : '';
      const client = makeSocket(fd) as Side;
      client.writable = true;
      const connection: Connection = {
        client,
        listener,
        address,
        server: undefined,
        attempt: 0,
        deadlineMs: 0,
        out: undefined,
        back: undefined,
        open: true,
      };
      client.connection = connection;
      this.#sides[fd] = client;
      this.#active++;
      this.#stats.active = this.#active;
      this.#stats.accepted++;
      if (this.#epoll.add(fd, STREAM_EVENTS) < 0) this.#end(connection, true);
      else this.#dial(connection);
    }
  }

  #dialNext(connection: Connection): void {
    this.#stats.retried++;
    if (connection.server) this.#drop(connection.server);
    connection.server = undefined;
    connection.attempt++;
    this.#dial(connection);
  }

  #dial(connection: Connection): void {
    for (; connection.attempt < DIAL_TIMEOUTS_MS.length; connection.attempt++) {
      const endpoint = connection.listener.balancer.next(connection.address, connection.attempt > 0);
      if (!endpoint) break;
      const fd = openStream(endpoint.address);
      if (fd < 0) break;
      const result = connectStream(fd, endpoint.address);
      if (result !== 0 && result !== -EINPROGRESS) {
        sysClose(fd);
        this.#stats.retried++;
        continue;
      }
      const server = makeSocket(fd) as Side;
      server.connection = connection;
      this.#sides[fd] = server;
      connection.server = server;
      connection.deadlineMs = this.#now() + DIAL_TIMEOUTS_MS[connection.attempt]!;
      this.#dialing[connection.attempt]?.push(connection);
      if (this.#epoll.add(fd, STREAM_EVENTS) < 0) break;
      return;
    }
    this.#stats.failed++;
    this.#end(connection, true);
  }

  #onSocket(side: Side, events: number): void {
    const { connection } = side;
    if (connection.attempt >= 0 && side === connection.server) {
      this.#onDialed(connection, side, events);
      return;
    }
    if (events & EPOLLERR) {
      this.#end(connection, true);
      return;
    }
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) side.readable = true;
    if (events & (EPOLLRDHUP | EPOLLHUP)) side.hangup = true;
    if (events & (EPOLLOUT | EPOLLHUP)) side.writable = true;
    const { out, back } = connection;
    if (!out || !back) return;
    if (side.readable) this.#pump(connection, side === connection.client ? out : back);
    if (side.writable && connection.open) this.#pump(connection, side === connection.client ? back : out);
  }

  #onDialed(connection: Connection, server: Side, events: number): void {
    if (events & (EPOLLERR | EPOLLHUP)) {
      const error = int32(0);
      tryGetsockopt(server.fd, SOL_SOCKET, SO_ERROR, error);
      const errno = error.readInt32LE(0);
      // Who was not there says ECONNREFUSED (tcp_reset of SYN_SENT); this one had accepted, and then reset.
      if (errno === ECONNRESET || errno === EPIPE) {
        this.#end(connection, true);
        return;
      }
      if (errno !== 0) {
        this.#dialNext(connection);
        return;
      }
    }
    if (!(events & EPOLLOUT)) return;
    connection.attempt = -1;
    server.writable = true;
    server.readable = (events & EPOLLIN) !== 0;
    server.hangup = (events & (EPOLLRDHUP | EPOLLHUP)) !== 0;
    const { client } = connection;
    connection.out = new Direction(client, server);
    connection.back = new Direction(server, client);
    if (client.readable) this.#pump(connection, connection.out);
    if (server.readable && connection.open) this.#pump(connection, connection.back);
  }

  #pump(connection: Connection, direction: Direction): void {
    switch (direction.pump(this.#buffer, this.#pipes)) {
      case 'again':
        this.#ready.push(direction);
        return;
      case 'error':
        this.#end(connection, true);
        return;
      case 'done':
        // A half-close is passed on; when both are done, closing says it by itself.
        if (connection.out?.done && connection.back?.done) this.#end(connection, false);
        else shutdownWrite(direction.to.fd);
        return;
      case 'wait':
    }
  }

  #end(connection: Connection, reset: boolean): void {
    if (!connection.open) return;
    connection.open = false;
    for (const direction of [connection.out, connection.back]) {
      if (direction?.spliced) this.#stats.spliced++;
      direction?.abandon(this.#pipes);
    }
    for (const side of [connection.client, connection.server]) {
      if (!side) continue;
      if (reset) trySetsockopt(side.fd, SOL_SOCKET, SO_LINGER, RESET);
      this.#drop(side);
    }
    this.#active--;
    this.#stats.active = this.#active;
  }

  #drop(side: Side): void {
    this.#sides[side.fd] = undefined;
    sysClose(side.fd);
  }
}

/** A socket for this kind of address, or -errno. */
function openStream(address: Uint8Array): number {
  const family = address[0]! | (address[1]! << 8);
  let fd: number;
  try {
    fd = sysSocket(family, SOCK_STREAM | O_NONBLOCK, 0);
  } catch {
    return -(lastErrno() || EMFILE);
  }
  trySetsockopt(fd, IPPROTO_TCP, TCP_NODELAY, ON);
  trySetsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, ON);
  return fd;
}

/** The client's address without its port, as a key. */
export function addressOf(sockaddr: Buffer): string {
  return sockaddr.readUInt16LE(0) === 2
    ? sockaddr.toString('latin1', 4, 8)
    : sockaddr.toString('latin1', 8, 24);
}
