// A packet socket (packet(7)) on one Ethernet link: whole frames out and in, for protocols that speak before the link
// has an address. Arrival is told by SIGIO (O_ASYNC), which Node delivers on the event loop, so nothing polls.
import { isMainThread } from 'node:worker_threads';
import { KernelError, PodwireError } from '../lib/errors.ts';
import {
  EAGAIN,
  errnoName,
  F_GETFL,
  F_SETFL,
  F_SETOWN,
  MSG_DONTWAIT,
  O_ASYNC,
  O_NONBLOCK,
  SOCK_RAW,
  sysBind,
  sysClose,
  sysFcntl,
  sysRecv,
  sysSend,
  sysSocket,
} from './ffi.ts';
import type { Netns } from './netns.ts';

const AF_PACKET = 17;
/** Larger than any frame of a link with jumbo frames; more is cut off. */
const RECEIVE_BYTES = 10_240;
/** Frames read before other work of the event loop gets its turn. */
const READS_PER_TURN = 256;

export interface PacketSocketOptions {
  netns: Netns;
  linkIndex: number;
  /** ETH_P_* of the frames wanted. */
  etherType: number;
  /** The bytes are a view: decode them before returning. */
  onFrame: (frame: Buffer) => void;
  onError: (error: unknown) => void;
}

/** The signal does not say which socket it is for, so there is one handler for all that are open. */
const open = new Set<() => void>();
function onSignal(): void {
  for (const drain of open) drain();
}

export class PacketSocket implements Disposable {
  readonly #fd: number;
  readonly #options: PacketSocketOptions;
  readonly #buffer = Buffer.allocUnsafe(RECEIVE_BYTES);
  readonly #onArrival = (): void => this.#drain();
  #closed = false;

  constructor(options: PacketSocketOptions) {
    if (!isMainThread)
      throw new PodwireError('NOT_MAIN_THREAD', 'signals, and so packet sockets, need the main thread');
    this.#options = options;
    // Protocol 0 receives nothing until bind() names the link, so frames of other links never get in.
    this.#fd = options.netns.run(() => sysSocket(AF_PACKET, SOCK_RAW | O_NONBLOCK, 0));
    // SIGIO's default action ends the process, so the handler stays for good once a socket was opened.
    if (!process.listeners('SIGIO').includes(onSignal)) process.on('SIGIO', onSignal);
    open.add(this.#onArrival);
    try {
      sysFcntl(this.#fd, F_SETOWN, process.pid);
      sysFcntl(this.#fd, F_SETFL, sysFcntl(this.#fd, F_GETFL, 0) | O_ASYNC | O_NONBLOCK);
      sysBind(this.#fd, sockaddrLl(options), `bind packet socket to link ${options.linkIndex}`);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Sends one frame, Ethernet header included. */
  send(frame: Uint8Array): void {
    const sent = sysSend(this.#fd, frame, MSG_DONTWAIT);
    if (sent < 0) throw new KernelError('send frame', -sent, errnoName(-sent));
  }

  #drain(): void {
    for (let reads = 0; !this.#closed; reads++) {
      if (reads === READS_PER_TURN) {
        setImmediate(this.#onArrival);
        return;
      }
      const got = sysRecv(this.#fd, this.#buffer, MSG_DONTWAIT);
      if (got === -EAGAIN) return;
      try {
        if (got < 0) throw new KernelError('receive frame', -got, errnoName(-got));
        this.#options.onFrame(this.#buffer.subarray(0, got));
      } catch (error) {
        this.#options.onError(error);
        if (got < 0) return;
      }
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    open.delete(this.#onArrival);
    sysClose(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** struct sockaddr_ll (linux/if_packet.h): | family | protocol, big-endian | ifindex | hatype | pkttype | halen | addr 8 | */
function sockaddrLl(options: PacketSocketOptions): Buffer {
  const bytes = Buffer.alloc(20);
  bytes.writeUInt16LE(AF_PACKET, 0);
  bytes.writeUInt16BE(options.etherType, 2);
  bytes.writeInt32LE(options.linkIndex, 4);
  return bytes;
}
