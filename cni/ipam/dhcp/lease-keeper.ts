// Keeps one lease: RENEWING, REBINDING, the end (RFC 2131 section 4.4.5), RELEASE. It holds no descriptor of the pod's
// namespace in between, so that a namespace whose pod is gone can die; whoever it belongs to is told of every change.
import { type Clock, sleep, systemClock } from '../../../src/lib/clock.ts';
import { Netns } from '../../../src/linux/netns.ts';
import { type Link, Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import type { Logger } from '../../../src/observe/log.ts';
import { type DhcpClientIdentity, extendLease, releaseMessage } from './exchange.ts';
import { type Lease, leasePhase, retryDelayMs } from './lease.ts';
import { openUdpTransport } from './transports.ts';

/** Where the lease's interface is. */
export interface LeasePlace {
  netnsPath: string;
  netnsInode: bigint;
  ifName: string;
}

export interface LeaseKeeperOptions {
  place: LeasePlace;
  client: DhcpClientIdentity;
  lease: Lease;
  timeoutMs: number;
  resendMaxMs: number;
  log: Logger;
  clock?: Clock;
  /** The lease was extended. */
  onExtended(lease: Lease): void;
  /** There is no lease any more: it ended, the server refused it, or the interface is gone. */
  onLost(reason: LossReason): void;
}

export type LossReason = 'expired' | 'refused' | 'gone';

export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  readonly #clock: Clock;
  readonly #stopped = new AbortController();
  readonly #maintenance: Promise<void>;
  #lease: Lease;
  #lost: LossReason | undefined;

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#lease = options.lease;
    // Later, so that nobody hears of a loss before having the keeper.
    this.#maintenance = Promise.resolve().then(() => this.#maintain(this.#stopped.signal));
  }

  /** Undefined when it was lost. */
  get lease(): Lease | undefined {
    return this.#lost === undefined ? this.#lease : undefined;
  }

  get place(): LeasePlace {
    return this.#options.place;
  }

  /** Ends the maintenance; the lease stays as it is. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#maintenance;
  }

  /** Gives the address back to the server, when there is still an interface to do it from. */
  async release(): Promise<void> {
    await this.stop();
    const { place, client, log } = this.#options;
    const lease = this.lease;
    if (lease === undefined) return;
    using netns = openPlace(place);
    if (netns === undefined || findLink(netns, place.ifName) === undefined) return;
    using transport = openUdpTransport(netns, place.ifName, lease.serverId, log);
    transport.send(releaseMessage(client, lease));
    await transport.flushed();
  }

  async #maintain(signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    while (!signal.aborted && this.#lost === undefined) {
      const now = this.#clock.now();
      const phase = leasePhase(this.#lease, now);
      if (phase === 'expired') {
        this.#lose('expired');
      } else if (phase === 'bound') {
        await sleep(this.#lease.renewAtMs - now, signal, this.#clock);
      } else {
        const answered = await this.#extend(phase, signal).catch(error => {
          if (!signal.aborted)
            log.info({ err: error, phase, ...this.#about() }, 'DHCP lease not extended yet');
          return false;
        });
        if (!answered) await sleep(retryDelayMs(this.#lease, this.#clock.now()), signal, this.#clock);
      }
    }
  }

  /** True when there was an answer, a good or a bad one. */
  async #extend(phase: 'renewing' | 'rebinding', signal: AbortSignal): Promise<boolean> {
    const { place, client, timeoutMs, resendMaxMs, log } = this.#options;
    using netns = openPlace(place);
    if (netns === undefined || findLink(netns, place.ifName) === undefined) {
      this.#lose('gone');
      return true;
    }
    const server = phase === 'renewing' ? this.#lease.serverId : undefined;
    using transport = openUdpTransport(netns, place.ifName, server, log);
    const deadlineMs = phase === 'renewing' ? this.#lease.rebindAtMs : this.#lease.expireAtMs;
    const times = {
      timeoutMs: Math.min(timeoutMs, Math.max(deadlineMs - this.#clock.now(), 0)),
      ...{ resendMaxMs, signal, clock: this.#clock },
    };
    const lease = await extendLease(transport, client, this.#lease, times);
    if (lease === undefined || lease.address !== this.#lease.address) {
      this.#lose('refused');
      return true;
    }
    this.#lease = lease;
    log.debug({ phase, ...this.#about() }, 'DHCP lease extended');
    this.#options.onExtended(lease);
    return true;
  }

  /** An address that is somebody else's by now must not be used: the interface goes down, as with the reference. */
  #lose(reason: LossReason): void {
    this.#lost = reason;
    const { place, log } = this.#options;
    log.warn({ reason, ...this.#about() }, 'DHCP lease lost');
    try {
      using netns = openPlace(place);
      if (netns !== undefined && findLink(netns, place.ifName) !== undefined) {
        using net = Rtnetlink.open(netns);
        net.setLink(place.ifName, { up: false });
      }
    } catch (error) {
      log.warn({ err: error, ...this.#about() }, 'cannot bring the interface of a lost lease down');
    }
    this.#options.onLost(reason);
  }

  #about(): Record<string, unknown> {
    const { place } = this.#options;
    const end = this.#lease.expireAtMs;
    return {
      ...{ address: this.#lease.address, ifName: place.ifName, netns: place.netnsPath },
      ...(Number.isFinite(end) ? { expires: new Date(end).toISOString() } : {}),
    };
  }
}

/** Undefined when the path no longer leads to that namespace. */
export function openPlace(place: LeasePlace): Netns | undefined {
  try {
    const netns = Netns.open(place.netnsPath);
    if (netns.inode === place.netnsInode) return netns;
    netns.close();
  } catch {
    // The path is gone: so is the pod.
  }
  return undefined;
}

export function findLink(netns: Netns, ifName: string): Link | undefined {
  using net = Rtnetlink.open(netns);
  return net.getLink(ifName);
}
