// Pipes for splice: the kernel moves a stream's pages from one socket to another through a pipe without copying them
// through this program. A pipe is used only while bytes are on their way, so few are enough for many connections.
import { sysClose } from '../../../../src/linux/ffi.ts';
import { openPipe } from '../../../../src/linux/stream-io.ts';

export interface Pipe {
  readonly read: number;
  readonly write: number;
}

/** Kept for the next who needs one. */
const MAX_IDLE = 64;

export class PipePool {
  readonly #idle: Pipe[] = [];

  /** Undefined when there are no descriptors left: then bytes are copied. */
  take(): Pipe | undefined {
    const idle = this.#idle.pop();
    if (idle) return idle;
    const ends = openPipe();
    return ends && { read: ends[0], write: ends[1] };
  }

  /** Only an empty one may come back. */
  give(pipe: Pipe): void {
    if (this.#idle.length < MAX_IDLE) this.#idle.push(pipe);
    else this.discard(pipe);
  }

  discard(pipe: Pipe): void {
    sysClose(pipe.read);
    sysClose(pipe.write);
  }

  close(): void {
    for (const pipe of this.#idle.splice(0)) this.discard(pipe);
  }
}
