// BFD on the wire: single hop (RFC 5881), UDP 3784, TTL 255 both ways (section 5: anything that passed a router is
// dropped by the kernel). One endpoint a speaker; sessions are found by their discriminator, first by address.
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { canonicalIp, ipFamily } from '../../../src/lib/ip.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import { openUdpSocket } from '../../../src/linux/socket-options.ts';
import type { Logger } from '../../../src/observe/log.ts';
import type { BfdConfig } from '../session/peer-config.ts';
import { type BfdPacket, type BfdState, decodeBfd, encodeBfd } from './packet.ts';
import { type BfdResult, BfdSession } from './session.ts';

const CONTROL_PORT = 3784;
const TTL = 255;
/** RFC 5881 section 4: source ports are 49152 to 65535. */
const FIRST_SOURCE_PORT = 49152;
const SOURCE_PORTS = 16384;

export interface BfdEndpointOptions {
  readonly netns?: Netns;
  readonly log: Logger;
  readonly onChange: (peer: string, state: BfdState) => void;
}

interface Watched {
  readonly session: BfdSession;
  readonly peer: string;
  readonly socket: Socket;
  timer: NodeJS.Timeout | undefined;
}

export class BfdEndpoint {
  readonly #options: BfdEndpointOptions;
  readonly #receivers = new Map<string, Socket>();
  readonly #byPeer = new Map<string, Watched>();
  readonly #byDiscriminator = new Map<number, Watched>();
  #next = 1;

  constructor(options: BfdEndpointOptions) {
    this.#options = options;
  }

  state(peer: string): BfdState | undefined {
    return this.#byPeer.get(peer)?.session.state;
  }

  /** Starts a session with a peer. Fast timers only begin once both sides agree. */
  async watch(peer: string, local: string, config: BfdConfig): Promise<void> {
    this.unwatch(peer);
    await this.#receiveOn(local);
    const discriminator = this.#next++;
    const family = ipFamily(peer) ?? 4;
    const fd = openUdpSocket(family, {
      ...(this.#options.netns === undefined ? {} : { netns: this.#options.netns }),
      localAddress: local,
      localPort: FIRST_SOURCE_PORT + (discriminator % SOURCE_PORTS),
      ttl: TTL,
    });
    const socket = createSocket(family === 4 ? 'udp4' : 'udp6');
    socket.on('error', error => this.#options.log.warn({ peer, error }, 'BFD send'));
    // With a descriptor bind() is done, and has told so, before it returns.
    const listening = once(socket, 'listening');
    socket.bind({ fd });
    await listening;
    const session = new BfdSession({ ...config, discriminator, random: Math.random });
    const watched: Watched = { session, peer, socket, timer: undefined };
    this.#byPeer.set(peer, watched);
    this.#byDiscriminator.set(discriminator, watched);
    this.#schedule(watched);
  }

  unwatch(peer: string): void {
    const watched = this.#byPeer.get(peer);
    if (watched === undefined) return;
    clearTimeout(watched.timer);
    watched.socket.send(encodeBfd(watched.session.adminDown()), CONTROL_PORT, peer, () =>
      watched.socket.close(),
    );
    this.#byPeer.delete(peer);
    this.#byDiscriminator.delete(watched.session.discriminator);
  }

  close(): void {
    for (const peer of [...this.#byPeer.keys()]) this.unwatch(peer);
    for (const socket of this.#receivers.values()) socket.close();
    this.#receivers.clear();
  }

  async #receiveOn(local: string): Promise<void> {
    if (this.#receivers.has(local)) return;
    const family = ipFamily(local) ?? 4;
    const fd = openUdpSocket(family, {
      ...(this.#options.netns === undefined ? {} : { netns: this.#options.netns }),
      localAddress: local,
      localPort: CONTROL_PORT,
      minTtl: TTL,
    });
    const socket = createSocket(family === 4 ? 'udp4' : 'udp6');
    this.#receivers.set(local, socket);
    socket.on('error', error => this.#options.log.warn({ local, error }, 'BFD receive'));
    socket.on('message', (bytes, from) => this.#received(bytes, canonicalIp(from.address) ?? ''));
    // With a descriptor bind() is done, and has told so, before it returns.
    const listening = once(socket, 'listening');
    socket.bind({ fd });
    await listening;
  }

  #received(bytes: Buffer, from: string): void {
    let packet: BfdPacket;
    try {
      packet = decodeBfd(bytes);
    } catch {
      return;
    }
    const watched =
      packet.yourDiscriminator === 0
        ? this.#byPeer.get(from)
        : this.#byDiscriminator.get(packet.yourDiscriminator);
    if (watched === undefined || watched.peer !== from) return;
    this.#perform(watched, watched.session.received(packet, performance.now()));
  }

  #perform(watched: Watched, result: BfdResult): void {
    for (const packet of result.send) watched.socket.send(encodeBfd(packet), CONTROL_PORT, watched.peer);
    if (result.changed !== undefined) {
      this.#options.log.info(
        { peer: watched.peer, state: result.changed, diagnostic: result.diagnostic },
        'BFD session change',
      );
      this.#options.onChange(watched.peer, result.changed);
    }
    this.#schedule(watched);
  }

  #schedule(watched: Watched): void {
    clearTimeout(watched.timer);
    const wait = Math.max(0, watched.session.deadlineMs - performance.now());
    if (wait === Number.POSITIVE_INFINITY) return;
    watched.timer = setTimeout(() => {
      // As with BGP's hold timer: what waits in the socket is read before silence is judged.
      setImmediate(() => {
        if (this.#byPeer.get(watched.peer) === watched)
          this.#perform(watched, watched.session.timer(performance.now()));
      });
    }, wait);
    watched.timer.unref();
  }
}
