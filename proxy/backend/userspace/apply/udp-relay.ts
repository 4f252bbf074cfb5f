// Relays UDP inside one thread: a socket of its own towards the endpoint for each client, so that answers find their way
// back, gone after a time of silence (Kubernetes 1.20 pkg/proxy/userspace/proxysocket.go, udpProxySocket). A client of
// an endpoint that is gone, or says that nobody listens, gets another one with its next datagram.
import {
  EAGAIN,
  O_NONBLOCK,
  SOCK_DGRAM,
  sysClose,
  sysRecv,
  sysSend,
  sysSocket,
} from '../../../../src/linux/ffi.ts';
import {
  connectStream,
  EPOLLIN,
  type Epoll,
  receiveDatagram,
  sendDatagram,
} from '../../../../src/linux/stream-io.ts';
import type { Balancer } from '../plan/balancer.ts';
import type { RelayEndpoint, RelayStats } from './messages.ts';
import { addressOf } from './tcp-relay.ts';

const MAX_DATAGRAM = 65_535;
/** Datagrams taken at one event. */
const BATCH = 64;
const SOCKADDR_BYTES = 28;
const SOCKADDR_IN_BYTES = 16;

export interface UdpListener {
  readonly fd: number;
  readonly balancer: Balancer<RelayEndpoint>;
  readonly idleMs: number;
}

interface Session {
  readonly fd: number;
  readonly listener: UdpListener;
  readonly key: string;
  readonly client: Buffer;
  readonly address: string;
  readonly endpoint: RelayEndpoint;
  usedAtMs: number;
}

export class UdpRelay {
  readonly #epoll: Epoll;
  readonly #stats: RelayStats;
  readonly #maxSessions: number;
  readonly #now: () => number;
  readonly #listeners = new Map<number, UdpListener>();
  readonly #byFd = new Map<number, Session>();
  readonly #byClient = new Map<string, Session>();
  /** Clients whose endpoint did not answer: they get another one. */
  readonly #refused = new Set<string>();
  readonly #buffer = Buffer.alloc(MAX_DATAGRAM);
  readonly #peer = Buffer.alloc(SOCKADDR_BYTES);
  readonly #peerLength = new Int32Array(1);
  #sweepAtMs = Infinity;

  constructor(options: { epoll: Epoll; stats: RelayStats; maxSessions: number; now?: () => number }) {
    this.#epoll = options.epoll;
    this.#stats = options.stats;
    this.#maxSessions = options.maxSessions;
    this.#now = options.now ?? (() => performance.now());
  }

  listen(listener: UdpListener): void {
    this.#listeners.set(listener.fd, listener);
    this.#epoll.add(listener.fd, EPOLLIN);
  }

  unlisten(fd: number): void {
    const listener = this.#listeners.get(fd);
    if (!listener) return;
    this.#listeners.delete(fd);
    this.#epoll.remove(fd);
    for (const session of this.#byFd.values()) if (session.listener === listener) this.#end(session);
  }

  /** Sessions with endpoints that are gone end. */
  endpointsChanged(listener: UdpListener): void {
    const present = new Set(listener.balancer.endpoints);
    for (const session of this.#byFd.values())
      if (session.listener === listener && !present.has(session.endpoint)) this.#end(session);
  }

  handle(fd: number): boolean {
    const session = this.#byFd.get(fd);
    if (session) this.#fromEndpoint(session);
    else {
      const listener = this.#listeners.get(fd);
      if (!listener) return false;
      this.#fromClients(listener);
    }
    return true;
  }

  /** Ends what is idle; how long the loop may sleep. */
  turn(): number {
    const now = this.#now();
    if (now < this.#sweepAtMs) return this.#sweepAtMs - now;
    let next = Infinity;
    for (const session of this.#byFd.values()) {
      const overAtMs = session.usedAtMs + session.listener.idleMs;
      if (overAtMs <= now) this.#end(session);
      else next = Math.min(next, overAtMs);
    }
    // A little late rather than once for each session.
    this.#sweepAtMs = next === Infinity ? Infinity : Math.max(next, now + 10);
    return this.#sweepAtMs - now;
  }

  close(): void {
    for (const session of this.#byFd.values()) this.#end(session);
  }

  #fromClients(listener: UdpListener): void {
    for (let n = 0; n < BATCH; n++) {
      const length = receiveDatagram(listener.fd, this.#buffer, this.#peer, this.#peerLength);
      if (length === -EAGAIN) return;
      // An ICMP error of an answer that we sent; the next datagram is there all the same.
      if (length < 0) continue;
      const key = `${listener.fd} ${this.#peer.toString('latin1', 0, this.#peerLength[0])}`;
      const session = this.#byClient.get(key) ?? this.#begin(listener, key);
      if (!session) continue;
      session.usedAtMs = this.#now();
      const sent = sysSend(session.fd, this.#buffer.subarray(0, length));
      if (sent < 0 && sent !== -EAGAIN) this.#refuse(session);
    }
  }

  #begin(listener: UdpListener, key: string): Session | undefined {
    const address = addressOf(this.#peer);
    const endpoint = listener.balancer.next(address, this.#refused.delete(address));
    if (!endpoint) return undefined;
    if (this.#byFd.size >= this.#maxSessions) {
      const [oldest] = this.#byFd.values();
      if (oldest) this.#end(oldest);
    }
    let fd: number;
    try {
      fd = sysSocket(endpoint.address[0]! | (endpoint.address[1]! << 8), SOCK_DGRAM | O_NONBLOCK, 0);
    } catch {
      this.#stats.failed++;
      return undefined;
    }
    if (connectStream(fd, endpoint.address) < 0 || this.#epoll.add(fd, EPOLLIN) < 0) {
      this.#stats.failed++;
      sysClose(fd);
      return undefined;
    }
    const usedAtMs = this.#now();
    const client = Buffer.from(this.#peer.subarray(0, this.#peerLength[0] ?? SOCKADDR_IN_BYTES));
    const session = { fd, listener, key, client, address, endpoint, usedAtMs };
    this.#byFd.set(fd, session);
    this.#byClient.set(key, session);
    this.#stats.accepted++;
    this.#stats.udpSessions = this.#byFd.size;
    this.#sweepAtMs = Math.min(this.#sweepAtMs, usedAtMs + listener.idleMs);
    return session;
  }

  #fromEndpoint(session: Session): void {
    for (let n = 0; n < BATCH; n++) {
      const length = sysRecv(session.fd, this.#buffer);
      if (length === -EAGAIN) return;
      if (length < 0) {
        this.#refuse(session);
        return;
      }
      session.usedAtMs = this.#now();
      sendDatagram(session.listener.fd, this.#buffer, length, session.client);
    }
  }

  #refuse(session: Session): void {
    this.#stats.retried++;
    this.#refused.add(session.address);
    // Who never comes again is forgotten with everybody else.
    if (this.#refused.size > this.#maxSessions) this.#refused.clear();
    this.#end(session);
  }

  #end(session: Session): void {
    this.#byFd.delete(session.fd);
    this.#byClient.delete(session.key);
    this.#stats.udpSessions = this.#byFd.size;
    sysClose(session.fd);
  }
}
