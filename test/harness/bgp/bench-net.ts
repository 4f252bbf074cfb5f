// Namespaces and processes for BGP benches and tests. Their names carry this process's number, so that runs side by side
// do not meet; they are gone afterwards, and what a killed run left is cleared away by the next.
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { deleteNetns, listNetns } from '../../../src/linux/netns.ts';
import { findProcessesByNetns, isAlive, signalProcess } from '../../../src/linux/process.ts';

const HERE = import.meta.dirname;
const NODE = process.execPath;

/** `ip`, or any program, to its end; answers what it printed. */
export function command(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

export function hasProgram(path: string): boolean {
  try {
    command('test', '-x', path);
    return true;
  } catch {
    return false;
  }
}

const PREFIX = 'pwt-bgp-';

/** The whole name of one of this process's namespaces. */
export const netnsName = (name: string): string => `${PREFIX}${process.pid}-${name}`;

/** Namespaces, and who lives in them, of runs that were killed. */
function clearStale(): void {
  for (const name of listNetns()) {
    const owner = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
    if (owner === undefined || isAlive(Number(owner))) continue;
    const path = `/run/netns/${name}`;
    for (const pid of findProcessesByNetns(statSync(path, { bigint: true }).ino))
      signalProcess(pid, 'SIGKILL');
    deleteNetns(name);
  }
}

export class Namespaces implements Disposable {
  static readonly command = command;
  readonly #names: string[] = [];
  readonly #children: ChildProcessWithoutNullStreams[] = [];
  readonly #onExit = (): void => this[Symbol.dispose]();

  constructor() {
    clearStale();
    process.on('exit', this.#onExit);
  }

  /** Makes one; the answer is its whole name. */
  add(short: string): string {
    const name = netnsName(short);
    command('ip', 'netns', 'add', name);
    this.#names.push(name);
    command('ip', '-n', name, 'link', 'set', 'lo', 'up');
    return name;
  }

  /** A switch (bridge `br0`) and nodes on it: link `eth0` with the addresses given. */
  addLan(short: string, nodes: readonly { name: string; addresses: readonly string[] }[]): void {
    const sw = this.add(short);
    command('ip', '-n', sw, 'link', 'add', 'br0', 'type', 'bridge');
    command('ip', '-n', sw, 'link', 'set', 'br0', 'up');
    for (const [i, { name, addresses }] of nodes.entries()) {
      const ns = this.add(name);
      this.connectTo(sw, `p${i}`, ns, 'eth0', addresses);
    }
  }

  /** A port of a switch for a node. */
  connectTo(sw: string, port: string, node: string, link: string, addresses: readonly string[]): void {
    const veth = ['link', 'add', port, 'type', 'veth', 'peer', 'name', link, 'netns', node];
    command('ip', '-n', sw, ...veth);
    command('ip', '-n', sw, 'link', 'set', port, 'master', 'br0', 'up');
    for (const address of addresses)
      command(
        'ip',
        ...['-n', node, 'addr', 'add', address, 'dev', link],
        ...(address.includes(':') ? ['nodad'] : []),
      );
    command('ip', '-n', node, 'link', 'set', link, 'up');
  }

  /** A veth pair with an address (and prefix length) at each end. */
  connect(a: string, b: string, link: string, addressA: string, addressB: string): void {
    command('ip', '-n', a, 'link', 'add', `${link}a`, 'type', 'veth', 'peer', 'name', `${link}b`, 'netns', b);
    for (const [ns, name, address] of [
      [a, `${link}a`, addressA],
      [b, `${link}b`, addressB],
    ] as const) {
      command(
        'ip',
        '-n',
        ns,
        'addr',
        'add',
        address,
        'dev',
        name,
        ...(address.includes(':') ? ['nodad'] : []),
      );
      command('ip', '-n', ns, 'link', 'set', name, 'up');
    }
  }

  /** A program inside a namespace; killed at the end, whatever ends us. */
  spawn(namespace: string, program: string, args: readonly string[]): ChildProcessWithoutNullStreams {
    const child = spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', 'nsenter', `--net=/run/netns/${namespace}`, program, ...args],
      { stdio: 'pipe' },
    );
    child.stderr.on('data', (chunk: Buffer) => {
      if (process.env.BGP_DEBUG !== undefined) process.stderr.write(chunk);
    });
    this.#children.push(child);
    child.once('exit', () => {
      const at = this.#children.indexOf(child);
      if (at >= 0) this.#children.splice(at, 1);
    });
    return child;
  }

  /** A TypeScript file of this folder on our Node. */
  spawnNode(namespace: string, file: string, argument: unknown): JsonProcess {
    const child = this.spawn(namespace, NODE, [
      '--disable-warning=ExperimentalWarning',
      join(HERE, file),
      JSON.stringify(argument),
    ]);
    return new JsonProcess(child);
  }

  async killChildren(): Promise<void> {
    await Promise.all(
      this.#children.splice(0).map(
        child =>
          new Promise<void>(resolve => {
            if (child.exitCode !== null || child.signalCode !== null) resolve();
            else {
              child.once('exit', () => resolve());
              child.kill('SIGKILL');
            }
          }),
      ),
    );
  }

  [Symbol.dispose](): void {
    process.off('exit', this.#onExit);
    for (const child of this.#children.splice(0)) child.kill('SIGKILL');
    for (const name of this.#names.splice(0)) deleteNetns(name);
  }
}

/** A child that speaks one JSON value a line. */
export class JsonProcess {
  readonly child: ChildProcessWithoutNullStreams;
  readonly #lines: unknown[] = [];
  #waiting: ((value: unknown) => void)[] = [];

  constructor(child: ChildProcessWithoutNullStreams) {
    this.child = child;
    child.stdin.on('error', () => undefined);
    createInterface({ input: child.stdout }).on('line', line => {
      if (!/^[[{"\d]/.test(line)) return;
      const value: unknown = JSON.parse(line);
      const waiter = this.#waiting.shift();
      if (waiter !== undefined) waiter(value);
      else this.#lines.push(value);
    });
    child.on('exit', code => {
      for (const waiter of this.#waiting.splice(0)) waiter({ exited: code });
    });
  }

  next<T>(): Promise<T> {
    if (this.#lines.length > 0) return Promise.resolve(this.#lines.shift() as T);
    return new Promise(resolve => this.#waiting.push(value => resolve(value as T)));
  }

  ask<T>(request: object): Promise<T> {
    this.child.stdin.write(`${JSON.stringify(request)}\n`);
    return this.next<T>();
  }
}

/** CPU seconds of a process and its children, all threads (schedstat). */
export function cpuSeconds(pids: readonly number[]): number {
  let total = 0;
  for (const pid of pids)
    for (const task of command('ls', `/proc/${pid}/task`).trim().split('\n'))
      total += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]) / 1e9;
  return total;
}

/** Peak resident memory in MB. */
export function peakMemoryMb(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    const match = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return sum + Number(match?.[1] ?? 0) / 1024;
  }, 0);
}

/** Prefixes in the IPv4 FIB of the namespace a process is in. */
export function fibPrefixes(pid: number): number {
  const match = /Prefixes:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/net/fib_triestat`, 'utf8'));
  return Number(match?.[1] ?? 0);
}

export const wait = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

/** Polls until `done` answers true. */
export async function until(
  done: () => boolean | Promise<boolean>,
  timeoutMs: number,
  everyMs = 20,
): Promise<boolean> {
  const end = Date.now() + timeoutMs;
  while (Date.now() < end) {
    if (await done()) return true;
    await wait(everyMs);
  }
  return false;
}
