// What two OPENs agree on (RFC 4271 section 4.2, RFC 5492 and the capabilities' own RFCs). Pure.
import type { GracefulRestart } from '../packet/capability/graceful-restart.ts';
import { FAMILIES, type Family, type MessageContext } from '../packet/context.ts';
import { MAX_EXTENDED_MESSAGE_BYTES, MAX_MESSAGE_BYTES } from '../packet/header.ts';
import type { OpenMessage } from '../packet/message/open.ts';

export interface Negotiated {
  readonly peer: OpenMessage;
  readonly families: readonly Family[];
  /** 0 means no keepalives and no hold timer (RFC 4271 section 4.2). */
  readonly holdTimeMs: number;
  readonly external: boolean;
  readonly routeRefresh: boolean;
  readonly enhancedRouteRefresh: boolean;
  /** IPv4 prefixes may be announced with an IPv6 next hop (RFC 8950). */
  readonly extendedNextHop: boolean;
  /** The peer's graceful restart, when both sides have the capability. */
  readonly gracefulRestart: GracefulRestart | undefined;
  /** RFC 8538: both sides set the N bit. */
  readonly gracefulNotification: boolean;
  readonly receive: MessageContext;
  readonly send: MessageContext;
}

export function negotiate(local: OpenMessage, peer: OpenMessage): Negotiated {
  const ours = local.capabilities;
  const theirs = peer.capabilities;
  // RFC 4760 section 8: a peer without the capability speaks IPv4 unicast.
  const familiesOf = (families: readonly Family[]): readonly Family[] =>
    families.length === 0 ? [4] : families;
  const families = FAMILIES.filter(
    family => familiesOf(ours.families).includes(family) && familiesOf(theirs.families).includes(family),
  );
  const as4 = ours.as4 !== undefined && theirs.as4 !== undefined;
  const external = local.asn !== peer.asn;
  const extended = ours.extendedMessage && theirs.extendedMessage;
  const pathsTo = (from: typeof ours, to: typeof ours, family: Family): boolean =>
    from.addPath.some(entry => entry.family === family && entry.send) &&
    to.addPath.some(entry => entry.family === family && entry.receive);
  const context = (from: typeof ours, to: typeof ours): MessageContext => ({
    as4,
    external,
    addPath4: pathsTo(from, to, 4),
    addPath6: pathsTo(from, to, 6),
    maxMessageBytes: extended ? MAX_EXTENDED_MESSAGE_BYTES : MAX_MESSAGE_BYTES,
  });
  const graceful = ours.gracefulRestart !== undefined ? theirs.gracefulRestart : undefined;
  return {
    peer,
    families,
    holdTimeMs: Math.min(local.holdTimeSeconds, peer.holdTimeSeconds) * 1000,
    external,
    routeRefresh: ours.routeRefresh && theirs.routeRefresh,
    enhancedRouteRefresh: ours.enhancedRouteRefresh && theirs.enhancedRouteRefresh,
    extendedNextHop: ours.extendedNextHop && theirs.extendedNextHop,
    gracefulRestart: graceful,
    gracefulNotification: graceful?.notification === true && ours.gracefulRestart?.notification === true,
    receive: context(theirs, ours),
    send: context(ours, theirs),
  };
}
