// The userspace mode: a listener of the relay for each frontend of a service port, and rules that lead there. Order
// matters: a listener is there before the rule that names it, and goes after it.
import type { KernelState } from '../../../src/kernel/state.ts';
import { errorMessage, PodwireError } from '../../../src/lib/errors.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import type { Logger } from '../../../src/observe/log.ts';
import { type Family, joinHostPort, type ResolvedPort } from '../../model/types.ts';
import type { ProxyBackend } from '../backend.ts';
import { HostedRelay, type RelayHostChoice } from './apply/hosted-relay.ts';
import type { RelayStats } from './apply/messages.ts';
import {
  type ClosedPort,
  LocalRelay,
  type RelayService,
  type ServiceListener,
} from './apply/relay-service.ts';
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

export interface UserspaceBackendOptions {
  families: readonly Family[];
  config: UserspaceConfig;
  netns?: Netns;
  setDesired: (state: KernelState) => void;
  settled?: () => Promise<void>;
  /** The relay as a process of its own, that outlives this one; it runs in this one when absent. */
  relayHost?: RelayHostChoice;
  /** The relay has to be told everything anew: `sync` is to be called. */
  onRelayLost?: () => void;
  log?: Logger;
}

interface Listening {
  frontend: Frontend;
  /** The relay's name for the listener. */
  key: string;
  port: number;
}

function toServed({ frontend, port }: Listening): Served {
  return { frontend, proxyPort: port };
}

export class UserspaceBackend implements ProxyBackend {
  readonly #options: UserspaceBackendOptions;
  readonly #relay: RelayService;
  readonly #wanted = new Map<string, ResolvedPort>();
  readonly #changed = new Set<string>();
  readonly #listening = new Map<string, Listening>();
  /** Keys of a service port's frontends that listen. */
  readonly #keys = new Map<string, string[]>();
  #leaving: Listening[] = [];
  #opened: Listening[] = [];
  /** The relay may have listeners of an earlier life. */
  #inherits = true;
  /** Counts the relays that were lost. */
  #life = 0;

  constructor(options: UserspaceBackendOptions) {
    this.#options = options;
    const { netns, log, relayHost: host } = options;
    const shared = { ...(netns ? { netns } : {}), ...(log ? { log } : {}) };
    this.#relay = host
      ? new HostedRelay({ host, onLost: end => this.#onLost(end), ...shared })
      : new LocalRelay(shared);
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
      const { frontend, port: proxyPort } = this.#listening.get(key) ?? {};
      if (!frontend || !proxyPort) return [];
      const { listen } = this.#options.config;
      const address = joinHostPort(frontend.family === 4 ? listen.v4 : listen.v6, proxyPort);
      const portals = frontend.portals.map(({ ip, port }) =>
        ip === undefined ? `node port ${port}` : joinHostPort(ip, port),
      );
      return [`relay ${frontend.protocol.toLowerCase()} ${address} for ${portals.join(', ')}`];
    });
  }

  async sync(): Promise<void> {
    const { families, config, setDesired, settled } = this.#options;
    const refused: unknown[] = [];
    const serve = async (id: string): Promise<void> => {
      try {
        await this.#serve(id);
      } catch (error) {
        this.#changed.add(id);
        refused.push(error);
      }
    };
    const changed = [...this.#changed];
    this.#changed.clear();
    const life = this.#life;
    await Promise.all(changed.map(serve));
    this.#checkLife(life);
    const { listen, nodePortAddresses } = config;
    const served = [...this.#listening.values()].map(toServed);
    setDesired(
      planUserspace(served, { families, listen, ...(nodePortAddresses ? { nodePortAddresses } : {}) }),
    );
    await settled?.();
    this.#checkLife(life);
    await this.#settle();
    // The others are served by now; what was refused is tried again.
    if (refused.length > 0) throw refused[0];
  }

  /** The rules stay, and the listeners as long as the relay can. */
  stop(): void {
    this.#relay.leave(closed => this.#removeFlows([], closed));
  }

  /** Everything is opened again; the rules stay until then, and follow. Who was replaced does not fight for it. */
  #onLost(end: 'lost' | 'replaced'): void {
    this.#listening.clear();
    this.#leaving = [];
    this.#opened = [];
    this.#inherits = true;
    this.#life++;
    for (const id of this.#wanted.keys()) this.#changed.add(id);
    if (end === 'lost') this.#options.onRelayLost?.();
  }

  /** Half of the listeners would be of a relay that is gone: rather no change of rules. */
  #checkLife(life: number): void {
    if (life !== this.#life) throw new PodwireError('RELAY_LOST', 'the relay host went while it was told');
  }

  /** The rules are in place: nothing leads to what is leaving. */
  async #settle(): Promise<void> {
    const closed: ClosedPort[] = this.#leaving.splice(0).map(({ frontend, key, port }) => {
      this.#relay.close(key);
      return { protocol: frontend.protocol, port };
    });
    const opened = this.#opened.splice(0);
    if (this.#inherits) {
      closed.push(...(await this.#relay.retain()));
      this.#inherits = false;
    }
    this.#removeFlows(opened, closed);
  }

  #removeFlows(opened: readonly Listening[], closed: readonly ClosedPort[]): void {
    const closedUdp = closed.filter(({ protocol }) => protocol === 'UDP').map(({ port }) => port);
    try {
      removeStaleUdpFlows(this.#options.netns, opened.map(toServed), new Set(closedUdp));
    } catch (error) {
      this.#options.log?.error(`remove stale UDP flows: ${errorMessage(error)}`);
    }
  }

  async #serve(id: string): Promise<void> {
    const resolved = this.#wanted.get(id);
    const frontends = resolved ? frontendsOf(resolved) : [];
    const keys = frontends.map(({ key }) => key);
    const results = await Promise.allSettled(frontends.map(frontend => this.#open(frontend)));
    for (const key of this.#keys.get(id) ?? []) {
      const gone = keys.includes(key) ? undefined : this.#listening.get(key);
      if (!gone) continue;
      this.#listening.delete(key);
      this.#leaving.push(gone);
    }
    if (keys.length > 0) this.#keys.set(id, keys);
    else this.#keys.delete(id);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  async #open(frontend: Frontend): Promise<void> {
    const present = this.#listening.get(frontend.key);
    const listener = this.#listenerOf(frontend);
    const key = listenerKey(frontend.key, listener);
    if (present?.key === key) {
      present.frontend = frontend;
      this.#relay.setEndpoints(key, listener.endpoints);
      return;
    }
    const port = await this.#relay.open(key, listener);
    if (present && this.#listening.get(frontend.key) === present) this.#leaving.push(present);
    const listening = { frontend, key, port };
    this.#opened.push(listening);
    this.#listening.set(frontend.key, listening);
  }

  #listenerOf({ family, protocol, affinitySeconds, endpoints }: Frontend): ServiceListener {
    const { listen, portRange, udpIdleMs } = this.#options.config;
    return {
      protocol,
      address: family === 4 ? listen.v4 : listen.v6,
      ...(portRange ? { portRange } : {}),
      affinityMs: affinitySeconds * 1000,
      udpIdleMs,
      endpoints: endpoints.map(({ ip, port }) => ({ ip, port })),
    };
  }
}

/** Another kind of listener has another name: the relay has both until the rules lead to the new one. */
function listenerKey(frontendKey: string, { endpoints: _, ...kind }: ServiceListener): string {
  return `${frontendKey} ${JSON.stringify(kind)}`;
}
