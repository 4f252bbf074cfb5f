// Routes that a predecessor left (flannel's daemon, a person with `ip route`): the kernel refuses ours beside them, since
// destination, table and metric are what tells routes apart. One that leads the very way ours would, or over a link that
// is ours, is replaced in one step, so that no packet finds none; any other stays, and the refusal is reported.
import type { Rtnetlink } from '../linux/rtnetlink.ts';
import type { ObjectMaps } from './objects.ts';
import type { RouteState } from './state.ts';

const MAIN_TABLE = 254;
/** net/ipv6/ip6_route.h IP6_RT_PRIO_USER: the metric of an IPv6 route for which none was given. */
const IPV6_DEFAULT_METRIC = 1024;

export interface TakeOverContext {
  rtnetlink: Rtnetlink;
  /** True for aliases of links that are ours. */
  ownsAlias: (alias: string) => boolean;
}

/** Which of `routes`, all refused with EEXIST, may replace what is there. */
export function findReplaceable(
  routes: readonly RouteState[],
  desired: ObjectMaps,
  context: TakeOverContext,
): Set<RouteState> {
  const { rtnetlink, ownsAlias } = context;
  const links = new Map(rtnetlink.listLinks().map(link => [link.index, link]));
  const metricOf = (destination: string, metric = 0): number =>
    metric === 0 && destination.includes(':') ? IPV6_DEFAULT_METRIC : metric;
  const keyOf = (destination: string, table: number, metric?: number): string =>
    `${destination} ${table} ${metricOf(destination, metric)}`;
  const wanted = new Map(
    routes.map(route => [keyOf(route.destination, route.table ?? MAIN_TABLE, route.metric), route]),
  );
  const replaceable = new Set<RouteState>();
  const foreign = new Set<RouteState>();
  for (const found of rtnetlink.listRoutes()) {
    const route = wanted.get(keyOf(found.destination, found.table, found.metric));
    if (route === undefined) continue;
    const link = found.linkIndex === undefined ? undefined : links.get(found.linkIndex);
    const way = route.nexthopId === undefined ? route : desired.nexthop.get(String(route.nexthopId));
    const same =
      found.type === 'unicast' &&
      link !== undefined &&
      way?.link === link.name &&
      way.gateway === found.gateway;
    const onOurs = link?.alias !== undefined && ownsAlias(link.alias);
    if (same || onOurs) replaceable.add(route);
    else foreign.add(route);
  }
  for (const route of foreign) replaceable.delete(route);
  return replaceable;
}
