// The resident CNI server: answers launchers on a Unix socket that only root can open. Each request runs in the network
// namespaces of the launcher that sent it, so one server serves the plugins of many hosts. A request that hangs holds
// only what it locked, and its time is bounded.
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { CniError, errorMessage, hasCode, PodwireError } from '../../src/lib/errors.ts';
import { Netns } from '../../src/linux/netns.ts';
import type { Logger } from '../../src/observe/log.ts';
import { DhcpDaemon } from '../ipam/dhcp/daemon.ts';
import { PLUGINS } from '../plugins.ts';
import { type Answer, dispatch } from './dispatch.ts';
import { CNI_ERROR, errorJson } from './errors.ts';
import { KeyedLocks } from './locks.ts';
import type { PluginTable, Site } from './plugin.ts';
import {
  decodeRequest,
  encodeAnswer,
  GREETING,
  type LauncherRequest,
  REFUSAL,
  requestLength,
} from './protocol.ts';

/** Where the launcher looks, among others, when PODWIRE_CNI_SOCKET is not set. */
export const DEFAULT_CNI_SOCKET = '/run/podwire/cni.sock';

/** From accept to the last byte of the request; the launcher reads its stdin in this time. */
const READ_TIMEOUT_MS = 60_000;
/** Less than the launcher waits, so that it is the server that says what took so long. */
const REQUEST_TIMEOUT_MS = 120_000;
const MAX_CONNECTIONS = 1024;
/** One for all: abort() would make an error with a stack for every request. */
const LAUNCHER_GONE = new PodwireError('ABORTED', 'the CNI launcher has gone away');

export interface CniServerOptions {
  socketPath: string;
  log: Logger;
  /** Default: every plugin podwire has. */
  plugins?: PluginTable;
  /** Makes the server the DHCP daemon of its plugins too. */
  dhcp?: { socketPath: string; stateDir: string };
  requestTimeoutMs?: number;
}

export class CniServer {
  readonly #options: CniServerOptions;
  readonly #plugins: PluginTable;
  readonly #locks = new KeyedLocks();
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #dhcp: DhcpDaemon | undefined;

  constructor(options: CniServerOptions) {
    this.#options = options;
    this.#plugins = options.plugins ?? PLUGINS;
  }

