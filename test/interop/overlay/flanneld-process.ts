// Runs the real flanneld program inside a namespace of a test, with an API server of this process made reachable there.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { OverlayReport } from '../../../src/agent/overlay-report.ts';
import type { Operation } from '../../../src/kernel/diff.ts';
import { askAdmin } from '../../../src/lab/admin-client.ts';
import { type ChildHandle, spawnChild } from '../../../src/linux/exec.ts';
import { listenTcp } from '../../../src/linux/listen.ts';
import type { LabNamespace } from '../../harness/netns-lab.ts';

const PROGRAM = join(import.meta.dirname, '../../../src/cmd/flanneld.ts');
const READY_MS = 15_000;
const HEALTH_PORT = 8081;

/** Makes 127.0.0.1:`port` of this namespace lead into `namespace`'s own 127.0.0.1:`port`. Answers how to end it. */
export function bringIn(namespace: LabNamespace, port: number): () => void {
  const fd = listenTcp({ netns: namespace.netns, address: '127.0.0.1', port });
  const sockets = new Set<net.Socket>();
  const server = net.createServer(inside => {
    const outside = net.connect(port, '127.0.0.1');
    for (const [from, to] of [
      [inside, outside],
      [outside, inside],
    ] as const) {
      sockets.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  });
  server.listen({ fd });
  return () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
}

export interface FlanneldRun {
  args: string[];
  env?: Record<string, string>;
  netConf?: string;
}

export class FlanneldProcess {
  readonly directory = mkdtempSync(join(tmpdir(), 'pwt-flanneld-'));
  readonly subnetFile = join(this.directory, 'run', 'subnet.env');
  readonly adminSocket = join(this.directory, 'overlay.sock');
  readonly namespace: LabNamespace;
  readonly #run: FlanneldRun;
  #child: ChildHandle | undefined;
  output = '';

  constructor(namespace: LabNamespace, run: FlanneldRun) {
    this.namespace = namespace;
    this.#run = run;
  }

  start(): void {
    const confPath = join(this.directory, 'net-conf.json');
    if (this.#run.netConf !== undefined) writeFileSync(confPath, this.#run.netConf);
    const args = [
      '--disable-warning=ExperimentalWarning',
      PROGRAM,
      ...['--net-config-path', confPath, '--subnet-file', this.subnetFile],
      ...['--admin-socket', this.adminSocket, `--healthz-port=${HEALTH_PORT}`],
      ...this.#run.args,
    ];
    const child = spawnChild(process.execPath, args, {
      netns: this.namespace.netns,
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { XTABLES_LOCKFILE: `/run/${this.namespace.name}.xtables.lock`, ...this.#run.env },
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      this.output += chunk.toString('utf8');
    });
    this.#child = child;
  }

  /** Resolves when /readyz says so. */
  async ready(timeoutMs = READY_MS): Promise<void> {
    const until = Date.now() + timeoutMs;
    for (;;) {
      const { code, stdout } = await this.get('/readyz');
      if (code === 200) return;
      if (Date.now() > until) throw new Error(`flanneld is not ready: ${code} ${stdout}\n${this.output}`);
      await new Promise(resolve => setTimeout(resolve, 50));
    }
  }

  /** Asks its health server, in its namespace. */
  get(path: string): Promise<{ code: number; stdout: string }> {
    const { promise, resolve } = Promise.withResolvers<{ code: number; stdout: string }>();
    const socket = this.namespace.connect('127.0.0.1', HEALTH_PORT);
    let text = '';
    socket.setEncoding('utf8');
    socket.on('data', chunk => {
      text += chunk;
    });
    socket.on('error', () => resolve({ code: 0, stdout: 'no answer' }));
    socket.on('close', () => {
      const [head = '', ...body] = text.split('\r\n\r\n');
      resolve({ code: Number(head.split(' ')[1] ?? 0), stdout: body.join('\r\n\r\n') });
    });
    socket.write(`GET ${path} HTTP/1.0\r\n\r\n`);
    return promise;
  }

  overlay(probe = false): Promise<OverlayReport> {
    return askAdmin(this.adminSocket, 'GET', probe ? '/overlay?probe' : '/overlay');
  }

  diff(): Promise<Operation[]> {
    return askAdmin(this.adminSocket, 'GET', '/diff');
  }

  subnetEnv(): string {
    return readFileSync(this.subnetFile, 'utf8');
  }

  /** The exit status, when it ends by itself. */
  async ended(): Promise<number | null> {
    const exit = await this.#child?.exited;
    return exit?.code ?? null;
  }

  async kill(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#child;
    if (!child) return;
    this.#child = undefined;
    child.kill(signal);
    await child.exited;
  }

  async close(): Promise<void> {
    await this.kill('SIGKILL');
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Polls until `look` answers something. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T | undefined | false> | T | undefined | false,
  timeoutMs = 10_000,
): Promise<T> {
  const until = Date.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > until) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await new Promise(resolve => setTimeout(resolve, 30));
  }
}
