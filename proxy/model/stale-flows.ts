// Which tracked UDP flows must go (Kubernetes pkg/proxy/conntrack/cleanup.go). UDP has no end: a client that keeps its
// port keeps its conntrack entry, and with it an endpoint that is gone, or none at all. A flow is matched by address AND
// port, so that two Services on one load balancer address are told apart; Services without endpoints and deleted ones
// count too (kubernetes#139628, #141371). SCTP and TCP end by themselves. Pure.
import { type Family, joinHostPort, type ResolvedPort } from './types.ts';

/** A UDP entry of the connection tracker. */
export interface UdpFlow {
  original: { source: string; destination: string; sourcePort: number; destinationPort: number };
  /** What the answer looks like: its source is the endpoint after DNAT. */
  reply: { source: string; sourcePort: number };
}

const NOBODY: ReadonlySet<string> = new Set();

/** The addresses and ports that UDP Services answer on, with the endpoints that may answer. */
export class UdpFrontends {
  readonly #byAddress = new Map<string, ReadonlySet<string>>();
  readonly #byNodePort = new Map<string, ReadonlySet<string>>();

  add({ port, serving = [] }: ResolvedPort): void {
    if (port.protocol !== 'UDP') return;
    const allowed = new Set(serving);
    for (const ip of [port.clusterIp, ...port.externalIps, ...port.loadBalancerIps])
      this.#byAddress.set(joinHostPort(ip, port.port), allowed);
    if (port.nodePort !== 0) this.#byNodePort.set(`${port.family} ${port.nodePort}`, allowed);
  }

  /** A frontend without endpoints; without `ip` a node port. */
  addForgotten(family: Family, ip: string | undefined, port: number): void {
    if (ip === undefined) this.#byNodePort.set(`${family} ${port}`, NOBODY);
    else this.#byAddress.set(joinHostPort(ip, port), NOBODY);
  }

  get size(): number {
    return this.#byAddress.size + this.#byNodePort.size;
  }

  /** The endpoints that may answer this flow; undefined when it is not for a UDP Service. */
  allowed(flow: UdpFlow, isNodeAddress: (ip: string) => boolean): ReadonlySet<string> | undefined {
    const { destination, destinationPort } = flow.original;
    const direct = this.#byAddress.get(joinHostPort(destination, destinationPort));
    if (direct || this.#byNodePort.size === 0) return direct;
    const nodePort = this.#byNodePort.get(`${destination.includes(':') ? 6 : 4} ${destinationPort}`);
    return nodePort && isNodeAddress(destination) ? nodePort : undefined;
  }
}

/** True when the kernel would send this flow's next packet where no endpoint of its Service answers. */
export function isStale(
  flow: UdpFlow,
  now: UdpFrontends,
  gone: UdpFrontends,
  isNodeAddress: (ip: string) => boolean,
  isClusterIp: (ip: string) => boolean = () => false,
): boolean {
  const endpoint = joinHostPort(flow.reply.source, flow.reply.sourcePort);
  const allowed = now.allowed(flow, isNodeAddress);
  if (allowed) return !allowed.has(endpoint);
  // A Service that is gone: what was translated for it must not be any more. A flow that never was stays.
  const translated = flow.reply.source !== flow.original.destination;
  // Nobody but a service proxy translates what is sent into the Services' own network.
  return (
    translated && (gone.allowed(flow, isNodeAddress) !== undefined || isClusterIp(flow.original.destination))
  );
}
