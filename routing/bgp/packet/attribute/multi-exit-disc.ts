// MULTI_EXIT_DISC, RFC 4271 section 5.1.4: four octets. Malformed: treat-as-withdraw (RFC 7606 7.4).
import { ATTRIBUTE, FLAG } from '../iana.ts';
import { type AttributeCodec, lengthReason } from './codec.ts';

export const multiExitDisc: AttributeCodec = {
  code: ATTRIBUTE.MULTI_EXIT_DISC,
  name: 'MULTI_EXIT_DISC',
  flags: FLAG.OPTIONAL,
  malformed: 'withdraw',
  decode(buffer, start, end, _context, into) {
    if (end - start !== 4) return lengthReason(end - start, '4');
    into.med = buffer.readUInt32BE(start);
    return undefined;
  },
  encode(attributes, _context, out, offset) {
    return attributes.med === undefined ? -1 : out.writeUInt32BE(attributes.med, offset);
  },
};
