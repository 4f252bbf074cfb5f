// Reads container logs in CRI's format, `<RFC3339Nano> <stdout|stderr> <F|P> <text>`, as `kubectl logs` wants them: the
// last lines, since a time, following, across a restart's rotation. One open file and one buffer, whatever the size.
import { type FileHandle, open, stat } from 'node:fs/promises';
import { hasCode } from '../lib/errors.ts';

export interface LogOptions {
  follow: boolean;
  tailLines?: number;
  timestamps: boolean;
  sinceMs?: number;
  limitBytes?: number;
}

const BLOCK_BYTES = 64 * 1024;
const FOLLOW_POLL_MS = 100;
const NEWLINE = 0x0a;

export interface LogLine {
  time: string;
  stream: string;
  /** `P`: the line goes on in the next entry. */
  partial: boolean;
  text: string;
}

/** undefined: not a line of this format. */
export function parseLogLine(line: string): LogLine | undefined {
  const first = line.indexOf(' ');
  const second = line.indexOf(' ', first + 1);
  const third = line.indexOf(' ', second + 1);
  if (first < 0 || second < 0 || third < 0) return undefined;
  const tags = line.slice(second + 1, third).split(':');
  return {
    time: line.slice(0, first),
    stream: line.slice(first + 1, second),
    partial: tags[0] === 'P',
    text: line.slice(third + 1),
  };
}

/** Byte offset at which the last `lines` full lines begin. */
export async function findTailOffset(file: FileHandle, size: number, lines: number): Promise<number> {
  if (lines <= 0) return size;
  let found = 0;
  for (let end = size; end > 0; ) {
    const start = Math.max(0, end - BLOCK_BYTES);
    const { buffer } = await file.read(Buffer.alloc(end - start), 0, end - start, start);
    for (let i = end - start - 1; i >= 0; i--) {
      // The newline that ends the file ends its last line; it does not begin one.
      if (buffer[i] !== NEWLINE || start + i === size - 1) continue;
      if (++found === lines) return start + i + 1;
    }
    end = start;
  }
  return 0;
}

/**
 * Yields the text to send. Following ends when `done()` says that the container has ended and all was read, or when
 * `signal` aborts.
 */
export async function* readLog(
  path: string,
  options: LogOptions,
  done: () => Promise<boolean>,
  signal: AbortSignal,
): AsyncGenerator<string> {
  let file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    let position = options.tailLines === undefined ? 0 : await findTailOffset(file, size, options.tailLines);
    let left = options.limitBytes ?? Number.POSITIVE_INFINITY;
    const formatter = new LineFormatter(options);
    for (let ended = false; !signal.aborted; ) {
      const { bytesRead, buffer } = await file.read(
        Buffer.allocUnsafe(BLOCK_BYTES),
        0,
        BLOCK_BYTES,
        position,
      );
      position += bytesRead;
      if (bytesRead > 0) {
        const text = formatter.format(buffer.subarray(0, bytesRead));
        const cut =
          Buffer.byteLength(text) > left ? Buffer.from(text).subarray(0, left).toString('utf8') : text;
        left -= Buffer.byteLength(cut);
        if (cut !== '') yield cut;
        if (left <= 0) return;
        continue;
      }
      if (!options.follow || ended) return;
      const rotated = await reopenIfRotated(path, file);
      if (rotated) {
        file = rotated;
        position = 0;
        continue;
      }
      // One more read after the end was seen, for what was written in between.
      ended = await done();
      if (!ended) await new Promise(resolve => setTimeout(resolve, FOLLOW_POLL_MS));
    }
  } finally {
    await file.close();
  }
}

async function reopenIfRotated(path: string, file: FileHandle): Promise<FileHandle | undefined> {
  try {
    const [now, held] = await Promise.all([stat(path), file.stat()]);
    if (now.ino === held.ino) return undefined;
    const fresh = await open(path, 'r');
    await file.close();
    return fresh;
  } catch (thrown) {
    if (hasCode(thrown, 'ENOENT')) return undefined;
    throw thrown;
  }
}

/** Turns file bytes into output, a block at a time; holds back an unfinished line. */
class LineFormatter {
  readonly #options: LogOptions;
  #rest: Buffer = Buffer.alloc(0);
  #inPartial = false;

  constructor(options: LogOptions) {
    this.#options = options;
  }

  format(block: Buffer): string {
    const bytes = this.#rest.length > 0 ? Buffer.concat([this.#rest, block]) : block;
    const end = bytes.lastIndexOf(NEWLINE) + 1;
    this.#rest = Buffer.from(bytes.subarray(end));
    let out = '';
    for (const line of bytes.toString('utf8', 0, end).split('\n').slice(0, -1)) out += this.#line(line);
    return out;
  }

  #line(line: string): string {
    const entry = parseLogLine(line);
    if (!entry) return '';
    if (this.#options.sinceMs !== undefined && Date.parse(entry.time) < this.#options.sinceMs) return '';
    const prefix = this.#options.timestamps && !this.#inPartial ? `${entry.time} ` : '';
    this.#inPartial = entry.partial;
    return `${prefix}${entry.text}${entry.partial ? '' : '\n'}`;
  }
}
