// NEXT_HOP, RFC 4271 section 5.1.3: four octets. Length wrong: treat-as-withdraw (RFC 7606 7.3). Whether the address
// may be used is the session's to decide, not the codec's. Not written when the next hop travels in MP_REACH_NLRI.
import { formatIpv4Number, parseIpv4Number } from '../../../../src/lib/ip.ts';
import { ATTRIBUTE, FLAG } from '../iana.ts';
import { type AttributeCodec, lengthReason } from './codec.ts';

export const nextHop: AttributeCodec = {
  code: ATTRIBUTE.NEXT_HOP,
  name: 'NEXT_HOP',
  flags: FLAG.TRANSITIVE,
  malformed: 'withdraw',
  decode(buffer, start, end, _context, into) {
    if (end - start !== 4) return lengthReason(end - start, '4');
    // An MP_REACH_NLRI next hop was read first and is the one that counts (RFC 4760 section 3).
    into.nextHop ??= formatIpv4Number(buffer.readUInt32BE(start));
    return undefined;
  },
  encode(attributes, _context, out, offset) {
    const address = attributes.nextHop === undefined ? undefined : parseIpv4Number(attributes.nextHop);
    return address === undefined ? -1 : out.writeUInt32BE(address, offset);
  },
};
