// The real speakers we compare and interoperate with, started inside a namespace, with a temporary directory each.
import { type ChildProcess, execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasProgram, type Namespaces, wait } from './bench-net.ts';

export const BIRD = '/usr/sbin/bird';
export const FRR_BGPD = '/usr/lib/frr/bgpd';
export const FRR_ZEBRA = '/usr/lib/frr/zebra';
export const GOBGPD = '/usr/bin/gobgpd';
export const EXABGP = '/usr/sbin/exabgp';

/** Why a test must be skipped, or false. */
export function missing(program: string, debianPackage: string): string | false {
  if (process.getuid?.() !== 0) return 'needs root (network namespaces)';
  return hasProgram(program) ? false : `${program} is missing: apt-get install ${debianPackage}`;
}

export class TemporaryDirectory implements Disposable {
  readonly path: string;
  constructor() {
    this.path = mkdtempSync(join(tmpdir(), 'pwt-bgp-'));
  }
  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** SIGKILL, and gone. */
export async function killed(child: ChildProcess): Promise<void> {
  const gone = new Promise(resolve => child.once('exit', resolve));
  child.kill('SIGKILL');
  await gone;
}

/** A BIRD with a control socket. */
export class Bird {
  readonly pid: number;
  readonly child: ChildProcess;
  readonly #control: string;
  readonly #file: string;

  constructor(
    namespaces: Namespaces,
    netns: string,
    directory: string,
    config: string,
    extra: string[] = [],
  ) {
    this.#file = join(directory, `${netns}.conf`);
    this.#control = join(directory, `${netns}.ctl`);
    writeFileSync(this.#file, config);
    const child = namespaces.spawn(netns, BIRD, ['-f', '-c', this.#file, '-s', this.#control, ...extra]);
    this.child = child;
    this.pid = child.pid!;
  }

  /** One command, as `birdc` would send it. */
  async ask(text: string): Promise<string> {
    for (let attempt = 0; ; attempt++)
      try {
        return await this.#askOnce(text);
      } catch (error) {
        if (attempt > 100) throw error;
        await wait(30);
      }
  }

  #askOnce(text: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.#control);
      let answer = '';
      let greeted = false;
      socket.on('error', reject);
      socket.on('data', chunk => {
        answer += chunk.toString();
        if (!/^\d{4} .*\n$/m.test(answer.split('\n').slice(-2).join('\n')) || !answer.endsWith('\n')) return;
        if (!greeted) {
          greeted = true;
          answer = '';
          socket.write(`${text}\n`);
          return;
        }
        socket.destroy();
        resolve(answer);
      });
    });
  }

  async imported(protocol: string): Promise<number> {
    const match = /Routes:\s+(\d+) imported/.exec(await this.ask(`show protocols all ${protocol}`));
    return Number(match?.[1] ?? 0);
  }

  configure(config: string): Promise<string> {
    writeFileSync(this.#file, config);
    return this.ask('configure');
  }
}

/** bgpd, with zebra when routes shall reach the kernel. */
export class Frr {
  readonly pids: number[] = [];
  readonly #directory: string;
  readonly #netns: string;
  readonly #children: ChildProcess[] = [];

  constructor(netns: string, directory: string) {
    this.#netns = netns;
    this.#directory = join(directory, netns);
    mkdirSync(this.#directory);
    // The daemons drop root; the directory must be theirs.
    const uid = Number(execFileSync('id', ['-u', 'frr'], { encoding: 'utf8' }));
    const gid = Number(execFileSync('id', ['-g', 'frr'], { encoding: 'utf8' }));
    chmodSync(directory, 0o755);
    chownSync(this.#directory, uid, gid);
  }

  async start(namespaces: Namespaces, address: string, config: string, kernel: boolean): Promise<void> {
    const at = (name: string): string => join(this.#directory, name);
    writeFileSync(at('bgpd.conf'), config);
    const common = ['--vty_socket', this.#directory, '-u', 'frr', '-g', 'frr', '-P', '0'];
    if (kernel) {
      writeFileSync(at('zebra.conf'), 'hostname zebra\n');
      const zebra = namespaces.spawn(this.#netns, FRR_ZEBRA, [
        ...['-f', at('zebra.conf'), '-i', at('zebra.pid'), '-z', at('zserv.sock')],
        ...common,
      ]);
      this.pids.push(zebra.pid!);
      this.#children.push(zebra);
      await wait(700);
    }
    const bgpd = namespaces.spawn(this.#netns, FRR_BGPD, [
      ...['-f', at('bgpd.conf'), '-i', at('bgpd.pid'), '-l', address, '-p', '179'],
      ...(kernel ? ['-z', at('zserv.sock')] : ['-Z', '-n']),
      ...common,
    ]);
    this.pids.push(bgpd.pid!);
    this.#children.push(bgpd);
    await wait(700);
  }

  async kill(): Promise<void> {
    await Promise.all(this.#children.splice(0).map(killed));
    this.pids.length = 0;
  }

  /** vtysh commands, one below the other; JSON where a command says so. */
  ask(...commands: string[]): string {
    const vtysh = ['vtysh', '--vty_socket', this.#directory, '-d', 'bgpd'];
    return execFileSync(
      'nsenter',
      [`--net=/run/netns/${this.#netns}`, ...vtysh, ...commands.flatMap(text => ['-c', text])],
      { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
    );
  }

  received(peer: string): number {
    try {
      const summary = JSON.parse(this.ask('show bgp ipv4 unicast summary json')) as {
        peers?: Record<string, { pfxRcd?: number }>;
      };
      return summary.peers?.[peer]?.pfxRcd ?? 0;
    } catch {
      return 0;
    }
  }
}
