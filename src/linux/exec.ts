// Starts other programs; the only user of child_process. A program can be started inside a network namespace: the
// fork happens in the calling thread while it is inside the setns window, so no `ip netns exec` or nsenter is needed
// (and the child keeps our mount namespace). Arguments are never given to a shell.
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { PodwireError } from '../lib/errors.ts';
import { Netns } from './netns.ts';

export interface NamespaceChoice {
  netns?: Netns;
  netnsPath?: string;
}

export interface RunOptions extends NamespaceChoice {
  input?: string | Uint8Array;
  /** SIGKILL after so long; 60 s unless told. */
  timeoutMs?: number;
  /** The whole environment; ours unless told. PATH always has the system's directories. */
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** Of stdout and stderr each; 64 MiB unless told. More is an error with code EOVERFLOW. */
  maxOutputBytes?: number;
  signal?: AbortSignal;
  onStart?: (pid: number) => void;
}

export interface RunResult {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

const DEFAULT_TIMEOUT_MS = 60_000;
const DEFAULT_OUTPUT_BYTES = 64 << 20;

/** The directories where Debian keeps ip, iptables and the like are often not in a service's PATH. */
export function searchPath(path = process.env.PATH ?? ''): string {
  const wanted = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];
  const present = path.split(':').filter(part => part !== '');
  return [...present, ...wanted.filter(part => !present.includes(part))].join(':');
}

function spawnIn(choice: NamespaceChoice, command: string, args: readonly string[], o: SpawnOptions) {
  const options = { ...o, env: { ...(o.env ?? process.env) } };
  options.env.PATH = searchPath(options.env.PATH);
  const start = (): ChildProcess => spawn(command, args, options);
  if (choice.netns !== undefined) return choice.netns.run(start);
  if (choice.netnsPath === undefined) return start();
  using netns = Netns.open(choice.netnsPath);
  return netns.run(start);
}

/** Runs a program to its end. Rejects when it cannot be started, ran out of time, or printed too much. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const { promise, resolve, reject } = Promise.withResolvers<RunResult>();
  const child = spawnIn(options, command, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    killSignal: 'SIGKILL',
  });
  if (child.pid !== undefined) options.onStart?.(child.pid);
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  let failure: PodwireError | undefined;
  const abort = (error: PodwireError): void => {
    failure ??= error;
    child.kill('SIGKILL');
  };
  const timer = setTimeout(
    () => abort(new PodwireError('ETIMEDOUT', `${command}: no end after ${timeoutMs} ms`)),
    timeoutMs,
  );
  const limit = options.maxOutputBytes ?? DEFAULT_OUTPUT_BYTES;
  const collect = (stream: NodeJS.ReadableStream | null): Buffer[] => {
    const chunks: Buffer[] = [];
    let size = 0;
    stream?.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > limit)
        abort(new PodwireError('EOVERFLOW', `${command}: more than ${limit} bytes of output`));
      else chunks.push(chunk);
    });
    return chunks;
  };
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  child.once('error', error => {
    clearTimeout(timer);
    const code = (error as NodeJS.ErrnoException).code ?? 'ESPAWN';
    reject(new PodwireError(code, `start ${command}: ${error.message}`, { cause: error }));
  });
  child.once('close', (code, signal) => {
    clearTimeout(timer);
    if (failure !== undefined) reject(failure);
    else
      resolve({
        code,
        signal,
        stdout: Buffer.concat(stdout).toString('utf8'),
        stderr: Buffer.concat(stderr).toString('utf8'),
      });
  });
  // A program that does not read its input closes the pipe: EPIPE says nothing that its exit code does not.
  child.stdin?.on('error', () => {});
  child.stdin?.end(options.input ?? '');
  return promise;
}

/** Like run, but a program that ends with anything but 0 is an error that shows what it said. */
export async function runOk(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const result = await run(command, args, options);
  if (result.code === 0) return result;
  const said = (result.stderr.trim() || result.stdout.trim()).slice(0, 2000);
  throw new PodwireError(
    'EXIT',
    `${command} ${args.join(' ')}: ${result.signal ?? `exit code ${result.code}`}${said === '' ? '' : `: ${said}`}`,
  );
}

export type Stdio = 'ignore' | 'pipe' | 'inherit' | number;

export interface ChildOptions extends NamespaceChoice {
  /** Added to our own environment. */
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** One entry a descriptor of the child; everything is ignored unless told. */
  stdio?: readonly Stdio[];
  /** Its own session, so that it outlives us and our terminal's signals. */
  detached?: boolean;
}

export interface ChildExit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** A program that was started. */
export interface ChildHandle {
  readonly pid: number;
  readonly stdin: NodeJS.WritableStream | null;
  readonly stdout: NodeJS.ReadableStream | null;
  readonly stderr: NodeJS.ReadableStream | null;
  /** When it has ended and its streams are closed. */
  readonly exited: Promise<ChildExit>;
  kill(signal?: NodeJS.Signals): boolean;
}

/** Starts a program whose end the caller awaits. Throws when it cannot be started. */
export function spawnChild(
  command: string,
  args: readonly string[],
  options: ChildOptions = {},
): ChildHandle {
  const child = spawnIn(options, command, args, {
    stdio: [...(options.stdio ?? ['ignore', 'ignore', 'ignore'])],
    detached: options.detached ?? false,
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const exited = new Promise<ChildExit>(resolve => {
    child.once('close', (code, signal) => resolve({ code, signal }));
    child.once('error', () => {});
  });
  if (child.pid === undefined)
    throw new PodwireError(
      'ESPAWN',
      `start ${command}: not found, not executable, or its directory is missing`,
    );
  return {
    pid: child.pid,
    stdin: child.stdin,
    stdout: child.stdout,
    stderr: child.stderr,
    exited,
    kill: signal => child.kill(signal ?? 'SIGTERM'),
  };
}

/** Starts a program that goes on by itself, in its own session; the event loop does not wait for it. */
export function spawnDaemon(
  command: string,
  args: readonly string[],
  options: ChildOptions = {},
): { readonly pid: number } {
  const child = spawnIn(options, command, args, {
    stdio: [...(options.stdio ?? ['ignore', 'ignore', 'ignore'])],
    detached: options.detached ?? true,
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  child.once('error', () => {});
  child.unref();
  if (child.pid === undefined)
    throw new PodwireError(
      'ESPAWN',
      `start ${command}: not found, not executable, or its directory is missing`,
    );
  return { pid: child.pid };
}
