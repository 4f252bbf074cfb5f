// Rules that went through iptables-restore though the table is a legacy one: slower and otherwise the same, so each
// reason is said once. Reasons name rules, and rules may differ without end; after so many the log stays silent.
import type { Logger } from '../observe/log.ts';

const LOGGED = 100;

export class FallbackLog {
  readonly #log: Logger;
  readonly #onFallback: ((reason: string) => void) | undefined;
  readonly #said = new Set<string>();

  constructor(log: Logger, onFallback: ((reason: string) => void) | undefined) {
    this.#log = log;
    this.#onFallback = onFallback;
  }

  note(reason: string): void {
    this.#onFallback?.(reason);
    if (this.#said.has(reason) || this.#said.size >= LOGGED) return;
    this.#said.add(reason);
    this.#log.warn({ reason }, 'rules were written by iptables-restore, which is slower');
  }
}
