// The DHCP daemon: takes leases for pods, keeps them, gives them back. It answers the dhcp plugin on a Unix socket that
// only root can open. Requests for one interface are served one after another, others side by side.
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { CniError, PodwireError } from '../../../src/lib/errors.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import { type Link, Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import type { Logger } from '../../../src/observe/log.ts';
import { CNI_ERROR, decodeError, errorJson, toCniError } from '../../runtime/errors.ts';
import { Fields, type JsonObject } from '../../runtime/fields.ts';
import { KeyedLocks } from '../../runtime/locks.ts';
import type { Attachment } from '../../runtime/plugin.ts';
import { acquireLease, type DhcpClientIdentity } from './exchange.ts';
import { type Lease, leaseResult } from './lease.ts';
import { decodeOptions, LeaseFiles, type LeaseRecord, leaseKey } from './lease-files.ts';
import { findLink, LeaseKeeper, type LeasePlace, openPlace } from './lease-keeper.ts';
import { type DhcpAnswer, MAX_LINE_BYTES } from './protocol.ts';
import { openFrameTransport } from './transports.ts';

const READ_TIMEOUT_MS = 10_000;
/** Of option 61 with its type byte; longer names are cut off, as in the reference. */
const MAX_CLIENT_ID_BYTES = 254;

export interface DhcpDaemonOptions {
  socketPath: string;
  stateDir: string;
  log: Logger;
  /** Put before socket and namespace paths, for a daemon in a container. */
  hostPrefix?: string;
  /** Ask servers to answer by broadcast. */
  broadcast?: boolean;
  timeoutMs?: number;
  resendMaxMs?: number;
}

interface Kept {
  record: LeaseRecord;
  keeper: LeaseKeeper;
}

export class DhcpDaemon {
  readonly #options: DhcpDaemonOptions;
  readonly #socketPath: string;
  readonly #files: LeaseFiles;
  readonly #kept = new Map<string, Kept>();
  readonly #locks = new KeyedLocks();
  readonly #stopping = new AbortController();
  /** Connections that have not sent their request yet. */
  readonly #idle = new Set<Socket>();
  #server: Server | undefined;

  constructor(options: DhcpDaemonOptions) {
    this.#options = options;
    this.#socketPath = `${options.hostPrefix ?? ''}${options.socketPath}`;
    this.#files = new LeaseFiles(options.stateDir, options.log);
  }

