// Locks by name inside one process: one holder at a time, the others wait in order of arrival and can give up.
// Files that other programs share are locked besides (src/linux flock); this keeps our own requests from polling.
import { CniError } from '../../src/lib/errors.ts';
import { CNI_ERROR } from './errors.ts';

export class KeyedLocks {
  readonly #tails = new Map<string, Promise<void>>();

  /** Runs `work` while nobody else holds `key`. A holder that never ends delays only those who want the same key. */
  async run<T>(key: string, signal: AbortSignal, work: () => Promise<T> | T): Promise<T> {
    const before = this.#tails.get(key);
    const { promise: done, resolve: release } = Promise.withResolvers<void>();
    const tail = before === undefined ? done : before.then(() => done);
    this.#tails.set(key, tail);
    try {
      if (before !== undefined) await abortable(before, signal, key);
      return await work();
    } finally {
      release();
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }
}

/** `promise`, or code 11 when the request's time is up first. */
async function abortable(promise: Promise<void>, signal: AbortSignal, what: string): Promise<void> {
  const timeUp = () => new CniError(CNI_ERROR.TRY_AGAIN_LATER, `gave up waiting for ${what}`);
  if (signal.aborted) throw timeUp();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(timeUp());
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
