// Hosts, routers and pods as network namespaces for tests: names with a prefix of their own, wired by veth pairs, with TCP
// and UDP servers and clients that live in this process (a socket belongs to the namespace it was made in).
// Everything goes away with close(), also after a failed test.
import dgram from 'node:dgram';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type RunResult, run } from '../../src/linux/exec.ts';
import {
  AF_INET,
  AF_INET6,
  int32,
  O_NONBLOCK,
  SOCK_DGRAM,
  SOCK_STREAM,
  sysBind,
  sysSetsockopt,
  sysSocket,
} from '../../src/linux/ffi.ts';
import { encodeSockaddr, listenTcp } from '../../src/linux/listen.ts';
import { createNetns, deleteNetns, Netns } from '../../src/linux/netns.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { writeSysctl } from '../../src/linux/sysctl.ts';

/** netinet/in.h */
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;

export const SKIP_UNLESS_ROOT: string | false =
  process.getuid?.() === 0 ? false : 'needs root for network namespaces';

export interface Asked {
  protocol?: 'tcp' | 'udp';
  timeoutMs?: number;
  /** Source port; any unless told. */
  sourcePort?: number;
}

/** What a server of this harness answers: its name and the client's address as it saw it. */
export interface Answer {
  server: string;
  client: string;
}

function parseAnswer(text: string): Answer {
  const [server = '', client = ''] = text.trim().split(' ');
  return { server, client };
}

const PATIENCE_STEP_MS = 20;

/**
 * Calls `late` after so long; returns what calls it off. Clients, servers and often an API server of a test share one
 * event loop: while that does not get its turn nobody can answer, so a stall counts as one or two steps only.
 */
function patience(ms: number, late: () => void): () => void {
  let left = ms;
  let last = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    left -= Math.min(now - last, 2 * PATIENCE_STEP_MS);
    last = now;
    if (left > 0) return;
    clearInterval(timer);
    late();
  }, PATIENCE_STEP_MS);
  return () => clearInterval(timer);
}

export class LabNamespace {
  readonly name: string;
  readonly netns: Netns;
  readonly rt: Rtnetlink;
  readonly #lockFile: string;
  readonly #servers: (() => void)[] = [];

  constructor(name: string, directory: string) {
    this.name = name;
    this.#lockFile = join(directory, `${name}.xtables.lock`);
    this.netns = Netns.open(createNetns(name));
    this.rt = Rtnetlink.open(this.netns);
    this.rt.setLink('lo', { up: true });
    // A link-local address under duplicate detection cannot ask for neighbours: two seconds of silence on a new bridge.
    for (const which of ['all', 'default']) writeSysctl(this.netns, `net/ipv6/conf/${which}/accept_dad`, '0');
  }

  /** An address on a link, usable at once; the link goes up. */
  address(link: string, ...addresses: string[]): void {
    for (const address of addresses) this.rt.addAddress({ link, address, noDad: true });
    this.rt.setLink(link, { up: true });
  }

  route(destination: string, gateway: string): void {
    this.rt.addRoute({ destination, gateway });
  }

  forwarding(): void {
    writeSysctl(this.netns, 'net/ipv4/ip_forward', '1');
    writeSysctl(this.netns, 'net/ipv6/conf/all/forwarding', '1');
  }

