// BFD for the sessions that ask for it: the path is watched while a session is up.
import { canonicalIp } from '../../../src/lib/ip.ts';
import type { Logger } from '../../../src/observe/log.ts';
import type { Peer } from '../session/peer.ts';
import type { PathState, PathWatch } from './speaker-options.ts';

export class PathWatcher {
  readonly #bfd: PathWatch | undefined;
  readonly #log: Logger;

  constructor(bfd: PathWatch | undefined, log: Logger) {
    this.#bfd = bfd;
    this.#log = log;
  }

  watch(peer: Peer): void {
    const { bfd, address } = peer.config;
    const local = canonicalIp(peer.localAddress ?? '');
    if (bfd === undefined || local === undefined) return;
    try {
      this.#bfd?.watch(address, local, bfd);
    } catch (error) {
      this.#log.warn({ peer: peer.name, error }, 'BFD could not be started');
    }
  }

  unwatch(address: string): void {
    this.#bfd?.unwatch(address);
  }

  state(address: string): PathState | undefined {
    return this.#bfd?.state(address);
  }
}
