// Connection tracking entries of a namespace. A UDP client goes on talking to an endpoint that is gone as long as its
// entry lives, so the proxy removes entries when endpoints change; `deleteWhere` does that in one dump and one batch.

import {
  type ConntrackFlow,
  decodeConntrack,
  encodeDelConntrack,
  encodeGetConntrack,
} from '../codec/netlink/conntrack.ts';
import { NETLINK_NETFILTER } from '../codec/netlink/constants.ts';
import { MessageWriter } from '../codec/netlink/message.ts';
import { NetlinkSocket, refusal } from './netlink-socket.ts';
import type { Netns } from './netns.ts';

export { CONNTRACK_STATUS, type ConntrackFlow, type ConntrackTuple } from '../codec/netlink/conntrack.ts';

const ENOENT = 2;

export class Conntrack implements Disposable {
  readonly #socket: NetlinkSocket;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  static open(netns?: Netns): Conntrack {
    return new Conntrack(NetlinkSocket.open(NETLINK_NETFILTER, netns === undefined ? {} : { netns }));
  }

  /** Same as `conntrack -L`; both families unless told. */
  list(filter: { family?: 4 | 6; protocol?: number } = {}): ConntrackFlow[] {
    const families: (4 | 6)[] = filter.family === undefined ? [4, 6] : [filter.family];
    return families.flatMap(family =>
      this.#socket.dump(
        (w, flags) => encodeGetConntrack(w, family, flags),
        message => {
          const flow = decodeConntrack(message);
          const wanted = filter.protocol === undefined || flow?.original.protocol === filter.protocol;
          return wanted ? flow : undefined;
        },
        'list connections',
      ),
    );
  }

  /** Same as `conntrack -D`; entries that are gone already are fine. Returns how many were removed. */
  delete(flows: readonly ConntrackFlow[]): number {
    const writer = new MessageWriter(4096);
    const offsets = flows.map(flow => {
      const offset = writer.length;
      encodeDelConntrack(writer, flow);
      return offset;
    });
    const failures = this.#socket.transact(writer, offsets, 'delete connections');
    const real = failures.find(failure => failure.answer.errno !== ENOENT);
    if (real !== undefined) {
      const { original } = flows[real.index]!;
      throw refusal(
        `delete connection ${original.source} to ${original.destination} protocol ${original.protocol}`,
        real.answer,
      );
    }
    return flows.length - failures.length;
  }

  /** Removes what `matches` says yes to. */
  deleteWhere(
    matches: (flow: ConntrackFlow) => boolean,
    filter: { family?: 4 | 6; protocol?: number } = {},
  ): number {
    return this.delete(this.list(filter).filter(matches));
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