  /** Runs a program in here; `iptables` and its kin get a lock of their own. */
  run(command: string, args: readonly string[], input?: string): Promise<RunResult> {
    const env = { ...process.env, XTABLES_LOCKFILE: this.#lockFile };
    return run(command, args, { netns: this.netns, env, ...(input === undefined ? {} : { input }) });
  }

  /** Answers every connection with this name and the client's address. */
  tcpServer(port: number, name = this.name, address = '::'): void {
    for (const host of address === '::' ? ['0.0.0.0', '::'] : [address]) {
      const fd = listenTcp({ netns: this.netns, address: host, port });
      const server = net.createServer(socket => {
        socket.on('error', () => {});
        socket.end(`${name} ${socket.remoteAddress}\n`);
      });
      server.listen({ fd });
      server.unref();
      this.#servers.push(() => server.close());
    }
  }

  /** Answers every datagram likewise. */
  udpServer(port: number, name = this.name, address = '0.0.0.0'): () => void {
    const socket = this.#udpSocket(address.includes(':'), { address, port });
    socket.on('message', (_, from) => socket.send(`${name} ${from.address}\n`, from.port, from.address));
    socket.on('error', () => {});
    socket.unref();
    const close = (): void => void socket.close();
    this.#servers.push(close);
    return close;
  }

  #udpSocket(v6: boolean, bind?: { address: string; port: number }): dgram.Socket {
    const fd = this.netns.run(() => {
      const made = sysSocket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | O_NONBLOCK, 0);
      if (v6) sysSetsockopt(made, IPPROTO_IPV6, IPV6_V6ONLY, int32(1));
      if (bind) sysBind(made, encodeSockaddr(bind.address, bind.port), 'bind');
      return made;
    });
    const socket = dgram.createSocket(v6 ? 'udp6' : 'udp4');
    socket.bind({ fd });
    return socket;
  }

  /** A UDP socket of this namespace that is connected; the caller closes it. */
  async udpClient(address: string, port: number): Promise<dgram.Socket> {
    const socket = this.#udpSocket(address.includes(':'));
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.connect(port, address, resolve);
    });
    return socket;
  }

  /** A TCP socket of this namespace, connected or connecting. */
  connect(address: string, port: number, sourcePort?: number): net.Socket {
    const v6 = address.includes(':');
    const fd = this.netns.run(() => {
      const made = sysSocket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | O_NONBLOCK, 0);
      if (sourcePort) sysBind(made, encodeSockaddr(v6 ? '::' : '0.0.0.0', sourcePort), 'bind');
      return made;
    });
    return new net.Socket({ fd, readable: true, writable: true }).connect({ host: address, port });
  }

  /** Asks a server; rejects with code ECONNREFUSED, EHOSTUNREACH or TIMEOUT. */
  ask(address: string, port: number, options: Asked = {}): Promise<Answer> {
    const timeoutMs = options.timeoutMs ?? 2000;
    const late = Object.assign(new Error(`${address}:${port}: no answer in ${timeoutMs} ms`), {
      code: 'TIMEOUT',
    });
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    if (options.protocol === 'udp') {
      const bind = options.sourcePort
        ? { address: address.includes(':') ? '::' : '0.0.0.0', port: options.sourcePort }
        : undefined;
      const socket = this.#udpSocket(address.includes(':'), bind);
      const answered = patience(timeoutMs, () => reject(late));
      socket.on('error', reject);
      socket.on('message', message => resolve(parseAnswer(message.toString())));
      socket.connect(port, address, (error?: Error) => (error ? reject(error) : socket.send('?')));
      return promise.finally(() => {
        answered();
        socket.close();
      });
    }
    const socket = this.connect(address, port, options.sourcePort);
    let text = '';
    const answered = patience(timeoutMs, () => reject(late));
    socket.setEncoding('utf8');
    socket.on('data', chunk => {
      text += chunk;
    });
    socket.on('end', () => resolve(parseAnswer(text)));
    socket.on('error', reject);
    return promise.finally(() => {
      answered();
      socket.destroy();
    });
  }

  /** The code of the refusal, or the answer's server: for assertions. */
  async outcome(address: string, port: number, options: Asked = {}): Promise<string> {
    try {
      return (await this.ask(address, port, options)).server;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? String(error);
    }
  }

  closeServers(): void {
    for (const close of this.#servers.splice(0)) close();
  }

  close(): void {
    this.closeServers();
    this.rt.close();
    this.netns.close();
    deleteNetns(this.name);
  }
}

export class NetnsLab {
  /** For lock files and the like; gone with the lab. */
  readonly directory = mkdtempSync(join(tmpdir(), 'podwire-lab-'));
  readonly #prefix: string;
  readonly #namespaces: LabNamespace[] = [];

  constructor(room: string) {
    this.#prefix = `pwt-${room}-${process.pid}`;
  }

  namespace(name: string): LabNamespace {
    const made = new LabNamespace(`${this.#prefix}-${name}`, this.directory);
    this.#namespaces.push(made);
    return made;
  }

  /** A veth pair between two namespaces. */
  wire(left: LabNamespace, leftLink: string, right: LabNamespace, rightLink: string, mtuBytes = 1500): void {
    left.rt.addLink({
      name: leftLink,
      kind: 'veth',
      mtuBytes,
      up: true,
      peer: { name: rightLink, mtuBytes, up: true, netnsFd: right.netns.fd },
    });
  }

  close(): void {
    for (const namespace of this.#namespaces.splice(0)) namespace.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
