// KEEPALIVE, RFC 4271 section 4.4: a header and nothing else.
import { encodeMessage } from '../header.ts';
import { MESSAGE } from '../iana.ts';

export function encodeKeepalive(): Buffer {
  return encodeMessage(MESSAGE.KEEPALIVE, new Uint8Array(0));
}
