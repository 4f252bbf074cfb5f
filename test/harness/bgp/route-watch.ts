// Sees routes come and go in many namespaces, with the time of each: reads rtnetlink notifications in a tight loop, so
// the stamps of two programs under test compare to well under a millisecond.
import { RTM } from '../../../src/codec/netlink/constants.ts';
import { decodeMessages } from '../../../src/codec/netlink/message.ts';
import { decodeRoute } from '../../../src/codec/netlink/route.ts';
import {
  int32,
  MSG_DONTWAIT,
  SO_RCVBUFFORCE,
  SOL_SOCKET,
  sysClose,
  sysRecv,
  sysSetsockopt,
  trySetsockopt,
} from '../../../src/linux/ffi.ts';
import { openNetlink } from '../../../src/linux/netlink-socket.ts';
import { Netns } from '../../../src/linux/netns.ts';

const NETLINK_ROUTE = 0;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const RTNLGRP_IPV4_ROUTE = 7;

export class RouteWatch implements Disposable {
  readonly #sockets: { netns: string; fd: number }[] = [];
  readonly #buffer = Buffer.alloc(65536);

  constructor(namespaces: readonly string[]) {
    for (const name of namespaces) {
      using netns = Netns.open(`/run/netns/${name}`);
      const fd = openNetlink(NETLINK_ROUTE, netns);
      trySetsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, int32(8 << 20));
      sysSetsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, int32(RTNLGRP_IPV4_ROUTE));
      this.#sockets.push({ netns: name, fd });
    }
  }

  /** Reads all there is. */
  drain(visit: (netns: string, destination: string, gone: boolean) => void = () => undefined): void {
    for (const { netns, fd } of this.#sockets)
      for (;;) {
        const got = sysRecv(fd, this.#buffer, MSG_DONTWAIT);
        if (got <= 0) break;
        for (const message of decodeMessages(this.#buffer.subarray(0, got))) {
          if (message.type !== RTM.NEWROUTE && message.type !== RTM.DELROUTE) continue;
          const route = decodeRoute(message);
          if (route !== undefined) visit(netns, route.destination, message.type === RTM.DELROUTE);
        }
      }
  }

  /** Milliseconds (epoch) at which the last of `wanted` ("netns destination") happened; undefined at the time limit. */
  async all(wanted: ReadonlySet<string>, gone: boolean, timeoutMs: number): Promise<number | undefined> {
    const left = new Set(wanted);
    const end = Date.now() + timeoutMs;
    while (left.size > 0) {
      this.drain((netns, destination, isGone) => {
        if (isGone === gone) left.delete(`${netns} ${destination}`);
      });
      if (left.size === 0) break;
      if (Date.now() > end) return undefined;
      await new Promise(resolve => setTimeout(resolve, 1));
    }
    return performance.timeOrigin + performance.now();
  }

  [Symbol.dispose](): void {
    for (const { fd } of this.#sockets) sysClose(fd);
  }
}
