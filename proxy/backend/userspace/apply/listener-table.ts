// The relay's listeners by key, each on a port of its own. A key stands for all that a listener is but its endpoints: who
// opens one that is there gets the port it has. Both ways to have a relay (in this process, in one of its own) rest on it.
import { hasCode } from '../../../../src/lib/errors.ts';
import { PortAllocator } from './port-allocator.ts';
import type { Relay, RelayListener } from './relay.ts';
import type { ClosedPort, ServiceListener, SocketAddress } from './relay-service.ts';

interface Entry {
  spec: ServiceListener;
  listener: RelayListener;
  ports: PortAllocator;
}

export class ListenerTable {
  readonly #relay: Relay;
  readonly #entries = new Map<string, Entry>();
  readonly #allocators = new Map<string, PortAllocator>();

  constructor(relay: Relay) {
    this.#relay = relay;
  }

  get size(): number {
    return this.#entries.size;
  }

  keys(): string[] {
    return [...this.#entries.keys()];
  }

  /** The port; PORTS_EXHAUSTED when none of the range is free. */
  open(key: string, spec: ServiceListener): number {
    const present = this.#entries.get(key);
    if (present && sameListener(present.spec, spec)) {
      present.listener.setEndpoints(spec.endpoints);
      return present.listener.port;
    }
    const ports = this.#allocator(spec.portRange);
    const listener = this.#listen(spec, ports);
    if (present) this.close(key);
    this.#entries.set(key, { spec: { ...spec, endpoints: [] }, listener, ports });
    return listener.port;
  }

  setEndpoints(key: string, endpoints: readonly SocketAddress[]): void {
    this.#entries.get(key)?.listener.setEndpoints(endpoints);
  }

  /** Connections that it accepted go on (TCP). What was closed, if there was such a listener. */
  close(key: string): ClosedPort[] {
    const entry = this.#entries.get(key);
    if (!entry) return [];
    this.#entries.delete(key);
    const { listener, ports, spec } = entry;
    listener.close();
    ports.give(listener.port);
    return [{ protocol: spec.protocol, port: listener.port }];
  }

  #listen(spec: ServiceListener, ports: PortAllocator): RelayListener {
    const { portRange: _, ...rest } = spec;
    for (const port of ports.candidates())
      try {
        const listener = this.#relay.open({ ...rest, port });
        ports.take(listener.port);
        return listener;
      } catch (error) {
        if (!hasCode(error, 'EADDRINUSE')) throw error;
      }
    throw ports.exhausted();
  }

  #allocator(range: ServiceListener['portRange']): PortAllocator {
    const name = range ? `${range.first}-${range.last}` : '';
    const known = this.#allocators.get(name) ?? new PortAllocator(range);
    this.#allocators.set(name, known);
    return known;
  }
}

function sameListener(one: ServiceListener, other: ServiceListener): boolean {
  return (
    one.protocol === other.protocol &&
    one.address === other.address &&
    one.affinityMs === other.affinityMs &&
    one.udpIdleMs === other.udpIdleMs &&
    one.portRange?.first === other.portRange?.first &&
    one.portRange?.last === other.portRange?.last
  );
}
