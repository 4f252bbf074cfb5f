// Whether a notification means that the kernel is no longer as desired. The notifications of our own changes show the
// desired state and so are passed over; anything suspicious names the kinds that should be dumped and compared.
// A wrong suspicion costs one dump; a missed one is found by the regular verification.
import { RT_SCOPE, RTNLGRP } from '../codec/netlink/constants.ts';
import type { RouteEvent } from '../codec/netlink/event.ts';
import type { Link } from '../codec/netlink/link.ts';
import type { Ownership } from './diff.ts';
import { ANY_LINK, isAsWanted, type Kind, keyOf, NETLINK_KINDS, type ObjectMaps } from './objects.ts';
import {
  type NameOf,
  toAddressState,
  toFdbState,
  toLinkState,
  toNeighbourState,
  toNexthopState,
  toRouteState,
  toRuleState,
} from './observe.ts';

export interface DriftContext {
  desired: ObjectMaps;
  owned: Ownership;
  /** Whether any desired object needs this link. */
  isUsed: (link: string) => boolean;
  /** Names of links by index, kept up to date here. */
  names: Map<number, string>;
  /** Links by index that are down, as far as notifications have told; kept up to date here. */
  down: Set<number>;
}

/** The multicast groups that tell of everything a KernelState holds. */
export const DRIFT_GROUPS: readonly number[] = [
  RTNLGRP.LINK,
  RTNLGRP.NEIGH,
  RTNLGRP.IPV4_IFADDR,
  RTNLGRP.IPV6_IFADDR,
  RTNLGRP.IPV4_ROUTE,
  RTNLGRP.IPV6_ROUTE,
  RTNLGRP.IPV4_RULE,
  RTNLGRP.IPV6_RULE,
  RTNLGRP.IPV4_NETCONF,
  RTNLGRP.IPV6_NETCONF,
  RTNLGRP.NEXTHOP,
];

const NOTHING: readonly Kind[] = [];

/** The kinds to compare after this event; none when it changes nothing of ours. */
export function driftOf(event: RouteEvent, context: DriftContext): readonly Kind[] {
  const { desired, owned, names } = context;
  const nameOf: NameOf = index => names.get(index);
  const isOwnLink = (name: string): boolean => {
    const alias = desired.link.get(name)?.alias;
    return alias !== undefined && owned.alias(alias);
  };
  switch (event.kind) {
    case 'link':
      return linkDrift(event.link, event.gone, context);
    case 'address': {
      const state = toAddressState(event.address, nameOf);
      if (state === undefined) return event.address.scope === RT_SCOPE.LINK ? NOTHING : ['address'];
      const wanted = desired.address.get(keyOf('address', state));
      // Routes with this address as their source go with it, silently.
      if (event.gone)
        return wanted || context.isUsed(state.link) || context.isUsed(ANY_LINK)
          ? ['address', 'route']
          : NOTHING;
      if (wanted === undefined)
        return isOwnLink(state.link) || owned.protocols.has(state.protocol ?? 0) ? ['address'] : NOTHING;
      return isAsWanted('address', wanted, state) ? NOTHING : ['address'];
    }
    case 'route': {
      const state = toRouteState(event.route, nameOf);
      if (state === undefined || event.route.cloned) return NOTHING;
      const wanted = desired.route.get(keyOf('route', state));
      if (wanted === undefined)
        return owned.protocols.has(state.protocol) && !event.gone ? ['route'] : NOTHING;
      return event.gone || !isAsWanted('route', wanted, state) ? ['route'] : NOTHING;
    }
    case 'neighbour': {
      const { neighbour, gone } = event;
      const link = nameOf(neighbour.linkIndex);
      if (link === undefined || !context.isUsed(link)) return NOTHING;
      const wanted = desired.neighbour.get(`${link} ${neighbour.address}`);
      const state = toNeighbourState(neighbour, nameOf);
      if (wanted === undefined)
        return state !== undefined && !gone && isOwnLink(link) ? ['neighbour'] : NOTHING;
      return gone || state === undefined || !isAsWanted('neighbour', wanted, state) ? ['neighbour'] : NOTHING;
    }
    case 'fdb': {
      const state = toFdbState(event.entry, nameOf);
      if (state === undefined || !context.isUsed(state.link)) return NOTHING;
      const wanted = desired.fdb.get(keyOf('fdb', state));
      if (wanted === undefined) return !event.gone && isOwnLink(state.link) ? ['fdb'] : NOTHING;
      return event.gone || !isAsWanted('fdb', wanted, state) ? ['fdb'] : NOTHING;
    }
    case 'nexthop': {
      const { nexthop, gone } = event;
      const wanted = desired.nexthop.get(String(nexthop.id));
      const state = toNexthopState(nexthop, nameOf);
      if (wanted === undefined) return !gone && owned.protocols.has(nexthop.protocol) ? ['nexthop'] : NOTHING;
      // Its routes went with it.
      return gone || !state || !isAsWanted('nexthop', wanted, state) ? ['nexthop', 'route'] : NOTHING;
    }
    case 'rule': {
      const state = toRuleState(event.rule);
      const wanted = desired.rule.get(keyOf('rule', state));
      if (wanted === undefined)
        return !event.gone && owned.protocols.has(event.rule.protocol) ? ['rule'] : NOTHING;
      return event.gone ? ['rule'] : NOTHING;
    }
    case 'netconf':
      return desired.sysctl.size > 0 ? ['sysctl'] : NOTHING;
    default:
      return NOTHING;
  }
}

/** Whether a link that is needed, or an address on it, has come or changed. */
export function bringsLink(event: RouteEvent, context: DriftContext): boolean {
  const { names, isUsed } = context;
  if (event.kind === 'link') return isUsed(event.link.name) || isUsed(ANY_LINK);
  if (event.kind !== 'address' || event.gone) return false;
  return isUsed(names.get(event.address.linkIndex) ?? ANY_LINK) || isUsed(ANY_LINK);
}

function linkDrift(link: Link, gone: boolean, context: DriftContext): readonly Kind[] {
  const { desired, owned, names } = context;
  const before = names.get(link.index);
  if (gone) names.delete(link.index);
  else names.set(link.index, link.name);
  const wentDown = noteDown(link, gone, before === undefined, context.down);
  const used = context.isUsed(link.name) || (before !== undefined && context.isUsed(before));
  if (!used) {
    const stray = !gone && link.alias !== undefined && owned.alias(link.alias);
    if (stray) return ['link'];
    return wentDown && context.isUsed(ANY_LINK) ? ['route'] : NOTHING;
  }
  // A link that went or went down took addresses, routes and neighbours along, some of them without a notification.
  if (gone || !link.up || before !== link.name) return NETLINK_KINDS;
  const wanted = desired.link.get(link.name);
  if (wanted === undefined) return NOTHING;
  const found = toLinkState(link, index => names.get(index));
  if (!isAsWanted('link', wanted, found)) return NETLINK_KINDS;
  // A switched feature is told as a change of its link, without saying which.
  return desired.feature.size > 0 ? ['feature'] : NOTHING;
}

/** Whether a link was up until now. A new one was not. */
function noteDown(link: Link, gone: boolean, isNew: boolean, down: Set<number>): boolean {
  const was = isNew || down.has(link.index);
  if (gone || link.up) down.delete(link.index);
  else down.add(link.index);
  return !was && (gone || !link.up);
}
