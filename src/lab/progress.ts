// Progress of a long command: one line a phase, with its time. On a terminal the running phase is shown as it runs.
import colors from 'picocolors';

export interface PhaseTime {
  name: string;
  seconds: number;
}

/** Phases may overlap: each is told when it begins and ends by the promise it wraps. */
export class Progress {
  readonly times: PhaseTime[] = [];
  readonly #out: NodeJS.WriteStream;
  readonly #startedAt = performance.now();
  readonly #running = new Set<string>();

  constructor(out: NodeJS.WriteStream = process.stderr) {
    this.#out = out;
  }

  /** Seconds since this Progress was made. */
  elapsed(): number {
    return (performance.now() - this.#startedAt) / 1000;
  }

  async phase<T>(name: string, work: () => Promise<T> | T, done?: (result: T) => string): Promise<T> {
    const from = performance.now();
    this.#running.add(name);
    this.#showRunning();
    try {
      const result = await work();
      const seconds = (performance.now() - from) / 1000;
      this.times.push({ name, seconds });
      this.#line(colors.green('✓'), done ? `${name}: ${done(result)}` : name, seconds, name);
      return result;
    } catch (thrown) {
      this.#line(colors.red('✗'), name, (performance.now() - from) / 1000, name);
      throw thrown;
    }
  }

  /** A line of its own between the phases. */
  note(text: string): void {
    this.#clear();
    this.#out.write(`  ${text}\n`);
    this.#showRunning();
  }

  #line(mark: string, text: string, seconds: number, name: string): void {
    this.#running.delete(name);
    this.#clear();
    this.#out.write(`${mark} ${text} ${colors.dim(`${seconds.toFixed(2)} s`)}\n`);
    this.#showRunning();
  }

  #clear(): void {
    if (this.#out.isTTY) this.#out.write('\r\x1b[K');
  }

  #showRunning(): void {
    if (!this.#out.isTTY || this.#running.size === 0) return;
    this.#clear();
    this.#out.write(colors.dim(`… ${[...this.#running].join(', ')}`));
  }
}
