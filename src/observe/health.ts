// Health as Kubernetes components show it: named checks behind /healthz, /livez and /readyz, `?verbose` lists them.
// Source: apiserver pkg/server/healthz (text form `[+]name ok`, `[-]name failed: reason withheld`).
import type { IncomingMessage, ServerResponse } from 'node:http';

/** Undefined when well, else what is wrong. */
export type HealthCheck = () => string | undefined | Promise<string | undefined>;

export class Health {
  readonly #checks = new Map<string, { check: HealthCheck; readyOnly: boolean }>();

  /** `readyOnly`: failing means "not now" (readyz), not "restart me" (healthz, livez). */
  add(name: string, check: HealthCheck, readyOnly = false): void {
    this.#checks.set(name, { check, readyOnly });
  }

  async report(endpoint: 'healthz' | 'livez' | 'readyz'): Promise<{ ok: boolean; text: string }> {
    const lines: string[] = ['[+]ping ok'];
    let ok = true;
    for (const [name, { check, readyOnly }] of this.#checks) {
      if (readyOnly && endpoint !== 'readyz') continue;
      const problem = await check();
      ok &&= problem === undefined;
      lines.push(problem === undefined ? `[+]${name} ok` : `[-]${name} failed: ${problem}`);
    }
    lines.push(`${endpoint} check ${ok ? 'passed' : 'failed'}`);
    return { ok, text: `${lines.join('\n')}\n` };
  }

  /** Answers /healthz, /livez and /readyz; false for any other path. */
  handle(request: IncomingMessage, response: ServerResponse): boolean {
    const url = new URL(request.url ?? '/', 'http://localhost');
    const endpoint = url.pathname.slice(1);
    if (endpoint !== 'healthz' && endpoint !== 'livez' && endpoint !== 'readyz') return false;
    this.report(endpoint).then(
      ({ ok, text }) => {
        response.writeHead(ok ? 200 : 500, { 'content-type': 'text/plain; charset=utf-8' });
        response.end(ok && !url.searchParams.has('verbose') ? 'ok' : text);
      },
      (error: unknown) => {
        response.writeHead(500, { 'content-type': 'text/plain; charset=utf-8' });
        response.end(`${endpoint}: ${error instanceof Error ? error.message : String(error)}\n`);
      },
    );
    return true;
  }
}
