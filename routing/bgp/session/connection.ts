// One TCP connection to a peer: bytes in, whole messages out. Knows framing and nothing of what messages mean.
import type { Socket } from 'node:net';
import { errorMessage } from '../../../src/lib/errors.ts';
import { BgpMessageError } from '../packet/error.ts';
import { MAX_MESSAGE_BYTES, peekMessage } from '../packet/header.ts';

export interface ConnectionHandler {
  /** `buffer[start, end)` is one message, header included; valid during the call only. May throw BgpMessageError. */
  message(connection: Connection, type: number, buffer: Buffer, start: number, end: number): void;
  /** Bytes that are no message: the session must end with this error. */
  malformed(connection: Connection, error: BgpMessageError): void;
  /** All messages of one read were delivered. */
  received(connection: Connection): void;
  closed(connection: Connection, reason: string): void;
  drained(connection: Connection): void;
}

export class Connection {
  readonly id: number;
  readonly socket: Socket;
  /** Raised after negotiation (RFC 8654). */
  maxMessageBytes = MAX_MESSAGE_BYTES;
  bytesReceived = 0;
  messagesReceived = 0;
  messagesSent = 0;
  readonly #handler: ConnectionHandler;
  #rest: Buffer | undefined;
  /** What this turn of the loop wants sent: one write, and one segment, for an UPDATE and its End-of-RIB. */
  #outgoing: Buffer[] = [];
  #closed = false;

  constructor(id: number, socket: Socket, handler: ConnectionHandler) {
    this.id = id;
    this.socket = socket;
    this.#handler = handler;
    socket.setNoDelay(true);
    socket.on('data', chunk => this.#data(chunk));
    socket.on('drain', () => handler.drained(this));
    socket.on('error', error => this.#end(errorMessage(error)));
    socket.on('close', () => this.#end('the connection closed'));
    socket.on('end', () => this.#end('the peer closed the connection'));
  }

  /** Bytes written and not yet taken by the kernel. */
  get backlogBytes(): number {
    return this.socket.writableLength + this.#outgoing.reduce((sum, bytes) => sum + bytes.length, 0);
  }

  send(bytes: Buffer): void {
    if (this.#closed || this.socket.destroyed) return;
    this.messagesSent++;
    if (this.#outgoing.push(bytes) === 1) process.nextTick(() => this.#flush());
  }

  #flush(): void {
    const outgoing = this.#outgoing;
    if (outgoing.length === 0) return;
    this.#outgoing = [];
    if (!this.socket.destroyed)
      this.socket.write(outgoing.length === 1 ? outgoing[0]! : Buffer.concat(outgoing));
  }

  /** Closes after what was sent is out; no event follows. */
  close(): void {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    this.socket.removeAllListeners('data');
    this.socket.on('data', () => undefined);
    this.socket.end(() => this.socket.destroy());
    // A peer that reads nothing must not keep the descriptor.
    const timer = setTimeout(() => this.socket.destroy(), 2000);
    timer.unref();
    this.socket.once('close', () => clearTimeout(timer));
  }

  #data(chunk: Buffer): void {
    this.bytesReceived += chunk.length;
    const buffer = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#rest = undefined;
    const end = buffer.length;
    let at = 0;
    try {
      while (!this.#closed) {
        const length = peekMessage(buffer, at, end, this.maxMessageBytes);
        if (length === 0 || at + length > end) break;
        this.messagesReceived++;
        this.#handler.message(this, buffer[at + 18]!, buffer, at, at + length);
        at += length;
      }
    } catch (error) {
      if (!(error instanceof BgpMessageError)) throw error;
      this.#handler.malformed(this, error);
      return;
    }
    if (this.#closed) return;
    // A copy, so that a few left-over bytes do not hold a whole read buffer.
    if (at < end) this.#rest = Buffer.from(buffer.subarray(at, end));
    this.#handler.received(this);
  }

  #end(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.socket.destroy();
    this.#handler.closed(this, reason);
  }
}
