// LOCAL_PREF, RFC 4271 section 5.1.5: four octets, inside an AS only. From outside: discarded; malformed:
// treat-as-withdraw (RFC 7606 7.5).
import { ATTRIBUTE, FLAG } from '../iana.ts';
import { type AttributeCodec, lengthReason } from './codec.ts';

export const localPref: AttributeCodec = {
  code: ATTRIBUTE.LOCAL_PREF,
  name: 'LOCAL_PREF',
  flags: FLAG.TRANSITIVE,
  malformed: 'withdraw',
  internalOnly: true,
  decode(buffer, start, end, _context, into) {
    if (end - start !== 4) return lengthReason(end - start, '4');
    into.localPref = buffer.readUInt32BE(start);
    return undefined;
  },
  encode(attributes, context, out, offset) {
    if (context.external || attributes.localPref === undefined) return -1;
    return out.writeUInt32BE(attributes.localPref, offset);
  },
};
