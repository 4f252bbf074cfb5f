// The userspace mode: a listener of the relay for each frontend of a service port, and rules that lead there. Order
// matters: a listener is there before the rule that names it, and goes after it.
import type { KernelState } from '../../../src/kernel/state.ts';
import { errorMessage, hasCode } from '../../../src/lib/errors.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import type { Logger } from '../../../src/observe/log.ts';
import { type Family, joinHostPort, type ResolvedPort } from '../../model/types.ts';
import type { ProxyBackend } from '../backend.ts';
import type { RelayStats } from './apply/messages.ts';
import { PortAllocator } from './apply/port-allocator.ts';
import { Relay, type RelayListener } from './apply/relay.ts';
import { removeStaleUdpFlows } from './apply/udp-flows.ts';
import { type Frontend, frontendsOf } from './plan/frontends.ts';
import { planUserspace, type Served, type UserspacePlanOptions } from './plan/plan.ts';

export interface UserspaceConfig {
  /** --proxy-port-range; any free port when absent. */
  portRange?: { first: number; last: number };
  /** --udp-timeout. */
  udpIdleMs: number;
  /** Where the relay listens: the node's address, or `0.0.0.0` and `::`. */
  listen: UserspacePlanOptions['listen'];
  nodePortAddresses?: UserspacePlanOptions['nodePortAddresses'];
}

export const DEFAULT_USERSPACE_CONFIG: UserspaceConfig = {
  udpIdleMs: 250,
  listen: { v4: '0.0.0.0', v6: '::' },
};

/** Longer than it takes to bring in the rules of another mode. */
const LINGER_MS = 10_000;

export interface UserspaceBackendOptions {
  families: readonly Family[];
  config: UserspaceConfig;
  netns?: Netns;
  setDesired: (state: KernelState) => void;
  settled?: () => Promise<void>;
  log?: Logger;
}

interface Listening {
  frontend: Frontend;
  listener: RelayListener;
}

function toServed({ frontend, listener }: Listening): Served {
  return { frontend, proxyPort: listener.port };
}

export class UserspaceBackend implements ProxyBackend {
  readonly #options: UserspaceBackendOptions;
  readonly #relay: Relay;
  readonly #ports: PortAllocator;
  readonly #wanted = new Map<string, ResolvedPort>();
  readonly #changed = new Set<string>();
  readonly #listening = new Map<string, Listening>();
  /** Keys of a service port's frontends that listen. */
  readonly #keys = new Map<string, string[]>();
  #leaving: Listening[] = [];
  #opened: Listening[] = [];

  constructor(options: UserspaceBackendOptions) {
    this.#options = options;
    const { netns, log, config } = options;
    this.#relay = new Relay({ ...(netns ? { netns } : {}), ...(log ? { log } : {}) });
    this.#ports = new PortAllocator(config.portRange);
  }

  set(id: string, resolved: ResolvedPort | undefined): void {
    this.#changed.add(id);
    if (resolved) this.#wanted.set(id, resolved);
    else this.#wanted.delete(id);
  }

  get endpoints(): number {
    let sum = 0;
    for (const { reachable } of this.#wanted.values()) sum += reachable.length;
    return sum;
  }

  stats(): RelayStats {
    return this.#relay.stats();
  }

  placesOf(resolved: ResolvedPort): string[] {
    return (this.#keys.get(resolved.port.id) ?? []).flatMap(key => {
      const { frontend, listener } = this.#listening.get(key) ?? {};
      if (!frontend || !listener) return [];
      const { listen } = this.#options.config;
      const address = joinHostPort(frontend.family === 4 ? listen.v4 : listen.v6, listener.port);
      const portals = frontend.portals.map(({ ip, port }) =>
        ip === undefined ? `node port ${port}` : joinHostPort(ip, port),
      );
      return [`relay ${frontend.protocol.toLowerCase()} ${address} for ${portals.join(', ')}`];
    });
  }

  async sync(): Promise<void> {
    const { families, config, setDesired, settled } = this.#options;
    const refused: unknown[] = [];
    for (const id of this.#changed)
      try {
        this.#serve(id);
        this.#changed.delete(id);
      } catch (error) {
        refused.push(error);
      }
    const { listen, nodePortAddresses } = config;
    const served = [...this.#listening.values()].map(toServed);
    setDesired(
      planUserspace(served, { families, listen, ...(nodePortAddresses ? { nodePortAddresses } : {}) }),
    );
    await settled?.();
    this.#settle();
    // The others are served by now; what was refused is tried again.
    if (refused.length > 0) throw refused[0];
  }

  /**
   * Rules and listeners stay for a while, until whoever comes after in this process (another mode, other addresses) has
   * rules of its own; connections stay until they end. With the process everything of the relay ends.
   */
  stop(): void {
    // In a given range the next one may need the very same ports.
    const listenMs = this.#options.config.portRange ? 0 : LINGER_MS;
    if (listenMs === 0) this.#leave();
    else setTimeout(() => this.#leave(), listenMs).unref();
  }

  #leave(): void {
    this.#leaving.push(...this.#listening.values());
    this.#listening.clear();
    this.#keys.clear();
    this.#opened = [];
    this.#settle();
    this.#relay.drain().catch(error => this.#options.log?.error(`end the relay: ${errorMessage(error)}`));
  }

  /** The rules are in place: nothing leads to what is leaving. */
  #settle(): void {
    const closed = this.#leaving.splice(0);
    for (const { listener } of closed) {
      listener.close();
      this.#ports.give(listener.port);
    }
    const opened = this.#opened.splice(0);
    const closedUdp = closed.filter(({ frontend }) => frontend.protocol === 'UDP');
    try {
      removeStaleUdpFlows(
        this.#options.netns,
        opened.map(toServed),
        new Set(closedUdp.map(({ listener }) => listener.port)),
      );
    } catch (error) {
      this.#options.log?.error(`remove stale UDP flows: ${errorMessage(error)}`);
    }
  }

  #serve(id: string): void {
    const resolved = this.#wanted.get(id);
    const frontends = resolved ? frontendsOf(resolved) : [];
    const keys = frontends.map(({ key }) => key);
    for (const frontend of frontends) this.#open(frontend);
    for (const key of this.#keys.get(id) ?? []) {
      const gone = keys.includes(key) ? undefined : this.#listening.get(key);
      if (!gone) continue;
      this.#listening.delete(key);
      this.#leaving.push(gone);
    }
    if (keys.length > 0) this.#keys.set(id, keys);
    else this.#keys.delete(id);
  }

  #open(frontend: Frontend): void {
    const present = this.#listening.get(frontend.key);
    if (present && present.frontend.affinitySeconds === frontend.affinitySeconds) {
      present.frontend = frontend;
      present.listener.setEndpoints(frontend.endpoints);
      return;
    }
    const listener = this.#listen(frontend);
    if (present) this.#leaving.push(present);
    const listening = { frontend, listener };
    this.#opened.push(listening);
    this.#listening.set(frontend.key, listening);
  }

  #listen({ family, protocol, affinitySeconds, endpoints }: Frontend): RelayListener {
    const { config } = this.#options;
    for (const port of this.#ports.candidates())
      try {
        const listener = this.#relay.open({
          protocol,
          address: family === 4 ? config.listen.v4 : config.listen.v6,
          port,
          affinityMs: affinitySeconds * 1000,
          udpIdleMs: config.udpIdleMs,
          endpoints,
        });
        this.#ports.take(listener.port);
        return listener;
      } catch (error) {
        if (!hasCode(error, 'EADDRINUSE')) throw error;
      }
    throw this.#ports.exhausted();
  }
}
