// Listens to netlink multicast groups without polling and without a thread: the socket raises SIGIO (O_ASYNC) when
// something arrives or was lost, Node delivers the signal on the event loop, and the socket is read until empty.
// npm's `netlink` aborts the process on ENOBUFS here; we report it, and the listener reads the whole state again.
import { isMainThread } from 'node:worker_threads';
import { decodeMessages, type NetlinkMessage } from '../codec/netlink/message.ts';
import { KernelError, PodwireError } from '../lib/errors.ts';
import {
  EAGAIN,
  errnoName,
  F_GETFL,
  F_SETFL,
  F_SETOWN,
  int32,
  MSG_DONTWAIT,
  O_ASYNC,
  O_NONBLOCK,
  sysClose,
  sysFcntl,
  sysRecv,
  sysSetsockopt,
} from './ffi.ts';
import { isOverrun, openNetlink } from './netlink-socket.ts';
import type { Netns } from './netns.ts';

const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const RECEIVE_BYTES = 65536;
/** Datagrams read before other work of the event loop gets its turn. */
const READS_PER_TURN = 256;

export interface NetlinkMonitorOptions {
  protocol: number;
  /** Numbers of RTNLGRP_* or NFNLGRP_*. */
  groups: readonly number[];
  netns?: Netns;
  /** The payloads are views: decode them before returning. */
  onMessages: (messages: NetlinkMessage[]) => void;
  /** Messages were dropped: what is known may be stale. */
  onLost: () => void;
  onError: (error: unknown) => void;
}

/** SIGIO's default action ends the process, so one handler stays for good once a monitor was opened. */
function ignoreSignal(): void {}

export class NetlinkMonitor implements Disposable {
  readonly #fd: number;
  readonly #options: NetlinkMonitorOptions;
  readonly #buffer = Buffer.allocUnsafe(RECEIVE_BYTES);
  readonly #onSignal = (): void => this.#drain();
  readonly #onExit = (): void => this.close();
  #closed = false;
  #again: NodeJS.Immediate | undefined;

  constructor(options: NetlinkMonitorOptions) {
    if (!isMainThread)
      throw new PodwireError('NOT_MAIN_THREAD', 'signals, and so netlink monitors, need the main thread');
    this.#options = options;
    this.#fd = openNetlink(options.protocol, options.netns);
    try {
      for (const group of options.groups)
        sysSetsockopt(this.#fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, int32(group));
      if (!process.listeners('SIGIO').includes(ignoreSignal)) process.on('SIGIO', ignoreSignal);
      process.on('SIGIO', this.#onSignal);
      process.once('exit', this.#onExit);
      sysFcntl(this.#fd, F_SETOWN, process.pid);
      sysFcntl(this.#fd, F_SETFL, sysFcntl(this.#fd, F_GETFL, 0) | O_ASYNC | O_NONBLOCK);
    } catch (error) {
      this.#release();
      throw error;
    }
    this.#again = setImmediate(this.#onSignal);
  }

  #drain(): void {
    if (this.#closed) return;
    for (let reads = 0; reads < READS_PER_TURN; reads++) {
      const got = sysRecv(this.#fd, this.#buffer, MSG_DONTWAIT);
      if (got === -EAGAIN) return;
      try {
        if (got >= 0) this.#options.onMessages(decodeMessages(this.#buffer.subarray(0, got)));
        else if (isOverrun(-got)) this.#options.onLost();
        else throw new KernelError('read netlink notifications', -got, errnoName(-got));
      } catch (error) {
        this.#options.onError(error);
        if (got < 0) return;
      }
      if (this.#closed) return;
    }
    if (this.#again !== undefined) clearImmediate(this.#again);
    this.#again = setImmediate(this.#onSignal);
  }

  #release(): void {
    this.#closed = true;
    if (this.#again !== undefined) clearImmediate(this.#again);
    process.off('SIGIO', this.#onSignal);
    process.off('exit', this.#onExit);
    sysClose(this.#fd);
  }

  close(): void {
    if (this.#closed) return;
    // Closing the descriptor also ends its signals; without this, one could arrive in between.
    sysFcntl(this.#fd, F_SETFL, 0);
    this.#release();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
