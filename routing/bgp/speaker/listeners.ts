// The speaker's listening sockets, and the TCP MD5 keys that must be on them before a peer's SYN arrives.
import type { Socket } from 'node:net';
import type { PeerConfig } from '../session/peer-config.ts';
import type { Listener, Transport } from '../session/transport.ts';

export class Listeners {
  readonly #transport: Transport;
  readonly #onConnection: (socket: Socket) => void;
  /** Keys by peer address, for listeners that come later. */
  readonly #keys = new Map<string, string>();
  #listeners: Listener[] = [];

  constructor(transport: Transport, onConnection: (socket: Socket) => void) {
    this.#transport = transport;
    this.#onConnection = onConnection;
  }

  /** Opens and closes what differs. */
  async apply(wanted: readonly { readonly address: string; readonly port: number }[]): Promise<void> {
    const left = new Map(wanted.map(one => [`${one.address} ${one.port}`, one]));
    this.#listeners = this.#listeners.filter(listener => {
      if (left.delete(`${listener.address} ${listener.port}`)) return true;
      listener.close();
      return false;
    });
    for (const { address, port } of left.values()) {
      const onConnection = this.#onConnection;
      const listener = await this.#transport.listen({ address, port, onConnection });
      this.#listeners.push(listener);
      for (const [peer, key] of this.#keys) setKey(listener, peer, key);
    }
  }

  /** RFC 2385: sets the peer's key on the listeners of its family, or takes it away. */
  setPassword({ address, password }: PeerConfig, present: boolean): void {
    if (password === undefined) return;
    if (present) this.#keys.set(address, password);
    else this.#keys.delete(address);
    for (const listener of this.#listeners) setKey(listener, address, present ? password : undefined);
  }

  close(): void {
    for (const listener of this.#listeners) listener.close();
    this.#listeners = [];
  }
}

function setKey(listener: Listener, peer: string, key: string | undefined): void {
  if (listener.address.includes(':') === peer.includes(':')) listener.setPassword(peer, key);
}
