// Node ports on localhost where no rule can serve them: the nftables mode never touches 127.0.0.1 (it would take
// route_localnet, and ::1 cannot be done at all), so a relay listens there, TCP, both families, when asked to (KEP-6032).
import { errorMessage } from '../../../src/lib/errors.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import type { Logger } from '../../../src/observe/log.ts';
import type { ResolvedPort } from '../../model/types.ts';
import { Relay, type RelayListener } from './apply/relay.ts';

const LOOPBACK = { 4: '127.0.0.1', 6: '::1' } as const;

interface Open {
  resolved: ResolvedPort;
  listener: RelayListener;
}

export class LocalhostNodePorts {
  readonly #relay: Relay;
  readonly #log: Logger | undefined;
  readonly #open = new Map<string, Open>();

  constructor(options: { netns?: Netns; log?: Logger } = {}) {
    this.#relay = new Relay({ ...options, threads: 1 });
    this.#log = options.log;
  }

  /** Listens for exactly these; a port that somebody else has is said and tried again with the next sync. */
  sync(ports: Iterable<ResolvedPort>): void {
    const wanted = new Map<string, ResolvedPort>();
    for (const resolved of ports) {
      const { port, cluster, local } = resolved;
      // What the node itself sends is not from outside: it takes the endpoints of policy Cluster. Nobody there: refused.
      const endpoints = cluster.length > 0 ? cluster : local;
      if (port.protocol === 'TCP' && port.nodePort !== 0 && endpoints.length > 0)
        wanted.set(`${port.family} ${port.nodePort}`, resolved);
    }
    for (const [key, { listener }] of this.#open)
      if (!wanted.has(key)) {
        listener.close();
        this.#open.delete(key);
      }
    for (const [key, resolved] of wanted) this.#serve(key, resolved);
  }

  /** Connections through localhost end. */
  stop(): Promise<void> {
    return this.#relay.stop();
  }

  #serve(key: string, resolved: ResolvedPort): void {
    const { port, cluster, local } = resolved;
    const endpoints = cluster.length > 0 ? cluster : local;
    const open = this.#open.get(key);
    if (open?.resolved === resolved) return;
    if (open && open.resolved.port.affinitySeconds === port.affinitySeconds) {
      open.resolved = resolved;
      open.listener.setEndpoints(endpoints);
      return;
    }
    open?.listener.close();
    this.#open.delete(key);
    try {
      const listener = this.#relay.open({
        protocol: 'TCP',
        address: LOOPBACK[port.family],
        port: port.nodePort,
        affinityMs: port.affinitySeconds * 1000,
        endpoints,
      });
      this.#open.set(key, { resolved, listener });
    } catch (error) {
      this.#log?.warn(
        { service: port.name, nodePort: port.nodePort },
        `on localhost: ${errorMessage(error)}`,
      );
    }
  }
}
