// The userspace relay beside haproxy (Debian's package, mode tcp), one after the other in the same namespaces:
//   client ns ──veth── proxy ns (relay or haproxy) ──veth── server ns
// proxy/userspace-throughput: one iperf3 stream. proxy/userspace-connrate: connections that ask one byte and end.
// The processor time that each proxy spent is in the notes.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ChildHandle, spawnChild } from '../../src/linux/exec.ts';
import { type LabNamespace, NetnsLab } from '../harness/netns-lab.ts';
import type { Report } from './main.ts';

const HARNESS = join(import.meta.dirname, '../harness/relay');
const NODE_FLAGS = ['--disable-warning=ExperimentalWarning'];
const PROXY = '10.1.0.1';
const SERVER = '10.2.0.2';
const IPERF_PORT = 5201;
const LOAD_PORT = 5300;
const SECONDS = 4;
const ROUNDS = 3;
const CLOCK_TICKS = 100;

interface Proxy {
  name: string;
  /** Started in the namespace, forwarding to this port of the server from the same port of its own. */
  start(port: number): ChildHandle;
}

interface Measured {
  value: number;
  /** Processor seconds the proxy spent. */
  cpu: number;
}

class Bench {
  readonly #lab = new NetnsLab('relay');
  readonly client: LabNamespace;
  readonly proxy: LabNamespace;
  readonly server: LabNamespace;
  readonly #directory = mkdtempSync(join(tmpdir(), 'podwire-relay-'));
  readonly #children: ChildHandle[] = [];

  constructor() {
    this.client = this.#lab.namespace('client');
    this.proxy = this.#lab.namespace('proxy');
    this.server = this.#lab.namespace('server');
    this.#lab.wire(this.client, 'eth0', this.proxy, 'eth0');
    this.#lab.wire(this.server, 'eth0', this.proxy, 'eth1');
    this.client.address('eth0', '10.1.0.2/24');
    this.proxy.address('eth0', `${PROXY}/24`);
    this.proxy.address('eth1', '10.2.0.1/24');
    this.server.address('eth0', `${SERVER}/24`);
  }

  spawn(namespace: LabNamespace, command: string, args: string[]): ChildHandle {
    const child = spawnChild(command, args, { netns: namespace.netns, stdio: ['ignore', 'pipe', 'inherit'] });
    this.#children.push(child);
    return child;
  }

  script(namespace: LabNamespace, file: string, ...args: string[]): ChildHandle {
    return this.spawn(namespace, process.execPath, [...NODE_FLAGS, join(HARNESS, file), ...args]);
  }

  ours(): Proxy {
    const start = (port: number): ChildHandle =>
      this.script(this.proxy, 'process.ts', PROXY, String(port), SERVER, String(port));
    return { name: 'podwire', start };
  }

  haproxy(splice: boolean): Proxy {
    const start = (port: number): ChildHandle => {
      const file = join(this.#directory, 'haproxy.cfg');
      const lines = [
        'global',
        '  maxconn 4000',
        'defaults',
        '  mode tcp',
        '  timeout connect 5s',
        '  timeout client 60s',
        '  timeout server 60s',
        ...(splice ? ['  option splice-auto'] : []),
        'listen relay',
        `  bind ${PROXY}:${port}`,
        `  server one ${SERVER}:${port}`,
      ];
      writeFileSync(file, `${lines.join('\n')}\n`);
      return this.spawn(this.proxy, 'haproxy', ['-db', '-q', '-f', file]);
    };
    return { name: splice ? 'haproxy with splice-auto' : 'haproxy', start };
  }

  async measure(proxy: Proxy, port: number, work: () => Promise<number>): Promise<Measured> {
    const child = proxy.start(port);
    for (
      let tries = 0;
      (await this.client.outcome(PROXY, port, { timeoutMs: 300 })) === 'ECONNREFUSED';
      tries++
    ) {
      if (tries > 100) throw new Error(`${proxy.name} does not start`);
      await new Promise(resolve => setTimeout(resolve, 50));
    }
    // iperf3's server needs a moment to forget the connection that only looked whether the proxy is there.
    await new Promise(resolve => setTimeout(resolve, 300));
    const before = cpuSeconds(child.pid);
    const value = await work();
    const cpu = cpuSeconds(child.pid) - before;
    child.kill('SIGKILL');
    await child.exited;
    return { value, cpu };
  }

  async throughput(): Promise<number> {
    const { stdout } = await this.client.run('iperf3', [
      '-c',
      PROXY,
      '-p',
      String(IPERF_PORT),
      '-t',
      String(SECONDS),
      '-J',
    ]);
    const { end } = JSON.parse(stdout) as { end: { sum_received: { bits_per_second: number } } };
    return end.sum_received.bits_per_second / 1e9;
  }

  async connectionRate(): Promise<number> {
    const args = [
      ...NODE_FLAGS,
      join(HARNESS, 'load.ts'),
      'client',
      PROXY,
      String(LOAD_PORT),
      '64',
      String(SECONDS),
    ];
    const { stdout, stderr } = await this.client.run(process.execPath, args);
    if (stdout === '') throw new Error(stderr);
    return (JSON.parse(stdout) as { rate: number }).rate;
  }

  close(): void {
    for (const child of this.#children) child.kill('SIGKILL');
    this.#lab.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** User and system time of all threads (proc(5), fields 14 and 15). */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS;
}

function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

export async function bench(report: Report): Promise<void> {
  const net = new Bench();
  try {
    net.spawn(net.server, 'iperf3', ['-s', '-p', String(IPERF_PORT)]);
    net.script(net.server, 'load.ts', 'server', SERVER, String(LOAD_PORT));
    const peers = [net.ours(), net.haproxy(false), net.haproxy(true)];
    const cases = [
      { name: 'proxy/userspace-throughput', unit: 'Gbit/s', port: IPERF_PORT, work: () => net.throughput() },
      { name: 'proxy/userspace-connrate', unit: 'conn/s', port: LOAD_PORT, work: () => net.connectionRate() },
    ];
    for (const { name, unit, port, work } of cases) {
      const results = new Map<Proxy, Measured[]>(peers.map(peer => [peer, []]));
      for (let round = 0; round < ROUNDS; round++)
        for (const peer of peers) results.get(peer)?.push(await net.measure(peer, port, work));
      const figures = peers.map(peer => {
        const measured = results.get(peer) ?? [];
        const value = median(measured.map(one => one.value));
        // Processor time for each unit of work, in arbitrary but equal units.
        return { peer, value, cpu: median(measured.map(one => one.cpu / one.value)) };
      });
      const [ours, peer, other] = figures as [(typeof figures)[0], (typeof figures)[0], (typeof figures)[0]];
      const note = [
        `peer: ${peer.peer.name}`,
        `processor time for the same work ours/peer ${(ours.cpu / peer.cpu).toFixed(2)}`,
        `${other.peer.name}: ${other.value.toPrecision(3)} ${unit}, processor time ours/its ${(ours.cpu / other.cpu).toFixed(2)}`,
      ].join('; ');
      report({ name, ours: ours.value, peer: peer.value, unit, note });
    }
  } finally {
    net.close();
  }
}
