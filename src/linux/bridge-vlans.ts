// VLAN filtering of a bridge, by rtnetlink: which VLANs its ports are in. A kernel without CONFIG_BRIDGE_VLAN_FILTERING
// refuses (EOPNOTSUPP), and its bridges have no `defaultVlan`.
import {
  decodePortVlans,
  encodeGetPortVlans,
  encodePortVlans,
  encodeVlanFiltering,
  type PortVlan,
} from '../codec/netlink/bridge-vlan.ts';
import { NETLINK_ROUTE } from '../codec/netlink/constants.ts';
import { NetlinkSocket } from './netlink-socket.ts';
import type { Netns } from './netns.ts';

export type { PortVlan } from '../codec/netlink/bridge-vlan.ts';

export class BridgeVlans implements Disposable {
  readonly #socket: NetlinkSocket;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  /** The socket stays in `netns` for its life. */
  static open(netns: Netns): BridgeVlans {
    return new BridgeVlans(NetlinkSocket.open(NETLINK_ROUTE, { netns }));
  }

  /** Same as `ip link set BRIDGE type bridge vlan_filtering 1`. */
  enableFiltering(bridgeIndex: number): void {
    this.#socket.request(
      w => encodeVlanFiltering(w, bridgeIndex, true),
      `set link ${bridgeIndex} type bridge vlan_filtering 1`,
    );
  }

  /** Same as `bridge vlan add dev PORT vid FROM-TO [pvid] [untagged]` for each. */
  add(portIndex: number, vlans: readonly PortVlan[]): void {
    this.#socket.request(w => encodePortVlans(w, 'add', portIndex, vlans), `add VLANs to port ${portIndex}`);
  }

  /** Same as `bridge vlan del dev PORT vid FROM-TO`; one that is not there is fine. */
  remove(portIndex: number, vlans: readonly PortVlan[]): void {
    this.#socket.request(
      w => encodePortVlans(w, 'del', portIndex, vlans),
      `delete VLANs of port ${portIndex}`,
    );
  }

  /** Same as `bridge vlan show`: link index → VLANs. */
  list(): Map<number, PortVlan[]> {
    const found = this.#socket.dump(
      (w, flags) => encodeGetPortVlans(w, flags),
      decodePortVlans,
      'list VLANs of bridge ports',
    );
    return new Map(found.map(({ linkIndex, vlans }) => [linkIndex, vlans]));
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}
