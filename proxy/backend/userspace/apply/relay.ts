// The relay as the main thread sees it: listeners are opened here (inside a namespace, at a given port) and served by
// threads with an event loop of their own, so that a busy relay holds up nothing else and the other way round. A
// listener is shared by all threads, unless it remembers clients (affinity, UDP): then one thread has it alone.
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { errorMessage } from '../../../../src/lib/errors.ts';
import { ipFamily } from '../../../../src/lib/ip.ts';
import { int32, SOL_SOCKET, sysClose, trySetsockopt } from '../../../../src/linux/ffi.ts';
import { boundPort, encodeSockaddr, listenTcp } from '../../../../src/linux/listen.ts';
import type { Netns } from '../../../../src/linux/netns.ts';
import { openUdpSocket } from '../../../../src/linux/socket-options.ts';
import { openEvent, signalEvent } from '../../../../src/linux/stream-io.ts';
import type { Logger } from '../../../../src/observe/log.ts';
import type { Protocol } from '../../../model/types.ts';
import { shuffle } from '../plan/balancer.ts';
import {
  type RelayEndpoint,
  type RelayReply,
  type RelayRequest,
  type RelayStats,
  type RelayThreadOptions,
  STATS,
} from './messages.ts';

const MAX_THREADS = 4;
/** Turn counters are reused; so many listeners have one of their own. */
const TURNS = 65_536;
const BACKLOG = 4096;
const DEFAULT_UDP_IDLE_MS = 250;
/** Descriptors for everything but connections. */
const RESERVED_FDS = 512;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const SO_KEEPALIVE = 9;

export interface RelayOptions {
  /** Where listeners and connections live; the process's own namespace when absent. */
  netns?: Netns;
  threads?: number;
  /** Of all threads together; by default as many as there are descriptors for. */
  maxConnections?: number;
  random?: () => number;
  log?: Logger;
}

export interface ListenerSpec {
  protocol: Exclude<Protocol, 'SCTP'>;
  address: string;
  /** 0: any that is free. */
  port: number;
  affinityMs?: number;
  udpIdleMs?: number;
  endpoints: readonly { ip: string; port: number }[];
}

export interface RelayListener {
  readonly port: number;
  setEndpoints(endpoints: readonly { ip: string; port: number }[]): void;
  /** Connections that it accepted go on (TCP). */
  close(): void;
}

interface Thread {
  worker: Worker;
  wakeFd: number;
  ended: Promise<unknown>;
}

function descriptorLimit(): number {
  const line = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
  return line ? Number(line[1]) : 1024;
}

function toEndpoint({ ip, port }: { ip: string; port: number }): RelayEndpoint {
  return { name: `${ip} ${port}`, address: encodeSockaddr(ip, port) };
}

export class Relay {
  readonly #options: RelayOptions;
  readonly #turns = new SharedArrayBuffer(4 * TURNS);
  readonly #stats: SharedArrayBuffer;
  readonly #threads: Thread[] = [];
  readonly #threadCount: number;
  /** Listeners being closed: how many threads have not let go yet. */
  readonly #closing = new Map<number, { fd: number; left: number }>();
  #nextId = 0;
  #stopped = false;

  constructor(options: RelayOptions = {}) {
    this.#options = options;
    // Half of the processors: the kernel's share of the work is the larger one and runs elsewhere.
    this.#threadCount = options.threads ?? Math.min(MAX_THREADS, Math.ceil(availableParallelism() / 2));
    this.#stats = new SharedArrayBuffer(4 * STATS.length * this.#threadCount);
  }

