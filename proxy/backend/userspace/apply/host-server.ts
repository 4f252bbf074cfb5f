// The side of the relay host that daemons talk to. One of them controls it, the one that came last; when that one goes,
// listeners, endpoints and connections stay as they are for whoever comes next.
//
//   serving ──drain, or nobody came for lingerMs──▶ draining ──last connection ended──▶ ended
//      └───────────stop, or nothing left and nobody there ──────────────────────────────▶ ended
import { chmodSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorMessage, PodwireError } from '../../../../src/lib/errors.ts';
import type { Logger } from '../../../../src/observe/log.ts';
import { ownSocket, prepareDirectory, publish, unpublish } from './host-directory.ts';
import {
  encodeLine,
  HOST_PROTOCOL,
  type HostReply,
  type HostRequest,
  LineReader,
  parseRequest,
} from './host-protocol.ts';
import { ListenerTable } from './listener-table.ts';
import { Relay } from './relay.ts';

/** How often the controlling daemon hears of numbers that changed, and the host asks itself whether it is needed. */
const TICK_MS = 1000;
/** Who started it comes within so long. */
const FIRST_PATIENCE_MS = 15_000;

export interface RelayHostOptions {
  /** Where its socket is; see host-directory.ts. */
  directory: string;
  build: string;
  lingerMs: number;
  /** Default: one with as many threads as this machine suggests, in this process's namespace. */
  relay?: Relay;
  log?: Logger;
}

interface Peer {
  socket: Socket;
  /** What it opened; undefined as long as it does not control. */
  opened: Set<string> | undefined;
}

export class RelayHost {
  readonly #options: RelayHostOptions;
  readonly #relay: Relay;
  readonly #table: ListenerTable;
  readonly #server: Server;
  readonly #peers = new Set<Peer>();
  readonly #ended = Promise.withResolvers<void>();
  #controller: Peer | undefined;
  #aloneSince = performance.now();
  #controlled = false;
  #draining = false;
  #told = '';

  constructor(options: RelayHostOptions) {
    this.#options = options;
    this.#relay = options.relay ?? new Relay(options.log ? { log: options.log } : {});
    this.#table = new ListenerTable(this.#relay);
    this.#server = createServer(socket => this.#onPeer(socket));
  }

  /** Serves; resolves when it has ended. */
  async run(): Promise<void> {
    const { directory } = this.#options;
    await prepareDirectory(directory);
    const path = ownSocket(directory);
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(path, resolve);
    });
    chmodSync(path, 0o600);
    publish(directory);
    const ticking = setInterval(() => this.#tick(), TICK_MS);
    await this.#ended.promise;
    clearInterval(ticking);
    unpublish(directory);
    await this.#relay.stop();
    for (const { socket } of this.#peers) socket.destroy();
    await new Promise(resolve => this.#server.close(resolve));
  }

  /** Ends all connections. */
  stop(): void {
    this.#ended.resolve();
  }

  /** Leaves its place to another one; listens for so long, then ends with its last connection. */
  drain(listenMs: number): void {
    if (this.#draining) return;
    this.#draining = true;
    unpublish(this.#options.directory);
    void sleep(listenMs, undefined, { ref: false }).then(async () => {
      for (const key of this.#table.keys()) this.#table.close(key);
      await this.#relay.drain();
      this.#ended.resolve();
    });
  }

  #onPeer(socket: Socket): void {
    const peer: Peer = { socket, opened: undefined };
    const reader = new LineReader();
    this.#peers.add(peer);
    this.#send(peer, { op: 'hello', protocol: HOST_PROTOCOL, build: this.#options.build });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#peers.delete(peer);
      if (this.#controller !== peer) return;
      this.#controller = undefined;
      this.#aloneSince = performance.now();
    });
    socket.on('data', chunk => {
      try {
        for (const line of reader.push(chunk)) this.#obey(peer, parseRequest(line));
      } catch (error) {
        this.#options.log?.warn(`a daemon is cut off: ${errorMessage(error)}`);
        this.#send(peer, { op: 'misunderstood', message: errorMessage(error) });
        socket.destroySoon();
        socket.removeAllListeners('data').resume();
      }
    });
  }

  #obey(peer: Peer, request: HostRequest): void {
    switch (request.op) {
      case 'drain':
        this.drain(request.listenMs);
        return;
      case 'stop':
        this.stop();
        return;
      default: {
        const opened = this.#control(peer);
        if (opened) this.#command(peer, opened, request);
      }
    }
  }

  /** What the connection opened, if it may control: the newest one may, unless the host leaves. */
  #control(peer: Peer): Set<string> | undefined {
    if (peer.opened && this.#controller === peer) return peer.opened;
    const before = this.#controller;
    if (peer.opened || this.#draining) {
      this.#dismiss(peer);
      return undefined;
    }
    peer.opened = new Set();
    this.#controller = peer;
    this.#controlled = true;
    this.#told = '';
    if (before) this.#dismiss(before);
    return peer.opened;
  }

  #dismiss(peer: Peer): void {
    this.#send(peer, { op: 'replaced' });
    peer.socket.destroySoon();
  }

  #command(peer: Peer, opened: Set<string>, request: Exclude<HostRequest, { op: 'drain' | 'stop' }>): void {
    switch (request.op) {
      case 'open': {
        const { id, key, listener } = request;
        try {
          const port = this.#table.open(key, listener);
          opened.add(key);
          this.#send(peer, { op: 'opened', id, port });
        } catch (error) {
          const code = error instanceof PodwireError ? error.code : 'FAILED';
          this.#send(peer, { op: 'refused', id, code, message: errorMessage(error) });
        }
        return;
      }
      case 'endpoints':
        this.#table.setEndpoints(request.key, request.endpoints);
        return;
      case 'close':
        opened.delete(request.key);
        this.#table.close(request.key);
        return;
      case 'retain': {
        const gone = this.#table.keys().filter(key => !opened.has(key));
        const closed = gone.flatMap(key => this.#table.close(key));
        this.#send(peer, { op: 'retained', id: request.id, closed });
      }
    }
  }

  #tick(): void {
    const stats = this.#relay.stats();
    const text = JSON.stringify(stats);
    if (this.#controller && text !== this.#told) {
      this.#told = text;
      this.#send(this.#controller, { op: 'stats', stats });
    }
    if (this.#controller || this.#draining) return;
    const aloneMs = performance.now() - this.#aloneSince;
    if (!this.#controlled) {
      if (aloneMs >= FIRST_PATIENCE_MS) this.stop();
    } else if (this.#table.size === 0 && stats.active === 0) this.stop();
    else if (aloneMs >= this.#options.lingerMs) {
      this.#options.log?.warn({ lingerMs: this.#options.lingerMs }, 'no daemon came: no new connections');
      this.drain(0);
    }
  }

  #send({ socket }: Peer, reply: HostReply): void {
    if (socket.writable) socket.write(encodeLine(reply));
  }
}
