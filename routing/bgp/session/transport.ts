// How the speaker gets TCP connections: an interface, so that tests can do without a kernel. tcp.ts is the real one.
import type { Socket } from 'node:net';

export interface ListenOptions {
  readonly address: string;
  readonly port: number;
  readonly onConnection: (socket: Socket) => void;
}

export interface Listener {
  readonly address: string;
  readonly port: number;
  /** RFC 2385: must be there before the peer's SYN. An undefined key takes it away. */
  setPassword(peer: string, key: string | undefined): void;
  close(): void;
}

export interface ConnectOptions {
  readonly address: string;
  readonly port: number;
  readonly localAddress?: string | undefined;
  readonly password?: string | undefined;
  /** RFC 5082: send with TTL 255, refuse less than this. */
  readonly minTtl?: number | undefined;
  /** TTL of what is sent; 1 keeps an external session on the link. */
  readonly ttl?: number | undefined;
}

export interface Transport {
  listen(options: ListenOptions): Promise<Listener>;
  /** A socket that is connecting; errors come as its events. */
  connect(options: ConnectOptions): Socket;
  /** RFC 2385: another key, or none, for a connection that is open or opening; throws KernelError where that cannot be. */
  setPassword(socket: Socket, peer: string, key: string | undefined): void;
  /** RFC 5082 on a connection that was accepted; false when it comes from further away and must be closed. */
  secureAccepted(socket: Socket, minTtl: number): boolean;
}
