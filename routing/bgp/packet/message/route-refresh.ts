// ROUTE-REFRESH, RFC 2918 section 3, with the subtype of RFC 7313 section 3.2 where the Res. octet was.
//
//   +-------+-------+-------+-------+
//   |      AFI      | Subt. | SAFI  |
//   +-------+-------+-------+-------+
import { afiOf, type Family, familyOfAfi } from '../context.ts';
import { BgpMessageError } from '../error.ts';
import { encodeMessage, HEADER_BYTES } from '../header.ts';
import { ERROR, MESSAGE, SAFI } from '../iana.ts';

/** RFC 7313: beginning and end of the route refresh. */
export const REFRESH = { REQUEST: 0, BEGIN: 1, END: 2 } as const;

export interface RouteRefreshMessage {
  /** Undefined for a family podwire does not carry: such a request is ignored (RFC 2918 section 4). */
  readonly family: Family | undefined;
  readonly subtype: number;
}

export function decodeRouteRefresh(message: Buffer): RouteRefreshMessage {
  const subtype = message[HEADER_BYTES + 2]!;
  // RFC 7313 section 5: begin and end have exactly four octets of body; a plain request may carry ORF entries.
  if (subtype !== REFRESH.REQUEST && message.length !== HEADER_BYTES + 4)
    throw new BgpMessageError(
      ERROR.ROUTE_REFRESH,
      1,
      'route-refresh',
      HEADER_BYTES,
      `subtype ${subtype} with ${message.length - HEADER_BYTES} bytes of body`,
      message,
    );
  return {
    family: familyOfAfi(message.readUInt16BE(HEADER_BYTES), message[HEADER_BYTES + 3]!),
    subtype,
  };
}

export function encodeRouteRefresh(family: Family, subtype: number = REFRESH.REQUEST): Buffer {
  return encodeMessage(MESSAGE.ROUTE_REFRESH, Uint8Array.of(0, afiOf(family), subtype, SAFI.UNICAST));
}
