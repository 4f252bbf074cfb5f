// Make before break: a session between nodes that the plan has no place for any more (a mesh that became a star) ends some
// seconds later than the plan says, when what replaces it carries the routes on every node. A node that is gone, and
// whoever is no node of this cluster, is let go at once. Pure; the time is passed in.
import type { PeerConfig } from '../../../routing/bgp/session/peer-config.ts';

/** Longer than all nodes need to see the same objects and to tell each other what follows. */
const LINGER_MS = 10_000;

export class LingeringPeers {
  #before: readonly PeerConfig[] = [];
  readonly #untilMs = new Map<string, number>();

  /** The peers to have now, and after how long to ask again. */
  apply(
    planned: readonly PeerConfig[],
    isNode: (address: string) => boolean,
    nowMs: number,
  ): { peers: readonly PeerConfig[]; againInMs: number | undefined } {
    const addresses = new Set(planned.map(({ address }) => address));
    const lingering: PeerConfig[] = [];
    for (const peer of this.#before) {
      if (addresses.has(peer.address) || !isNode(peer.address)) continue;
      const until = this.#untilMs.get(peer.address) ?? nowMs + LINGER_MS;
      if (until <= nowMs) continue;
      this.#untilMs.set(peer.address, until);
      lingering.push(peer);
    }
    const kept = new Set(lingering.map(({ address }) => address));
    for (const address of this.#untilMs.keys()) if (!kept.has(address)) this.#untilMs.delete(address);
    this.#before = [...planned, ...lingering];
    const ends = [...this.#untilMs.values()];
    return {
      peers: lingering.length === 0 ? planned : this.#before,
      againInMs: ends.length === 0 ? undefined : Math.min(...ends) - nowMs,
    };
  }
}