  async start(): Promise<void> {
    const { socketPath } = this.#options;
    mkdirSync(dirname(socketPath), { recursive: true, mode: 0o700 });
    if (await answers(socketPath))
      throw new PodwireError('EADDRINUSE', `a CNI server already answers on ${socketPath}`);
    rmSync(socketPath, { force: true });
    const server = createServer(socket => this.#accept(socket));
    server.maxConnections = MAX_CONNECTIONS;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once('error', reject).once('listening', resolve);
    // bind() happens inside listen(), so the socket is never open to others, not even for a moment.
    const umask = process.umask(0o177);
    try {
      server.listen({ path: socketPath, backlog: 511 });
    } finally {
      process.umask(umask);
    }
    await promise;
    chmodSync(socketPath, 0o600);
    server.on('error', error => this.#options.log.error({ err: error }, 'CNI server socket failed'));
    this.#server = server;
    await this.#startDhcp();
    this.#options.log.info({ socketPath, plugins: [...this.#plugins.keys()] }, 'CNI server listens');
  }

  /** A daemon that answers on the socket already serves our plugins as well. */
  async #startDhcp(): Promise<void> {
    const { dhcp, log } = this.#options;
    if (dhcp === undefined) return;
    const daemon = new DhcpDaemon({ ...dhcp, log });
    try {
      await daemon.start();
      this.#dhcp = daemon;
    } catch (error) {
      if (!hasCode(error, 'EADDRINUSE')) throw error;
      log.warn({ socketPath: dhcp.socketPath }, 'another DHCP daemon answers; leases are its business');
    }
  }

  /** Stops accepting; requests under way are finished first. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    await new Promise<void>(resolve => server.close(() => resolve()));
    await this.#dhcp?.stop();
    this.#dhcp = undefined;
  }

  #accept(socket: Socket): void {
    const { log } = this.#options;
    this.#sockets.add(socket);
    // Aborted when the launcher goes away or its time is up.
    const stop = new AbortController();
    socket.on('close', () => {
      this.#sockets.delete(socket);
      stop.abort(LAUNCHER_GONE);
    });
    socket.on('error', error => log.debug({ err: error }, 'CNI launcher connection failed'));
    socket.setTimeout(READ_TIMEOUT_MS, () => socket.destroy());
    socket.write(GREETING);
    let received: Buffer[] = [];
    let size = 0;
    let wanted: number | undefined;
    socket.on('data', chunk => {
      if (size < 0) return;
      received.push(chunk);
      size += chunk.length;
      try {
        if (wanted === undefined && size >= 4) wanted = requestLength(Buffer.concat(received));
        if (wanted === undefined || size < wanted + 4) return;
        const body = Buffer.concat(received).subarray(4, wanted + 4);
        received = [];
        size = -1;
        socket.setTimeout(0);
        void this.#serve(socket, decodeRequest(body), stop);
      } catch (error) {
        log.warn({ err: error }, 'CNI launcher sent a bad request');
        socket.end(REFUSAL);
      }
    });
  }

  async #serve(socket: Socket, request: LauncherRequest, stop: AbortController): Promise<void> {
    const { log } = this.#options;
    const started = performance.now();
    let opened: OpenedSite;
    try {
      opened = openSite(request, this.#plugins, this.#locks, log);
    } catch (error) {
      log.warn({ err: error, pid: request.pid }, 'CNI request refused; the launcher runs node instead');
      socket.end(REFUSAL);
      return;
    }
    const timeoutMs = this.#options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS;
    const { environment, stdin, plugin } = request;
    const deadline = new Deadline(`plugin ${plugin} ${environment.CNI_COMMAND ?? ''}`, timeoutMs, stop);
    const dhcpSocketPath = this.#options.dhcp?.socketPath;
    const site: Site = { ...opened.site, dhcpSocketPath, signal: stop.signal };
    const work = dispatch({ plugin, stdin, environment, site: () => site }, this.#plugins.get(plugin));
    void work.finally(() => opened.close());
    const answer = await Promise.race([work, deadline.answer]);
    deadline.clear();
    const record = {
      plugin,
      command: environment.CNI_COMMAND,
      containerId: environment.CNI_CONTAINERID,
      ifName: environment.CNI_IFNAME,
      milliseconds: Math.round((performance.now() - started) * 10) / 10,
    };
    if (answer.exitCode === 0) log.debug(record, 'CNI request');
    else log.warn({ ...record, error: answer.stdout }, 'CNI request failed');
    socket.end(encodeAnswer(answer));
  }
}

/** The end of a request's time: asks the plugin to stop by signal, and has an answer for one that does not listen. */
class Deadline {
  readonly answer: Promise<Answer>;
  readonly #timer: NodeJS.Timeout;

  constructor(what: string, timeoutMs: number, stop: AbortController) {
    const { promise, resolve } = Promise.withResolvers<Answer>();
    this.answer = promise;
    this.#timer = setTimeout(() => {
      stop.abort();
      const error = new CniError(CNI_ERROR.TRY_AGAIN_LATER, `${what} did not end within ${timeoutMs} ms`);
      resolve({ exitCode: 1, stdout: `${JSON.stringify(errorJson(error), null, 4)}\n`, stderr: '' });
    }, timeoutMs);
  }

  clear(): void {
    clearTimeout(this.#timer);
  }
}

interface OpenedSite {
  site: Omit<Site, 'signal'>;
  close(): void;
}

/** Opens the launcher's namespaces while it waits. The inode numbers it sent must match: a pid may be somebody else's. */
function openSite(
  request: LauncherRequest,
  plugins: PluginTable,
  locks: KeyedLocks,
  log: Logger,
): OpenedSite {
  const hostNetns = openVerified(`/proc/${request.pid}/ns/net`, request.netnsInode);
  let pod: Netns | undefined;
  const { podNetns } = request;
  try {
    if (podNetns !== undefined && 'fd' in podNetns)
      pod = openVerified(`/proc/${request.pid}/fd/${podNetns.fd}`, podNetns.inode);
  } catch (error) {
    hostNetns.close();
    throw error;
  }
  const site = {
    hostNetns,
    openPodNetns: () => {
      if (pod === undefined) throw new PodwireError('ENOENT', podNetnsProblem(podNetns));
      return Netns.fromFd(pod.fd);
    },
    environment: request.environment,
    plugins,
    exe: request.exe,
    locks,
    log,
    stderr: [],
  };
  return {
    site,
    close: () => {
      hostNetns.close();
      pod?.close();
    },
  };
}

function podNetnsProblem(podNetns: LauncherRequest['podNetns']): string {
  if (podNetns === undefined || !('errno' in podNetns)) return 'CNI_NETNS is empty';
  return podNetns.errno === 2 ? 'no such file or directory' : `open failed with errno ${podNetns.errno}`;
}

function openVerified(path: string, inode: bigint): Netns {
  const netns = Netns.open(path);
  if (netns.inode === inode) return netns;
  netns.close();
  throw new PodwireError('WRONG_PROCESS', `${path} is not the namespace that the launcher sees`);
}

/** True when a live server listens there; a file that a dead one left does not count. */
function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', error => {
      if (hasCode(error, 'ECONNREFUSED') || hasCode(error, 'ENOENT')) resolve(false);
      else reject(new PodwireError('EADDRINUSE', `cannot use ${socketPath}: ${errorMessage(error)}`));
    });
  });
}
