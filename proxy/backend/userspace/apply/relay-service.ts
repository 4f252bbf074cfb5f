// What the userspace mode asks of a relay, wherever it runs, and the relay that runs in this process: its connections end
// with the process. The other one is HostedRelay.
import { errorMessage } from '../../../../src/lib/errors.ts';
import type { Netns } from '../../../../src/linux/netns.ts';
import type { Logger } from '../../../../src/observe/log.ts';
import { ListenerTable } from './listener-table.ts';
import type { RelayStats } from './messages.ts';
import { Relay } from './relay.ts';

export interface SocketAddress {
  ip: string;
  port: number;
}

export interface ServiceListener {
  protocol: 'TCP' | 'UDP';
  /** Where it listens. */
  address: string;
  /** Ports it may have; any that is free when absent. */
  portRange?: { first: number; last: number };
  /** 0: none. */
  affinityMs: number;
  udpIdleMs: number;
  endpoints: readonly SocketAddress[];
}

export interface ClosedPort {
  protocol: ServiceListener['protocol'];
  port: number;
}

export interface RelayService {
  /** The port it listens on. Asked again with the same key and kind of listener: that port, with these endpoints. */
  open(key: string, listener: ServiceListener): Promise<number>;
  setEndpoints(key: string, endpoints: readonly SocketAddress[]): void;
  /** Connections that it accepted go on (TCP). */
  close(key: string): void;
  /** Closes the listeners of an earlier life that nobody has opened in this one; which they were. */
  retain(): Promise<ClosedPort[]>;
  stats(): RelayStats;
  /** No more use for it here: whoever comes after finds listeners and connections as long as this relay can. */
  leave(closed: (ports: ClosedPort[]) => void): void;
}

/** Longer than it takes to bring in the rules of another mode. */
const LINGER_MS = 10_000;

/** A relay of this process. */
export class LocalRelay implements RelayService {
  readonly #relay: Relay;
  readonly #table: ListenerTable;
  readonly #log: Logger | undefined;
  #inRange = false;

  constructor(options: { netns?: Netns; log?: Logger }) {
    const { netns, log } = options;
    this.#relay = new Relay({ ...(netns ? { netns } : {}), ...(log ? { log } : {}) });
    this.#table = new ListenerTable(this.#relay);
    this.#log = log;
  }

  async open(key: string, listener: ServiceListener): Promise<number> {
    if (listener.portRange) this.#inRange = true;
    return this.#table.open(key, listener);
  }

  setEndpoints(key: string, endpoints: readonly SocketAddress[]): void {
    this.#table.setEndpoints(key, endpoints);
  }

  close(key: string): void {
    this.#table.close(key);
  }

  /** There is no earlier life. */
  async retain(): Promise<ClosedPort[]> {
    return [];
  }

  stats(): RelayStats {
    return this.#relay.stats();
  }

  /**
   * Listeners stay for a while, until whoever comes after in this process (another mode, other addresses) has rules of its
   * own; connections stay until they end.
   */
  leave(closed: (ports: ClosedPort[]) => void): void {
    const end = (): void => {
      closed(this.#table.keys().flatMap(key => this.#table.close(key)));
      this.#relay.drain().catch(error => this.#log?.error(`end the relay: ${errorMessage(error)}`));
    };
    // In a given range the next one may need the very same ports.
    if (this.#inRange) end();
    else setTimeout(end, LINGER_MS).unref();
  }
}
