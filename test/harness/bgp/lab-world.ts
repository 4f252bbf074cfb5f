// What stands beside a lab's nodes on its underlay: a router with a network behind it, a node of somebody else's. Their
// programs are this test's children; the lab itself is podwire's.
import { run } from '../../../src/linux/exec.ts';
import { Namespaces, wait } from './bench-net.ts';

/** Answers every request with the client's address. */
const SERVER = `
const [, host, port] = process.argv;
require('node:http').createServer((request, answer) => answer.end(request.socket.remoteAddress)).listen(+port, host);
`;

/** Asks a URL over and over, each time with a connection of its own; one line of JSON when stdin ends. */
const CLIENT = `
const [, url] = process.argv;
let going = true, asked = 0, slowestMs = 0;
const failures = [];
process.stdin.on('end', () => { going = false; }).resume();
(async () => {
  while (going) {
    const since = performance.now();
    asked++;
    await fetch(url, { headers: { connection: 'close' }, signal: AbortSignal.timeout(3000) })
      .then(answer => answer.text())
      .catch(error => failures.push(String(error.cause ?? error)));
    slowestMs = Math.max(slowestMs, performance.now() - since);
    await new Promise(resolve => setTimeout(resolve, 10));
  }
  console.log(JSON.stringify({ asked, failures, slowestMs: Math.round(slowestMs) }));
})();
`;

export interface Asked {
  asked: number;
  failures: string[];
  slowestMs: number;
}

export class LabWorld implements Disposable {
  readonly namespaces = new Namespaces();
  readonly #switchNetns: string;
  #ports = 0;

  constructor(labName: string) {
    this.#switchNetns = `pw.${labName}.net`;
  }

  /** A namespace on the lab's switch, link `eth0`. */
  join(name: string, ...addresses: string[]): string {
    const netns = this.namespaces.add(name);
    this.namespaces.connectTo(this.#switchNetns, `w${this.#ports++}`, netns, 'eth0', addresses);
    return netns;
  }

  /** The switch port of the member that joined as the n-th. */
  setPort(n: number, state: 'up' | 'down'): void {
    Namespaces.command('ip', '-n', this.#switchNetns, 'link', 'set', `w${n}`, state);
  }

  async serve(netns: string, host: string, port: number): Promise<void> {
    this.namespaces.spawn(netns, process.execPath, ['-e', SERVER, host, String(port)]);
    await wait(300);
  }

  /** The body of the answer. */
  async fetch(netns: string, url: string, timeoutMs = 3000): Promise<string> {
    const seconds = String(timeoutMs / 1000);
    const path = `/run/netns/${netns}`;
    const result = await run('curl', ['-sS', '-g', '--max-time', seconds, url], { netnsPath: path });
    if (result.code !== 0) throw new Error(`${netns} asks ${url}: ${result.stderr.trim()}`);
    return result.stdout;
  }

  /** Requests all the time; the answer ends them and says how they went. */
  keepAsking(netns: string, url: string): () => Promise<Asked> {
    const child = this.namespaces.spawn(netns, process.execPath, ['-e', CLIENT, url]);
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    const done = new Promise<Asked>(resolve => child.once('close', () => resolve(JSON.parse(said) as Asked)));
    return () => {
      child.stdin.end();
      return done;
    };
  }

  /** Lines of `ip route` of both families. */
  routes(netns: string): string[] {
    return (['-4', '-6'] as const).flatMap(family =>
      Namespaces.command('ip', '-n', netns, family, 'route').split('\n').filter(Boolean),
    );
  }

  [Symbol.dispose](): void {
    this.namespaces[Symbol.dispose]();
  }
}