  /** Opens a listener; EADDRINUSE when the port is taken. */
  open(spec: ListenerSpec): RelayListener {
    this.#start();
    const { protocol, affinityMs = 0, udpIdleMs = DEFAULT_UDP_IDLE_MS } = spec;
    const fd = protocol === 'TCP' ? this.#listenTcp(spec) : this.#listenUdp(spec);
    const id = this.#nextId++;
    const alone = protocol === 'UDP' || affinityMs > 0;
    const threads = alone ? [this.#threads[id % this.#threads.length]!] : this.#threads;
    this.#send(threads, {
      op: 'open',
      id,
      protocol,
      fd,
      turn: id % TURNS,
      affinityMs,
      udpIdleMs,
      endpoints: this.#order(spec.endpoints),
    });
    let open = true;
    return {
      port: boundPort(fd),
      setEndpoints: endpoints =>
        this.#send(threads, { op: 'endpoints', id, endpoints: this.#order(endpoints) }),
      close: () => {
        if (!open) return;
        open = false;
        this.#closing.set(id, { fd, left: threads.length });
        this.#send(threads, { op: 'close', id });
      },
    };
  }

  /** Of all threads together. */
  stats(): RelayStats {
    const numbers = new Int32Array(this.#stats);
    const sum = (index: number): number => {
      let total = 0;
      for (let at = index; at < numbers.length; at += STATS.length) total += Atomics.load(numbers, at);
      return total;
    };
    return Object.fromEntries(STATS.map((name, index) => [name, sum(index)])) as RelayStats;
  }

  /** Lets connections come to their own end, whose listeners were closed; does not keep the process. */
  async drain(): Promise<void> {
    if (this.#stopped) return;
    this.#send(this.#threads, { op: 'drain' });
    await this.#ended();
  }

  /** Ends all connections. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#send(this.#threads, { op: 'stop' });
    // A thread does not keep the process; waiting for one must.
    for (const { worker } of this.#threads) worker.ref();
    await this.#ended();
  }

  async #ended(): Promise<void> {
    await Promise.all(this.#threads.map(({ ended }) => ended));
    this.#stopped = true;
    for (const { wakeFd } of this.#threads.splice(0)) sysClose(wakeFd);
    for (const { fd } of this.#closing.values()) sysClose(fd);
    this.#closing.clear();
  }

  #start(): void {
    if (this.#threads.length > 0) return;
    const { netns, log } = this.#options;
    // Two descriptors a connection, and up to two pipes while bytes are on their way.
    const possible = Math.max(16, Math.floor((descriptorLimit() - RESERVED_FDS) / 3));
    const maxConnections = Math.ceil((this.#options.maxConnections ?? possible) / this.#threadCount);
    const file = new URL(`./relay-worker${extname(import.meta.filename)}`, import.meta.url);
    for (let n = 0; n < this.#threadCount; n++) {
      const wakeFd = openEvent();
      const workerData: RelayThreadOptions = {
        wakeFd,
        turns: this.#turns,
        stats: this.#stats,
        statsOffset: 4 * STATS.length * n,
        maxConnections,
        ...(netns === undefined ? {} : { netnsFd: netns.fd }),
      };
      const worker = new Worker(file, { workerData });
      worker.unref();
      worker.on('message', (reply: RelayReply) => this.#onReply(reply));
      worker.on('error', error => log?.error(`relay thread: ${errorMessage(error)}`));
      const ended = new Promise(resolve => worker.once('exit', resolve));
      this.#threads.push({ worker, wakeFd, ended });
    }
  }

  #send(threads: readonly Thread[], request: RelayRequest): void {
    if (this.#stopped && request.op !== 'stop') return;
    for (const { worker, wakeFd } of threads) {
      worker.postMessage(request);
      signalEvent(wakeFd);
    }
  }

  #onReply(reply: RelayReply): void {
    if (reply.op === 'failed') {
      this.#options.log?.error(`relay thread: ${reply.message}`);
      return;
    }
    const closing = this.#closing.get(reply.id);
    if (!closing || --closing.left > 0) return;
    this.#closing.delete(reply.id);
    sysClose(closing.fd);
  }

  /** One order for all threads, or their shared turn would mean nothing. */
  #order(endpoints: ListenerSpec['endpoints']): RelayEndpoint[] {
    return shuffle(endpoints, this.#options.random).map(toEndpoint);
  }

  #listenTcp({ address, port }: ListenerSpec): number {
    const { netns } = this.#options;
    const fd = listenTcp({ ...(netns ? { netns } : {}), address, port, backlog: BACKLOG });
    // Accepted sockets inherit both.
    trySetsockopt(fd, IPPROTO_TCP, TCP_NODELAY, int32(1));
    trySetsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, int32(1));
    return fd;
  }

  #listenUdp({ address, port }: ListenerSpec): number {
    const { netns } = this.#options;
    return openUdpSocket(ipFamily(address) ?? 4, {
      ...(netns ? { netns } : {}),
      localAddress: address,
      localPort: port,
    });
  }
}
