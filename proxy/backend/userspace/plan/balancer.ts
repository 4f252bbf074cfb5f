// Which endpoint a client gets in userspace mode (Kubernetes 1.20 pkg/proxy/userspace/roundrobin.go): one after the
// other, and with session affinity the one it had before, for so long after its last connection. Pure: the clock and
// the turn counter are passed in, so that several threads can share one turn.

interface Sticky<E> {
  endpoint: E;
  usedAtMs: number;
}

export interface BalancerOptions {
  /** The next turn's number; shared by all who serve one Service port. */
  turn: () => number;
  now: () => number;
  /** 0: no affinity. */
  affinityMs: number;
}

/** More clients than this are forgotten, those longest unseen first. */
const MAX_CLIENTS = 65_536;

export class Balancer<E> {
  readonly #options: BalancerOptions;
  #endpoints: readonly E[] = [];
  /** By client address, in the order of last use. */
  readonly #clients = new Map<string, Sticky<E>>();

  constructor(options: BalancerOptions) {
    this.#options = options;
  }

  get endpoints(): readonly E[] {
    return this.#endpoints;
  }

  get clients(): number {
    return this.#clients.size;
  }

  /** Clients of endpoints that are gone get another one. Equal endpoints must be the same objects. */
  setEndpoints(endpoints: readonly E[]): void {
    this.#endpoints = endpoints;
    const present = new Set(endpoints);
    for (const [client, { endpoint }] of this.#clients)
      if (!present.has(endpoint)) this.#clients.delete(client);
  }

  /** `again`: the endpoint this client was given did not answer. */
  next(client: string, again = false): E | undefined {
    if (this.#endpoints.length === 0) return undefined;
    const { affinityMs, now, turn } = this.#options;
    if (affinityMs > 0 && !again) {
      const known = this.#clients.get(client);
      if (known && now() - known.usedAtMs < affinityMs) {
        this.#remember(client, known.endpoint);
        return known.endpoint;
      }
    }
    const endpoint = this.#endpoints[turn() % this.#endpoints.length];
    if (affinityMs > 0 && endpoint !== undefined) this.#remember(client, endpoint);
    return endpoint;
  }

  #remember(client: string, endpoint: E): void {
    const { affinityMs, now } = this.#options;
    this.#clients.delete(client);
    this.#clients.set(client, { endpoint, usedAtMs: now() });
    // The oldest are in front: what is over goes with each use, and the table stays bounded.
    for (const [oldest, { usedAtMs }] of this.#clients) {
      if (this.#clients.size <= MAX_CLIENTS && now() - usedAtMs < affinityMs) break;
      this.#clients.delete(oldest);
    }
  }
}

/** A random order, so that the nodes of a cluster do not all begin with the same endpoint. */
export function shuffle<T>(list: readonly T[], random: () => number = Math.random): T[] {
  const copy = [...list];
  for (let last = copy.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [copy[last], copy[other]] = [copy[other]!, copy[last]!];
  }
  return copy;
}