  /** Takes over what an earlier daemon kept, then listens. */
  async start(): Promise<void> {
    mkdirSync(dirname(this.#socketPath), { recursive: true, mode: 0o700 });
    if (await answers(this.#socketPath))
      throw new PodwireError('EADDRINUSE', `a DHCP daemon already answers on ${this.#socketPath}`);
    rmSync(this.#socketPath, { force: true });
    for (const record of this.#files.readAll()) this.#adopt(record);
    // A client that ends its side is gone: what was begun for it is given up.
    const server = createServer(socket => this.#accept(socket));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once('error', reject).once('listening', resolve);
    const umask = process.umask(0o177);
    try {
      server.listen(this.#socketPath);
    } finally {
      process.umask(umask);
    }
    await promise;
    chmodSync(this.#socketPath, 0o600);
    this.#server = server;
    this.#options.log.info({ socketPath: this.#socketPath, leases: this.#kept.size }, 'DHCP daemon listens');
  }

  /** Gives up what is under way; the leases stay, for the next daemon. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    for (const socket of this.#idle) socket.destroy();
    const server = this.#server;
    this.#server = undefined;
    if (server !== undefined) await new Promise<void>(resolve => server.close(() => resolve()));
    await Promise.all([...this.#kept.values()].map(kept => kept.keeper.stop()));
    this.#kept.clear();
  }

  #accept(socket: Socket): void {
    const gone = new AbortController();
    let text = '';
    let served = false;
    socket.setTimeout(READ_TIMEOUT_MS, () => socket.destroy());
    this.#idle.add(socket);
    socket.on('close', () => {
      this.#idle.delete(socket);
      gone.abort();
    });
    socket.on('error', () => socket.destroy());
    socket.setEncoding('utf8');
    socket.on('data', chunk => {
      text += chunk;
      if (served) return;
      const end = text.indexOf('\n');
      if (end < 0) {
        if (text.length > MAX_LINE_BYTES) socket.destroy();
        return;
      }
      served = true;
      this.#idle.delete(socket);
      socket.setTimeout(0);
      const signal = AbortSignal.any([gone.signal, this.#stopping.signal]);
      void this.#answer(text.slice(0, end), signal).then(answer => {
        socket.end(`${JSON.stringify(answer)}\n`);
      });
    });
  }

  async #answer(line: string, signal: AbortSignal): Promise<DhcpAnswer> {
    try {
      return { result: await this.#serve(Fields.parse(line, 'DHCP request'), signal) };
    } catch (thrown) {
      this.#options.log.warn({ err: thrown }, 'DHCP request failed');
      return { error: errorJson(toCniError(thrown)) };
    }
  }

  async #serve(call: Fields, signal: AbortSignal): Promise<JsonObject> {
    const method = call.string('method') ?? '';
    if (method === 'Status') return {};
    if (method === 'Collect') return this.#collect(call);
    const key = leaseKey({
      network: call.string('network') ?? '',
      containerId: call.string('containerId') ?? '',
      ifName: call.string('ifName') ?? '',
    });
    return this.#locks.run(key, signal, async () => {
      switch (method) {
        case 'Allocate':
          return { ...leaseResult(await this.#allocate(key, call, signal), readWish(call)) };
        case 'Check':
          return { ...leaseResult(this.#requireLease(key), readWish(call)) };
        case 'Release':
          await this.#release(key);
          return {};
        default:
          throw decodeError(`unknown DHCP method ${JSON.stringify(method)}`);
      }
    });
  }

  /** The lease that there is, when the interface is still the same; else a new one. */
  async #allocate(key: string, call: Fields, signal: AbortSignal): Promise<Lease> {
    const place: LeasePlace = {
      netnsPath: `${this.#options.hostPrefix ?? ''}${call.string('netns') ?? ''}`,
      netnsInode: BigInt(call.string('netnsInode') ?? '0'),
      ifName: call.string('ifName') ?? '',
    };
    const present = this.#kept.get(key)?.keeper;
    if (present?.lease !== undefined && present.place.netnsInode === place.netnsInode) return present.lease;
    await this.#release(key);
    using netns = openPlace(place);
    if (netns === undefined)
      throw new CniError(
        CNI_ERROR.INVALID_NETNS,
        `DHCP daemon cannot open network namespace ${place.netnsPath}`,
      );
    const link = requireUpLink(netns, place.ifName);
    const client: DhcpClientIdentity = {
      mac: link.mac,
      clientId: Buffer.from(`\0${key}`).subarray(0, MAX_CLIENT_ID_BYTES + 1),
      // Links of an ipvlan have one MAC, and packets find them by the address that this one does not have yet.
      broadcast: this.#options.broadcast === true || link.kind === 'ipvlan',
      request: call.list('request').map(Number),
      provide: decodeOptions(call.fields('provide')),
    };
    using transport = openFrameTransport(netns, link, this.#options.log);
    const lease = await acquireLease(transport, client, { ...this.#times(), signal });
    leaseResult(lease, readWish(call));
    const record: LeaseRecord = {
      ...{ network: call.string('network') ?? '', containerId: call.string('containerId') ?? '' },
      ...{ place, client, lease },
    };
    this.#files.write(record);
    this.#keep(record);
    return lease;
  }

  #times(): { timeoutMs: number; resendMaxMs: number } {
    return {
      timeoutMs: this.#options.timeoutMs ?? 10_000,
      resendMaxMs: this.#options.resendMaxMs ?? 62_000,
    };
  }

  /** A lease of an earlier daemon; when its pod is gone there is nothing to release it from. */
  #adopt(record: LeaseRecord): void {
    using netns = openPlace(record.place);
    if (netns === undefined) this.#files.remove(record);
    else this.#keep(record);
  }

  #keep(record: LeaseRecord): void {
    const key = leaseKey({ ...record, ifName: record.place.ifName });
    const keeper = new LeaseKeeper({
      ...this.#times(),
      ...{ place: record.place, client: record.client, lease: record.lease, log: this.#options.log },
      onExtended: lease => {
        record.lease = lease;
        this.#files.write(record);
      },
      // A lost lease is remembered for CHECK, but not across a restart.
      onLost: reason => {
        this.#files.remove(record);
        if (reason === 'gone') this.#kept.delete(key);
      },
    });
    this.#kept.set(key, { record, keeper });
  }

  #requireLease(key: string): Lease {
    const kept = this.#kept.get(key);
    if (kept?.keeper.lease !== undefined) return kept.keeper.lease;
    throw new CniError(
      CNI_ERROR.UNKNOWN_CONTAINER,
      `there is no DHCP lease for ${key}`,
      kept === undefined ? '' : 'it was lost',
    );
  }

  async #release(key: string): Promise<void> {
    const kept = this.#kept.get(key);
    if (kept === undefined) return;
    await kept.keeper.release();
    this.#kept.delete(key);
    this.#files.remove(kept.record);
  }

  async #collect(call: Fields): Promise<JsonObject> {
    const network = call.string('network') ?? '';
    const valid = call.fieldsList('valid').map(
      (one): Attachment => ({
        containerId: one.string('containerId') ?? '',
        ifName: one.string('ifName') ?? '',
      }),
    );
    const keep = new Set(valid.map(one => leaseKey({ ...one, network })));
    const signal = AbortSignal.timeout(READ_TIMEOUT_MS);
    const orphans = [...this.#kept]
      .filter(([key, { record }]) => record.network === network && !keep.has(key))
      .map(([key]) => key);
    for (const key of orphans) await this.#locks.run(key, signal, () => this.#release(key));
    return { released: orphans.length };
  }
}

function readWish(call: Fields): { priority: number | undefined; suppressGateway: boolean } {
  return {
    priority: call.integer('priority'),
    suppressGateway: call.boolean('suppressGateway') ?? false,
  };
}

/** A client cannot speak on a link that is down, so it is brought up, as the reference does. */
function requireUpLink(netns: Netns, ifName: string): Link {
  const link = findLink(netns, ifName);
  if (link === undefined)
    throw new CniError(CNI_ERROR.INTERNAL, `error looking up ${JSON.stringify(ifName)}: Link not found`);
  if (link.mac === '')
    throw new CniError(CNI_ERROR.INTERNAL, `DHCP needs an Ethernet interface; ${ifName} has no MAC address`);
  if (link.up) return link;
  using net = Rtnetlink.open(netns);
  net.setLink(link.index, { up: true });
  return { ...link, up: true };
}

/** True when a live daemon listens there. */
function answers(socketPath: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(socketPath);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
