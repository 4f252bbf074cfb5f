// The body of a watch: one JSON object a line (`{"type":"ADDED","object":{…}}`), for minutes.
// Turns chunks into events and gives up on a peer that has fallen silent.
// Source: Kubernetes API concepts, "Efficient detection of changes" and "Watch bookmarks".
import type { KubeObject, Stored } from '../api/types.ts';
import { ApiError, PodwireError } from '../lib/errors.ts';
import { errorFromStatus } from './status.ts';

export interface WatchEvent<T extends KubeObject> {
  type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK';
  object: Stored<T>;
}

const NEWLINE = 0x0a;
/** An event larger than this is not an object of ours (etcd's own limit is 1.5 MiB). */
const MAX_LINE_BYTES = 64 * 1024 * 1024;

/** Splits a byte stream into lines; an unfinished last line is dropped (the connection broke inside it). */
export class LineSplitter {
  #parts: Uint8Array[] = [];
  #bytes = 0;

  push(chunk: Uint8Array): string[] {
    const lines: string[] = [];
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      const piece = chunk.subarray(start, end);
      const line =
        this.#parts.length === 0
          ? Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
          : Buffer.concat([...this.#parts, piece]);
      this.#parts = [];
      this.#bytes = 0;
      start = end + 1;
      if (line.length > 0) lines.push(line.toString('utf8'));
    }
    if (start < chunk.length) {
      this.#parts.push(chunk.subarray(start));
      this.#bytes += chunk.length - start;
      if (this.#bytes > MAX_LINE_BYTES)
        throw new PodwireError('WATCH_LINE', `watch: a line of more than ${MAX_LINE_BYTES} bytes`);
    }
    return lines;
  }
}

/** One line of a watch. An ERROR event becomes the ApiError it carries (410 Expired above all). */
export function parseWatchLine<T extends KubeObject>(line: string): WatchEvent<T> {
  let event: { type?: string; object?: unknown };
  try {
    event = JSON.parse(line) as typeof event;
  } catch (cause) {
    throw new PodwireError('WATCH_DECODE', `watch: not JSON: ${line.slice(0, 200)}`, { cause });
  }
  switch (event.type) {
    case 'ADDED':
    case 'MODIFIED':
    case 'DELETED':
    case 'BOOKMARK':
      return event as WatchEvent<T>;
    case 'ERROR':
      throw errorFromStatus(event.object, 500);
    default:
      throw new ApiError(500, 'InternalError', `watch: event of unknown type ${JSON.stringify(event.type)}`);
  }
}

/**
 * Events of a watch body. Ends when the server ends the watch; throws `WATCH_IDLE` when nothing came for `idleMs`
 * (a server sends bookmarks about once a minute, so silence means the peer is gone). `abort` cuts the connection.
 */
export async function* readWatch<T extends KubeObject>(
  body: AsyncIterable<Uint8Array>,
  idleMs: number,
  abort: (reason: Error) => void,
): AsyncGenerator<WatchEvent<T>> {
  const splitter = new LineSplitter();
  let idle: PodwireError | undefined;
  const timer = setTimeout(() => {
    idle = new PodwireError('WATCH_IDLE', `watch: nothing came for ${idleMs} ms, not even a bookmark`);
    abort(idle);
  }, idleMs);
  timer.unref();
  try {
    for await (const chunk of body) {
      timer.refresh();
      for (const line of splitter.push(chunk)) yield parseWatchLine<T>(line);
    }
  } catch (error) {
    throw idle ?? error;
  } finally {
    clearTimeout(timer);
  }
}
