// flock(2) on a file that other programs lock too (host-local's `lock`), without blocking the event loop: a lock that is
// taken is asked for again after a short, growing pause, until the caller's signal says stop.
import { closeSync, openSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { KernelError, PodwireError } from '../lib/errors.ts';
import { EAGAIN, errnoName, sysFlock } from './ffi.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;
const FIRST_PAUSE_MS = 1;
const LAST_PAUSE_MS = 20;

export class FileLock implements Disposable {
  readonly #fd: number;
  #released = false;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Opens (and creates, mode 0600) `path` and takes the exclusive lock. Closing the descriptor gives it back. */
  static async acquire(path: string, signal?: AbortSignal): Promise<FileLock> {
    const fd = openSync(path, 'a', 0o600);
    try {
      for (let wait = FIRST_PAUSE_MS; ; wait = Math.min(wait * 2, LAST_PAUSE_MS)) {
        const result = sysFlock(fd, LOCK_EX | LOCK_NB);
        if (result === 0) return new FileLock(fd);
        if (result !== -EAGAIN) throw new KernelError(`flock ${path}`, -result, errnoName(-result));
        if (signal?.aborted)
          throw new PodwireError('LOCK_TIMEOUT', `gave up waiting for the lock on ${path}`);
        await pause(wait);
      }
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    closeSync(this.#fd);
  }

  [Symbol.dispose](): void {
    this.release();
  }
}
