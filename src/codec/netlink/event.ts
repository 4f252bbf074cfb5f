// What a routing multicast group tells: which object appeared, changed or went. Pure.
import { type Address, decodeAddress } from './address.ts';
import { RTM } from './constants.ts';
import { decodeLink, type Link } from './link.ts';
import type { NetlinkMessage } from './message.ts';
import { decodeNeighbour, type FdbEntry, type Neighbour } from './neighbour.ts';
import { decodeNexthop, type Nexthop } from './nexthop.ts';
import { decodeRoute, type Route } from './route.ts';
import { decodeRule, type Rule } from './rule.ts';

/** `gone` is false for new and for changed objects. */
export type RouteEvent =
  | { kind: 'link'; gone: boolean; link: Link }
  | { kind: 'address'; gone: boolean; address: Address }
  | { kind: 'route'; gone: boolean; route: Route }
  | { kind: 'neighbour'; gone: boolean; neighbour: Neighbour }
  | { kind: 'fdb'; gone: boolean; entry: FdbEntry }
  | { kind: 'rule'; gone: boolean; rule: Rule }
  | { kind: 'nexthop'; gone: boolean; nexthop: Nexthop }
  /** A forwarding or rp_filter sysctl was written. */
  | { kind: 'netconf' };

/** Undefined for messages of no interest. */
export function decodeRouteEvent(message: NetlinkMessage): RouteEvent | undefined {
  switch (message.type) {
    case RTM.NEWLINK:
    case RTM.DELLINK:
      return { kind: 'link', gone: message.type === RTM.DELLINK, link: decodeLink(message) };
    case RTM.NEWADDR:
    case RTM.DELADDR:
      return { kind: 'address', gone: message.type === RTM.DELADDR, address: decodeAddress(message) };
    case RTM.NEWROUTE:
    case RTM.DELROUTE: {
      const route = decodeRoute(message);
      return route && { kind: 'route', gone: message.type === RTM.DELROUTE, route };
    }
    case RTM.NEWNEIGH:
    case RTM.DELNEIGH: {
      const decoded = decodeNeighbour(message);
      return decoded && { ...decoded, gone: message.type === RTM.DELNEIGH };
    }
    case RTM.NEWRULE:
    case RTM.DELRULE: {
      const rule = decodeRule(message);
      return rule && { kind: 'rule', gone: message.type === RTM.DELRULE, rule };
    }
    case RTM.NEWNEXTHOP:
    case RTM.DELNEXTHOP:
      return { kind: 'nexthop', gone: message.type === RTM.DELNEXTHOP, nexthop: decodeNexthop(message) };
    case RTM.NEWNETCONF:
      return { kind: 'netconf' };
    default:
      return undefined;
  }
}
