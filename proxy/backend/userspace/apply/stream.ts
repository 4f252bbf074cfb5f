// One direction of a relayed TCP connection: what `from` sends goes to `to`, never faster than `to` takes it. The first
// bytes are copied through one shared buffer, which is cheapest for short requests; a stream that goes on is moved by
// splice. The end of `from` is reported when everything before it has been handed to `to`.
import { EAGAIN, sysRecv, sysSend } from '../../../../src/linux/ffi.ts';
import { moveBytes } from '../../../../src/linux/stream-io.ts';
import type { Pipe, PipePool } from './pipes.ts';

const MSG_NOSIGNAL = 0x4000;
/** After so many bytes a stream is long enough for splice. */
const COPY_FIRST_BYTES = 128 * 1024;
/** One turn moves no more than this, so that a fast stream leaves room for the others. */
const TURN_BYTES = 1 << 20;
const PIPE_CHUNK = 1 << 20;
/** A FIN may be behind what was read. */
const BUFFER_BYTES = 256 * 1024;

/** One socket of a connection as its edge-triggered events left it. */
export interface Socket {
  readonly fd: number;
  readable: boolean;
  writable: boolean;
  /** The peer will send no more: reading must go on until the end was read. */
  hangup: boolean;
}

/** `again`: there is more to do at once; `done`: all is delivered, the end may be; `error`: the connection is broken. */
export type PumpResult = 'wait' | 'again' | 'done' | 'error';

export class Direction {
  readonly from: Socket;
  readonly to: Socket;
  done = false;
  #ended = false;
  #pending: Buffer | undefined;
  #pipe: Pipe | undefined;
  #piped = 0;
  #moved = 0;

  constructor(from: Socket, to: Socket) {
    this.from = from;
    this.to = to;
  }

  pump(buffer: Buffer, pipes: PipePool): PumpResult {
    if (this.done) return 'wait';
    const result = this.#pump(buffer, pipes);
    if (this.#pipe && this.#piped === 0) {
      pipes.give(this.#pipe);
      this.#pipe = undefined;
    }
    return result;
  }

  /** The connection is over: nothing of it may go back into the pool. */
  abandon(pipes: PipePool): void {
    this.done = true;
    this.#pending = undefined;
    if (this.#pipe) pipes.discard(this.#pipe);
    this.#pipe = undefined;
  }

  get spliced(): boolean {
    return this.#moved > COPY_FIRST_BYTES;
  }

  #pump(buffer: Buffer, pipes: PipePool): PumpResult {
    const { from, to } = this;
    for (let turn = 0; turn < TURN_BYTES; ) {
      if (this.#pending || this.#piped > 0) {
        if (!to.writable) return 'wait';
        if (!this.#flush()) return 'error';
        if (this.#pending || this.#piped > 0) continue;
      }
      if (this.#ended) {
        this.done = true;
        return 'done';
      }
      if (!from.readable || !to.writable) return 'wait';
      const got = this.#moved < COPY_FIRST_BYTES ? this.#copy(buffer) : this.#splice(buffer, pipes);
      if (got < 0) return 'error';
      turn += got;
    }
    return 'again';
  }

  /** False when the socket is broken. */
  #flush(): boolean {
    const { to } = this;
    if (this.#pending) {
      const sent = sysSend(to.fd, this.#pending, MSG_NOSIGNAL);
      if (sent >= 0) this.#pending = sent === this.#pending.length ? undefined : this.#pending.subarray(sent);
      else if (sent === -EAGAIN) to.writable = false;
      else return false;
      return true;
    }
    const moved = moveBytes(this.#pipe?.read ?? -1, to.fd, this.#piped);
    if (moved > 0) this.#piped -= moved;
    else if (moved === -EAGAIN) to.writable = false;
    else return false;
    return true;
  }

  /** Bytes taken in, 0 when there was nothing or the end, below 0 when broken. */
  #copy(buffer: Buffer): number {
    const { from, to } = this;
    const got = sysRecv(from.fd, buffer);
    if (got <= 0) return this.#nothing(got);
    this.#moved += got;
    // Less than asked for: the socket is empty until its next event, unless the end is behind it.
    if (got < buffer.length && !from.hangup) from.readable = false;
    const sent = sysSend(to.fd, buffer.subarray(0, got), MSG_NOSIGNAL);
    if (sent === got) return got;
    if (sent < 0 && sent !== -EAGAIN) return -1;
    to.writable = false;
    this.#pending = Buffer.from(buffer.subarray(Math.max(0, sent), got));
    return got;
  }

  #splice(buffer: Buffer, pipes: PipePool): number {
    this.#pipe ??= pipes.take();
    if (!this.#pipe) return this.#copy(buffer);
    const moved = moveBytes(this.from.fd, this.#pipe.write, PIPE_CHUNK);
    if (moved <= 0) return this.#nothing(moved);
    this.#moved += moved;
    this.#piped += moved;
    return moved;
  }

  #nothing(result: number): number {
    if (result === -EAGAIN) this.from.readable = false;
    else if (result === 0) this.#ended = true;
    else return -1;
    return 0;
  }
}

export function relayBuffer(): Buffer {
  return Buffer.alloc(BUFFER_BYTES);
}
