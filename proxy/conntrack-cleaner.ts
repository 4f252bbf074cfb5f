// Removes tracked UDP flows that the rules of now would not make (proxy/model/stale-flows.ts says which). The tracker is
// dumped only when a UDP Service's addresses or endpoints changed, and once after the start.
import { cidrContains, parseCidr } from '../src/lib/cidr.ts';
import { parseIp } from '../src/lib/ip.ts';
import { Conntrack, type ConntrackFlow } from '../src/linux/conntrack.ts';
import type { Netns } from '../src/linux/netns.ts';
import { Rtnetlink } from '../src/linux/rtnetlink.ts';
import type { ForgottenFrontend } from './backend/backend.ts';
import { isStale, type UdpFlow, UdpFrontends } from './model/stale-flows.ts';
import type { ResolvedPort } from './model/types.ts';

const IPPROTO_UDP = 17;

export interface Cleaned {
  deleted: number;
  durationMs: number;
}

/** What Services were before this program knew them: deleted while it did not run, their flows are still there. */
export interface AlsoGone {
  /** Networks in which nothing but Services has addresses. */
  networks?: readonly string[];
  forgotten?: readonly ForgottenFrontend[];
}

export class ConntrackCleaner {
  readonly #netns: Netns | undefined;
  #cleaned = false;
  #ports: ReadonlyMap<string, ResolvedPort> = new Map();
  /** Of the sync before: what a Service that is gone now answered on. */
  #frontends = new UdpFrontends();

  constructor(netns?: Netns) {
    this.#netns = netns;
  }

  /** To be called when the rules of these ports are in the kernel; undefined when there was nothing to look for. */
  sync(ports: Iterable<ResolvedPort>, also: AlsoGone = {}): Cleaned | undefined {
    const now = new Map<string, ResolvedPort>();
    for (const resolved of ports) if (resolved.port.protocol === 'UDP') now.set(resolved.port.id, resolved);
    const before = this.#ports;
    // The model keeps the object of a port that did not change.
    for (const { family, ip, port } of also.forgotten ?? []) this.#frontends.addForgotten(family, ip, port);
    if (
      this.#cleaned &&
      before.size === now.size &&
      [...now].every(([id, resolved]) => before.get(id) === resolved)
    )
      return undefined;
    const frontends = new UdpFrontends();
    for (const resolved of now.values()) frontends.add(resolved);
    const started = performance.now();
    const deleted = this.#clean(frontends, this.#frontends, also.networks ?? []);
    // Only now: what was refused is tried again by the next sync.
    this.#cleaned = true;
    this.#ports = now;
    this.#frontends = frontends;
    return { deleted, durationMs: performance.now() - started };
  }

  #clean(now: UdpFrontends, gone: UdpFrontends, networks: readonly string[]): number {
    const own = this.#ownAddresses();
    const cidrs = networks.flatMap(text => parseCidr(text) ?? []);
    const isClusterIp = (ip: string): boolean => {
      const address = cidrs.length === 0 ? undefined : parseIp(ip);
      return address !== undefined && cidrs.some(cidr => cidrContains(cidr, address));
    };
    using conntrack = Conntrack.open(this.#netns);
    return conntrack.deleteWhere(
      flow => isStale(toUdpFlow(flow), now, gone, ip => own.has(ip), isClusterIp),
      {
        protocol: IPPROTO_UDP,
      },
    );
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
