// One connection to a relay host, from its greeting to its end. Requests that want an answer get it, or are refused when
// the connection ends; a host that says nothing for too long is given up.
import { connect, type Socket } from 'node:net';
import { errorMessage, PodwireError } from '../../../../src/lib/errors.ts';
import {
  asListener,
  encodeLine,
  HOST_PROTOCOL,
  type HostReply,
  type HostRequest,
  LineReader,
  parseReply,
} from './host-protocol.ts';
import { type RelayStats, STATS } from './messages.ts';
import type { ClosedPort, ServiceListener } from './relay-service.ts';

const PATIENCE_MS = 10_000;
const GREETING_PATIENCE_MS = 3000;

export type ConnectionEnd = 'lost' | 'replaced';

type Answer = Extract<HostReply, { op: 'opened' | 'retained' }>;

export class HostConnection {
  readonly #socket: Socket;
  readonly #reader: LineReader;
  readonly #onEnd: (end: ConnectionEnd) => void;
  readonly #waiting = new Map<number, PromiseWithResolvers<Answer>>();
  /** Of the greeting. */
  readonly build: string;
  stats = Object.fromEntries(STATS.map(name => [name, 0])) as RelayStats;
  #nextId = 0;
  #ended = false;
  #replaced = false;
  #watch: NodeJS.Timeout | undefined;

  private constructor(
    socket: Socket,
    reader: LineReader,
    build: string,
    onEnd: (end: ConnectionEnd) => void,
  ) {
    this.#socket = socket;
    this.#reader = reader;
    this.build = build;
    this.#onEnd = onEnd;
    socket.on('data', chunk => this.#onData(chunk));
    socket.on('error', () => {});
    socket.on('close', () => this.#end());
  }

  /** Undefined when nobody is there who greets. */
  static open(path: string, onEnd: (end: ConnectionEnd) => void): Promise<HostConnection | undefined> {
    const { promise, resolve } = Promise.withResolvers<HostConnection | undefined>();
    const socket = connect(path);
    const reader = new LineReader();
    const giveUp = (): void => {
      socket.destroy();
      resolve(undefined);
    };
    const timer = setTimeout(giveUp, GREETING_PATIENCE_MS);
    socket.on('error', giveUp);
    socket.on('close', giveUp);
    socket.on('data', chunk => {
      try {
        for (const line of reader.push(chunk)) {
          const greeting = parseReply(line);
          if (greeting.op !== 'hello') throw new PodwireError('MISUNDERSTOOD', 'no greeting');
          for (const event of ['data', 'error', 'close']) socket.removeAllListeners(event);
          const build = greeting.protocol === HOST_PROTOCOL ? String(greeting.build) : '';
          resolve(new HostConnection(socket, reader, build, onEnd));
          return;
        }
      } catch {
        giveUp();
      }
    });
    return promise.finally(() => clearTimeout(timer));
  }

  /** PORTS_EXHAUSTED and the like as codes of the error; RELAY_LOST when the host is gone. */
  async listen(key: string, wanted: ServiceListener): Promise<number> {
    // A mistake costs this one, not the connection.
    const listener = asListener(wanted);
    const answer = await this.#ask(id => ({ op: 'open', id, key, listener }));
    return answer.op === 'opened' ? answer.port : 0;
  }

  async retain(): Promise<ClosedPort[]> {
    const answer = await this.#ask(id => ({ op: 'retain', id }));
    return answer.op === 'retained' ? answer.closed : [];
  }

  tell(request: HostRequest): void {
    if (!this.#ended) this.#write(encodeLine(request));
  }

  /** What was told still goes out. */
  close(): void {
    this.#socket.uncork();
    this.#socket.end();
    // A host that does not listen any more does not keep us.
    this.#socket.unref();
    this.#end();
  }

  #write(line: string): void {
    // Many requests of one turn go out together.
    if (this.#socket.writableCorked === 0) {
      this.#socket.cork();
      setImmediate(() => this.#socket.uncork());
    }
    this.#socket.write(line);
  }

  #ask(make: (id: number) => HostRequest): Promise<Answer> {
    if (this.#ended) return Promise.reject(lost());
    const id = this.#nextId++;
    const line = encodeLine(make(id));
    const waiting = Promise.withResolvers<Answer>();
    this.#waiting.set(id, waiting);
    this.#watch ??= setTimeout(() => this.#socket.destroy(), PATIENCE_MS);
    this.#write(line);
    return waiting.promise;
  }

  #onData(chunk: Buffer): void {
    this.#watch?.refresh();
    try {
      for (const line of this.#reader.push(chunk)) this.#onReply(parseReply(line));
    } catch (error) {
      this.#socket.destroy(new PodwireError('MISUNDERSTOOD', errorMessage(error)));
    }
    if (this.#waiting.size > 0) return;
    clearTimeout(this.#watch);
    this.#watch = undefined;
  }

  #onReply(reply: HostReply): void {
    switch (reply.op) {
      case 'opened':
      case 'retained':
        this.#waiting.get(reply.id)?.resolve(reply);
        this.#waiting.delete(reply.id);
        return;
      case 'refused':
        this.#waiting.get(reply.id)?.reject(new PodwireError(reply.code, reply.message));
        this.#waiting.delete(reply.id);
        return;
      case 'stats':
        this.stats = reply.stats;
        return;
      case 'replaced':
        this.#replaced = true;
        return;
      case 'misunderstood':
        throw new PodwireError('MISUNDERSTOOD', reply.message);
      case 'hello':
    }
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#watch);
    for (const { reject } of this.#waiting.values()) reject(lost());
    this.#waiting.clear();
    this.#onEnd(this.#replaced ? 'replaced' : 'lost');
  }
}

function lost(): PodwireError {
  return new PodwireError('RELAY_LOST', 'the relay host is gone');
}
