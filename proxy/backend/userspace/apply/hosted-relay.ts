// A relay in a process of its own, as its daemon sees it. The host is started when nobody serves at the socket, and
// found again by the next daemon with listeners and connections as they are. A host of another build is asked to leave
// and another one started beside it: its connections go on until they end.
import { createHash } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { PodwireError } from '../../../../src/lib/errors.ts';
import { PODWIRE_VERSION } from '../../../../src/lib/version.ts';
import { spawnDaemon } from '../../../../src/linux/exec.ts';
import type { Netns } from '../../../../src/linux/netns.ts';
import type { Logger } from '../../../../src/observe/log.ts';
import { type ConnectionEnd, HostConnection } from './host-connection.ts';
import { servingSocket } from './host-directory.ts';
import { asEndpoints } from './host-protocol.ts';
import { type RelayStats, STATS } from './messages.ts';
import type { ClosedPort, RelayService, ServiceListener, SocketAddress } from './relay-service.ts';

/** How long a host serves without a daemon; PODWIRE_RELAY_LINGER_MS of the environment comes first. */
const DEFAULT_LINGER_MS = 600_000;
const START_PATIENCE_MS = 10_000;
const POLL_MS = 10;
/** A host of another build listens for so long: longer than it takes to bring in rules that lead to the new one. */
const LEAVE_MS = 10_000;
const LOG_FILE = 'log';
const PRIVATE = 0o600;

export interface RelayHostChoice {
  /** Of the host's sockets and log; no other host's. */
  directory: string;
  /** How long it serves when no daemon is there. */
  lingerMs?: number;
  /** Default: this build's. */
  build?: string;
}

function partFile(name: string): string {
  return fileURLToPath(new URL(`./${name}${extname(import.meta.filename)}`, import.meta.url));
}

/** Of bundles, this changes with anything in them: their parts are named by content. */
export function hostBuild(): string {
  const hash = createHash('sha256');
  for (const part of ['relay-host', 'relay-worker']) hash.update(readFileSync(partFile(part)));
  return `${PODWIRE_VERSION}-${hash.digest('hex').slice(0, 16)}`;
}

export class HostedRelay implements RelayService {
  readonly #choice: RelayHostChoice;
  readonly #build: string;
  readonly #netns: Netns | undefined;
  readonly #onLost: (end: ConnectionEnd) => void;
  readonly #log: Logger | undefined;
  #connection: HostConnection | undefined;
  #connecting: Promise<HostConnection> | undefined;
  #inRange = false;
  #left = false;

  /** `onLost`: no listener is there any more, or somebody else has them; they are to be opened again. */
  constructor(options: {
    host: RelayHostChoice;
    netns?: Netns;
    onLost: (end: ConnectionEnd) => void;
    log?: Logger;
  }) {
    this.#choice = options.host;
    this.#build = options.host.build ?? hostBuild();
    this.#netns = options.netns;
    this.#onLost = options.onLost;
    this.#log = options.log;
  }

  async open(key: string, listener: ServiceListener): Promise<number> {
    if (listener.portRange) this.#inRange = true;
    const connection = this.#connection ?? (await this.#connected());
    return connection.listen(key, listener);
  }

  setEndpoints(key: string, endpoints: readonly SocketAddress[]): void {
    this.#connection?.tell({ op: 'endpoints', key, endpoints: asEndpoints(endpoints) });
  }

  close(key: string): void {
    this.#connection?.tell({ op: 'close', key });
  }

  async retain(): Promise<ClosedPort[]> {
    // Nothing was opened; there may be a host with listeners of an earlier life.
    this.#connection ??= await this.#find();
    return (await this.#connection?.retain()) ?? [];
  }

  stats(): RelayStats {
    return this.#connection?.stats ?? (Object.fromEntries(STATS.map(name => [name, 0])) as RelayStats);
  }

  leave(): void {
    this.#left = true;
    this.#connection?.close();
    this.#connection = undefined;
  }

  #connected(): Promise<HostConnection> {
    this.#connecting ??= this.#connect().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #connect(): Promise<HostConnection> {
    let connection = await this.#find();
    if (!connection) {
      this.#start();
      const until = performance.now() + START_PATIENCE_MS;
      while (!connection && performance.now() < until && !this.#left) {
        await sleep(POLL_MS);
        connection = await this.#find();
      }
    }
    if (this.#left) connection?.close();
    if (!connection || this.#left)
      throw new PodwireError(
        'RELAY_HOST',
        `the relay host does not come up; ${join(this.#choice.directory, LOG_FILE)} may say why`,
      );
    this.#connection = connection;
    return connection;
  }

  /** The host that serves, if it is of this build; another one is asked to leave. */
  async #find(): Promise<HostConnection | undefined> {
    let found: HostConnection | undefined;
    const onEnd = (end: ConnectionEnd): void => this.#onEnd(found, end);
    found = await HostConnection.open(servingSocket(this.#choice.directory), onEnd);
    if (!found || found.build === this.#build) return found;
    this.#log?.info({ build: found.build }, 'the relay host is of another build: it leaves');
    found.tell({ op: 'drain', listenMs: this.#inRange ? 0 : LEAVE_MS });
    found.close();
    return undefined;
  }

  #onEnd(connection: HostConnection | undefined, end: ConnectionEnd): void {
    if (this.#left || connection === undefined || this.#connection !== connection) return;
    this.#connection = undefined;
    this.#log?.warn(end === 'lost' ? 'the relay host is gone' : 'another daemon has taken the relay host');
    this.#onLost(end);
  }

  #start(): void {
    const { directory, lingerMs = DEFAULT_LINGER_MS } = this.#choice;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const log = openSync(join(directory, LOG_FILE), 'w', PRIVATE);
    try {
      const { pid } = spawnDaemon(
        process.execPath,
        [
          '--disable-warning=ExperimentalWarning',
          '--max-semi-space-size=2',
          partFile('relay-host'),
          directory,
          this.#build,
          process.env.PODWIRE_RELAY_LINGER_MS ?? String(lingerMs),
        ],
        { ...(this.#netns ? { netns: this.#netns } : {}), cwd: '/', stdio: ['ignore', log, log] },
      );
      this.#log?.info({ pid }, 'relay host started');
    } finally {
      closeSync(log);
    }
  }
}
