// What makes an OPEN unacceptable from this peer: RFC 4271 section 6.2, RFC 6286 section 2.2, RFC 5492 section 5.
import { ERROR, OPEN_ERROR } from '../packet/iana.ts';
import type { NotificationMessage } from '../packet/message/notification.ts';
import type { OpenMessage } from '../packet/message/open.ts';
import { negotiate } from './negotiate.ts';

export interface OpenRefusal {
  readonly reason: string;
  readonly notification: NotificationMessage;
}

const refusal = (subcode: number, reason: string): OpenRefusal => ({
  reason,
  notification: { code: ERROR.OPEN_MESSAGE, subcode, data: new Uint8Array(0) },
});

/** Undefined when the OPEN is fine. `peerAsn` undefined accepts any AS. */
export function refuseOpen(
  local: OpenMessage,
  open: OpenMessage,
  peerAsn: number | undefined,
): OpenRefusal | undefined {
  if (peerAsn !== undefined && open.asn !== peerAsn)
    return refusal(OPEN_ERROR.BAD_PEER_AS, `the peer is in AS ${open.asn}, AS ${peerAsn} is configured`);
  if (open.asn === local.asn && open.routerId === local.routerId)
    return refusal(OPEN_ERROR.BAD_IDENTIFIER, 'the peer has our router id');
  if (negotiate(local, open).families.length === 0)
    return refusal(OPEN_ERROR.UNSUPPORTED_CAPABILITY, 'no address family in common');
  return undefined;
}
