// ROUTE-REFRESH from a peer: a request (RFC 2918 section 4), or the begin and the end of an answer (RFC 7313 section 4).
import type { Family } from '../packet/context.ts';
import { encodeRouteRefresh, REFRESH, type RouteRefreshMessage } from '../packet/message/route-refresh.ts';
import type { Rib } from '../rib/rib.ts';
import type { Neighbour } from './neighbour.ts';

export function takeRefresh(
  neighbour: Neighbour,
  { family, subtype }: RouteRefreshMessage,
  ribs: Readonly<Record<Family, Rib>>,
): void {
  if (family === undefined) return;
  if (subtype === REFRESH.BEGIN) ribs[family].markStale(neighbour.index);
  else if (subtype === REFRESH.END) ribs[family].sweepStale(neighbour.index);
  else if (subtype === REFRESH.REQUEST) {
    const { peer, member } = neighbour;
    const group = neighbour.groups.get(family);
    // RFC 7313 section 4: begin and end mark the answer. A member that lags gets its end later than its begin
    // promises, so they are sent only when the answer goes out in one piece.
    const marked = peer.negotiated?.enhancedRouteRefresh === true && group?.lags(member) === false;
    if (marked) peer.send(encodeRouteRefresh(family, REFRESH.BEGIN));
    group?.resend(member, marked ? encodeRouteRefresh(family, REFRESH.END) : undefined);
  }
}
