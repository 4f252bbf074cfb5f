// Traffic control over rtnetlink: what `tc` does, for the shapes podwire needs. Synchronous; links by index.
import type { MessageWriter } from '../codec/netlink/message.ts';
import {
  decodeQdisc,
  decodeRedirect,
  encodeDelIngress,
  encodeDelRoot,
  encodeGetIngressFilters,
  encodeGetQdiscs,
  encodeIngress,
  encodeRedirectAll,
  encodeTokenBucket,
  type Qdisc,
  type TokenBucket,
} from '../codec/tc/qdisc.ts';
import { NetlinkSocket } from './netlink-socket.ts';
import type { Netns } from './netns.ts';

export type { Qdisc, TokenBucket } from '../codec/tc/qdisc.ts';

const NETLINK_ROUTE = 0;

export class TrafficControl implements Disposable {
  readonly #socket: NetlinkSocket;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  static open(netns?: Netns): TrafficControl {
    return new TrafficControl(NetlinkSocket.open(NETLINK_ROUTE, netns === undefined ? {} : { netns }));
  }

  #request(encode: (w: MessageWriter) => void, op: string): void {
    this.#socket.request(encode, op);
  }

  /** Limits what leaves the link; replaces its root qdisc. */
  setTokenBucket(index: number, bucket: TokenBucket): void {
    this.#request(w => encodeTokenBucket(w, index, bucket), `set tbf of link ${index}`);
  }

  delRoot(index: number): void {
    this.#request(w => encodeDelRoot(w, index), `delete root qdisc of link ${index}`);
  }

  addIngress(index: number): void {
    this.#request(w => encodeIngress(w, index), `add ingress qdisc to link ${index}`);
  }

  delIngress(index: number): void {
    this.#request(w => encodeDelIngress(w, index), `delete ingress qdisc of link ${index}`);
  }

  /** Sends everything that arrives at the link out through another one. Needs the ingress qdisc. */
  redirectAll(index: number, toIndex: number): void {
    this.#request(w => encodeRedirectAll(w, index, toIndex), `redirect link ${index} to link ${toIndex}`);
  }

  listQdiscs(index: number): Qdisc[] {
    return this.#socket
      .dump((w, flags) => encodeGetQdiscs(w, index, flags), decodeQdisc, `list qdiscs of link ${index}`)
      .filter(qdisc => qdisc.linkIndex === index);
  }

  /** Index of the link that arriving packets are redirected to. */
  getRedirect(index: number): number | undefined {
    return this.#socket
      .dump(
        (w, flags) => encodeGetIngressFilters(w, index, flags),
        decodeRedirect,
        `list filters of link ${index}`,
      )
      .at(0);
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
