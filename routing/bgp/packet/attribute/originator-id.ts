// ORIGINATOR_ID, RFC 4456 section 8: the router id of the path's originator in this AS, four octets. From outside:
// discarded; malformed: treat-as-withdraw (RFC 7606 7.9).
import { ATTRIBUTE, FLAG } from '../iana.ts';
import { type AttributeCodec, lengthReason } from './codec.ts';

export const originatorId: AttributeCodec = {
  code: ATTRIBUTE.ORIGINATOR_ID,
  name: 'ORIGINATOR_ID',
  flags: FLAG.OPTIONAL,
  malformed: 'withdraw',
  internalOnly: true,
  decode(buffer, start, end, _context, into) {
    if (end - start !== 4) return lengthReason(end - start, '4');
    into.originatorId = buffer.readUInt32BE(start);
    return undefined;
  },
  encode(attributes, context, out, offset) {
    if (context.external || attributes.originatorId === undefined) return -1;
    return out.writeUInt32BE(attributes.originatorId, offset);
  },
};
