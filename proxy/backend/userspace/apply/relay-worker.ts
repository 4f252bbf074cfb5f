// One thread of the relay: an event loop of its own round epoll, which Node's loop never enters. Requests of the main
// thread lie in the port's queue and are looked at when the wake-up descriptor says so; see relay.ts.
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { errorMessage, PodwireError } from '../../../../src/lib/errors.ts';
import { CLONE_NEWNET, sysSetns } from '../../../../src/linux/ffi.ts';
import { drainEvent, EPOLLIN, Epoll } from '../../../../src/linux/stream-io.ts';
import { Balancer } from '../plan/balancer.ts';
import {
  type RelayEndpoint,
  type RelayReply,
  type RelayRequest,
  type RelayStats,
  type RelayThreadOptions,
  STATS,
} from './messages.ts';
import { TcpRelay } from './tcp-relay.ts';
import { type UdpListener, UdpRelay } from './udp-relay.ts';

/** The longest sleep: a thread inside a system call cannot be ended from outside. */
const MAX_SLEEP_MS = 500;

interface Listener {
  fd: number;
  balancer: Balancer<RelayEndpoint>;
  udp: UdpListener | undefined;
}

class RelayThread {
  readonly #options: RelayThreadOptions;
  readonly #epoll = new Epoll();
  readonly #tcp: TcpRelay;
  readonly #udp: UdpRelay;
  readonly #turns: Int32Array;
  readonly #stats: RelayStats = { active: 0, accepted: 0, failed: 0, retried: 0, udpSessions: 0, spliced: 0 };
  /** The same numbers where the main thread reads them. */
  readonly #shared: Int32Array;
  readonly #listeners = new Map<number, Listener>();
  #running = true;
  #draining = false;

  constructor(options: RelayThreadOptions) {
    this.#options = options;
    const { maxConnections } = options;
    const stats = this.#stats;
    this.#shared = new Int32Array(options.stats, options.statsOffset, STATS.length);
    this.#turns = new Int32Array(options.turns);
    this.#tcp = new TcpRelay({ epoll: this.#epoll, stats, maxConnections });
    this.#udp = new UdpRelay({ epoll: this.#epoll, stats, maxSessions: maxConnections });
    this.#epoll.add(options.wakeFd, EPOLLIN);
  }

  run(next: () => RelayRequest | undefined, reply: (message: RelayReply) => void): void {
    const { wakeFd } = this.#options;
    const handle = (fd: number, events: number): void => {
      if (fd === wakeFd) {
        drainEvent(wakeFd);
        for (let request = next(); request; request = next()) this.#obey(request, reply);
      } else if (!this.#tcp.handle(fd, events)) this.#udp.handle(fd);
    };
    // What was asked before the thread ran.
    for (let request = next(); request; request = next()) this.#obey(request, reply);
    while (this.#running && !(this.#draining && this.#tcp.active === 0)) {
      const waitMs = Math.min(this.#tcp.turn(), this.#udp.turn(), MAX_SLEEP_MS);
      this.#epoll.wait(Math.ceil(waitMs), handle);
      for (const [index, name] of STATS.entries()) this.#shared[index] = this.#stats[name];
    }
    this.#tcp.close();
    this.#udp.close();
  }

  #obey(request: RelayRequest, reply: (message: RelayReply) => void): void {
    switch (request.op) {
      case 'open': {
        const { fd, affinityMs, turn, protocol } = request;
        const balancer = new Balancer<RelayEndpoint>({
          turn: () => Atomics.add(this.#turns, turn, 1) >>> 0,
          now: () => performance.now(),
          affinityMs,
        });
        balancer.setEndpoints(request.endpoints);
        const udp = protocol === 'UDP' ? { fd, balancer, idleMs: request.udpIdleMs } : undefined;
        this.#listeners.set(request.id, { fd, balancer, udp });
        if (udp) this.#udp.listen(udp);
        else this.#tcp.listen({ fd, balancer, sticky: affinityMs > 0 });
        return;
      }
      case 'endpoints': {
        const listener = this.#listeners.get(request.id);
        if (!listener) return;
        // The objects of endpoints that stay are kept: affinity and sessions know them by identity.
        const known = new Map(listener.balancer.endpoints.map(endpoint => [endpoint.name, endpoint]));
        listener.balancer.setEndpoints(
          request.endpoints.map(endpoint => known.get(endpoint.name) ?? endpoint),
        );
        if (listener.udp) this.#udp.endpointsChanged(listener.udp);
        return;
      }
      case 'close': {
        const listener = this.#listeners.get(request.id);
        this.#listeners.delete(request.id);
        if (listener?.udp) this.#udp.unlisten(listener.fd);
        else if (listener) this.#tcp.unlisten(listener.fd);
        reply({ op: 'closed', id: request.id });
        return;
      }
      case 'drain':
        this.#draining = true;
        return;
      case 'stop':
        this.#running = false;
    }
  }
}

const port = parentPort;
if (!port) throw new PodwireError('NOT_A_WORKER', 'relay-worker.ts runs as a worker thread of relay.ts');
try {
  const options = workerData as RelayThreadOptions;
  if (options.netnsFd !== undefined) sysSetns(options.netnsFd, CLONE_NEWNET);
  new RelayThread(options).run(
    () => receiveMessageOnPort(port)?.message as RelayRequest | undefined,
    message => port.postMessage(message),
  );
} catch (error) {
  port.postMessage({ op: 'failed', message: errorMessage(error) } satisfies RelayReply);
}
