// BFD on the wire. Single hop (RFC 5881): UDP 3784, TTL 255 both ways (section 5: what passed a router is dropped by the
// kernel). With routers between (RFC 5883): UDP 4784 and any TTL. One endpoint a speaker; sessions are found by their
// discriminator, first by address.
import { createSocket, type Socket } from 'node:dgram';
import { canonicalIp, type IpFamily, ipFamily } from '../../../src/lib/ip.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import { openUdpSocket, type SocketOptions } from '../../../src/linux/socket-options.ts';
import type { Logger } from '../../../src/observe/log.ts';
import type { BfdConfig } from '../session/peer-config.ts';
import type { PathState, PathWatch } from '../speaker/speaker-options.ts';
import { type BfdPacket, type BfdState, DIAGNOSTIC, decodeBfd, encodeBfd } from './packet.ts';
import { type BfdResult, BfdSession } from './session.ts';

const SINGLE_HOP_PORT = 3784;
const MULTI_HOP_PORT = 4784;
const TTL = 255;
/** RFC 5881 section 4: source ports are 49152 to 65535. */
const FIRST_SOURCE_PORT = 49152;
const SOURCE_PORTS = 16384;
/** RFC 5880 section 6.8.1: discriminators of one system differ; of one that restarted they had better differ too. */
const MAX_DISCRIMINATOR = 0xffffffff;

const REASON: Readonly<Record<number, string>> = {
  [DIAGNOSTIC.DETECTION_TIME_EXPIRED]: 'nothing came from the peer for the detection time',
  [DIAGNOSTIC.NEIGHBOUR_DOWN]: 'the peer says that it is down',
};

export interface BfdEndpointOptions {
  readonly netns?: Netns;
  readonly log: Logger;
  /** `failed`: the path went down, rather than somebody ending BFD on purpose. */
  readonly onChange: (peer: string, state: BfdState, failed: boolean) => void;
}

interface Watched {
  readonly session: BfdSession;
  readonly peer: string;
  readonly port: number;
  readonly receiver: string;
  readonly socket: Socket;
  timer: NodeJS.Timeout | undefined;
}

export class BfdEndpoint implements PathWatch {
  readonly #options: BfdEndpointOptions;
  /** By local address and port. */
  readonly #receivers = new Map<string, Socket>();
  readonly #byPeer = new Map<string, Watched>();
  readonly #byDiscriminator = new Map<number, Watched>();
  #next = 1 + Math.floor(Math.random() * (MAX_DISCRIMINATOR / 2));

  constructor(options: BfdEndpointOptions) {
    this.#options = options;
  }

  state(peer: string): PathState | undefined {
    const watched = this.#byPeer.get(peer);
    if (watched === undefined) return undefined;
    const { state, detectionMs } = watched.session;
    return { state, detectionMs, multihop: watched.port === MULTI_HOP_PORT };
  }

  /** Fast timers only begin once both sides agree. */
  watch(peer: string, local: string, config: BfdConfig): void {
    this.unwatch(peer);
    const port = config.multihop ? MULTI_HOP_PORT : SINGLE_HOP_PORT;
    const receiver = this.#receiveOn(local, port);
    const discriminator = this.#next++;
    const socket = this.#open(ipFamily(peer) ?? 4, {
      localAddress: local,
      localPort: FIRST_SOURCE_PORT + (discriminator % SOURCE_PORTS),
      ttl: TTL,
    });
    const session = new BfdSession({ ...config, discriminator, random: Math.random });
    const watched: Watched = { session, peer, port, receiver, socket, timer: undefined };
    this.#byPeer.set(peer, watched);
    this.#byDiscriminator.set(discriminator, watched);
    this.#schedule(watched);
  }

  unwatch(peer: string): void {
    const watched = this.#byPeer.get(peer);
    if (watched === undefined) return;
    clearTimeout(watched.timer);
    const { socket, session, receiver } = watched;
    socket.send(encodeBfd(session.adminDown()), watched.port, peer, () => socket.close());
    this.#byPeer.delete(peer);
    this.#byDiscriminator.delete(session.discriminator);
    if ([...this.#byPeer.values()].some(other => other.receiver === receiver)) return;
    this.#receivers.get(receiver)?.close();
    this.#receivers.delete(receiver);
  }

  close(): void {
    for (const peer of [...this.#byPeer.keys()]) this.unwatch(peer);
  }

  #receiveOn(local: string, port: number): string {
    const key = `${local} ${port}`;
    if (this.#receivers.has(key)) return key;
    const socket = this.#open(ipFamily(local) ?? 4, {
      localAddress: local,
      localPort: port,
      ...(port === SINGLE_HOP_PORT ? { minTtl: TTL } : {}),
    });
    this.#receivers.set(key, socket);
    socket.on('message', (bytes, from) => this.#received(bytes, canonicalIp(from.address) ?? '', port));
    return key;
  }

  /** With a descriptor bind() is done when it returns. */
  #open(family: IpFamily, options: SocketOptions): Socket {
    const { netns, log } = this.#options;
    const fd = openUdpSocket(family, { ...options, ...(netns === undefined ? {} : { netns }) });
    const socket = createSocket(family === 4 ? 'udp4' : 'udp6');
    socket.on('error', error => log.warn({ local: options.localAddress, error }, 'BFD socket'));
    socket.bind({ fd });
    return socket;
  }

  #received(bytes: Buffer, from: string, port: number): void {
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
    if (watched === undefined || watched.peer !== from || watched.port !== port) return;
    this.#perform(watched, watched.session.received(packet, performance.now()));
  }

  #perform(watched: Watched, { send, changed, diagnostic, administrative }: BfdResult): void {
    const { peer, socket, port } = watched;
    // What cannot be sent is silence to the peer, which is what BFD is about.
    for (const packet of send) socket.send(encodeBfd(packet), port, peer, () => undefined);
    this.#schedule(watched);
    if (changed === undefined) return;
    const failed = changed === 'Down' && !administrative;
    const reason = administrative ? 'the peer ended BFD on purpose' : REASON[diagnostic];
    this.#options.log.info({ peer, state: changed, reason }, 'BFD session change');
    this.#options.onChange(peer, changed, failed);
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
