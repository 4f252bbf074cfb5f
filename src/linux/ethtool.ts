// Features of network devices by ethtool's netlink family (Linux 5.6), without the program.
import {
  decodeActiveFeatures,
  decodeFamilyId,
  encodeGetEthtoolFamily,
  encodeGetFeatures,
  encodeSetFeature,
} from '../codec/netlink/ethtool.ts';
import { NetlinkSocket } from './netlink-socket.ts';
import type { Netns } from './netns.ts';

const NETLINK_GENERIC = 16;

export class Ethtool implements Disposable {
  readonly #socket: NetlinkSocket;
  #family: number | undefined;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  /** The socket stays in `netns` for its life. */
  static open(netns?: Netns): Ethtool {
    return new Ethtool(NetlinkSocket.open(NETLINK_GENERIC, netns === undefined ? {} : { netns }));
  }

  #id(): number {
    this.#family ??= this.#socket.get(encodeGetEthtoolFamily, decodeFamilyId, 'find ethtool netlink');
    return this.#family;
  }

  /** Names of the features that are on; same as `ethtool -k LINK`. */
  activeFeatures(link: string): Set<string> {
    const id = this.#id();
    return this.#socket.get(
      w => encodeGetFeatures(w, id, link),
      decodeActiveFeatures,
      `get features of ${link}`,
    );
  }

  /** Same as `ethtool -K LINK NAME on|off`. */
  setFeature(link: string, name: string, on: boolean): void {
    const id = this.#id();
    this.#socket.request(
      w => encodeSetFeature(w, id, { link, name, on }),
      `set ${name} of ${link} ${on ? 'on' : 'off'}`,
    );
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
