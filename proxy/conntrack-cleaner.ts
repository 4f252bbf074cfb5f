// Removes tracked UDP flows that the rules of now would not make (proxy/model/stale-flows.ts says which). The tracker is
// dumped only when a UDP Service's addresses or endpoints changed, and once after the start.
import { Conntrack, type ConntrackFlow } from '../src/linux/conntrack.ts';
import type { Netns } from '../src/linux/netns.ts';
import { Rtnetlink } from '../src/linux/rtnetlink.ts';
import { isStale, type UdpFlow, UdpFrontends } from './model/stale-flows.ts';
import type { ResolvedPort } from './model/types.ts';

const IPPROTO_UDP = 17;

export interface Cleaned {
  deleted: number;
  durationMs: number;
}

export class ConntrackCleaner {
  readonly #netns: Netns | undefined;
  #ports: ReadonlyMap<string, ResolvedPort> = new Map();
  /** Of the sync before: what a Service that is gone now answered on. */
  #frontends = new UdpFrontends();

  constructor(netns?: Netns) {
    this.#netns = netns;
  }

  /** To be called when the rules of these ports are in the kernel; undefined when there was nothing to look for. */
  sync(ports: Iterable<ResolvedPort>): Cleaned | undefined {
    const now = new Map<string, ResolvedPort>();
    for (const resolved of ports) if (resolved.port.protocol === 'UDP') now.set(resolved.port.id, resolved);
    const before = this.#ports;
    // The model keeps the object of a port that did not change.
    if (before.size === now.size && [...now].every(([id, resolved]) => before.get(id) === resolved))
      return undefined;
    const frontends = new UdpFrontends();
    for (const resolved of now.values()) frontends.add(resolved);
    const started = performance.now();
    const deleted = this.#clean(frontends, this.#frontends);
    // Only now: what was refused is tried again by the next sync.
    this.#ports = now;
    this.#frontends = frontends;
    return { deleted, durationMs: performance.now() - started };
  }

  #clean(now: UdpFrontends, gone: UdpFrontends): number {
    const own = this.#ownAddresses();
    using conntrack = Conntrack.open(this.#netns);
    return conntrack.deleteWhere(flow => isStale(toUdpFlow(flow), now, gone, ip => own.has(ip)), {
      protocol: IPPROTO_UDP,
    });
  }

  #ownAddresses(): Set<string> {
    using rt = Rtnetlink.open(this.#netns);
    return new Set(rt.listAddresses().map(({ address }) => address.split('/')[0] ?? ''));
  }
}

function toUdpFlow({ original, reply }: ConntrackFlow): UdpFlow {
  return {
    original: {
      source: original.source,
      destination: original.destination,
      sourcePort: original.sourcePort ?? 0,
      destinationPort: original.destinationPort ?? 0,
    },
    reply: { source: reply.source, sourcePort: reply.sourcePort ?? 0 },
  };
}
