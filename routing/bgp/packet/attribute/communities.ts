// COMMUNITIES, RFC 1997: four octets each, usually read as AS:value. A length that is zero or no multiple of four:
// treat-as-withdraw (RFC 7606 7.8).
import { ATTRIBUTE, FLAG } from '../iana.ts';
import { type AttributeCodec, lengthReason } from './codec.ts';
import { readWords, writeWords } from './words.ts';

export const communities: AttributeCodec = {
  code: ATTRIBUTE.COMMUNITIES,
  name: 'COMMUNITIES',
  flags: FLAG.OPTIONAL | FLAG.TRANSITIVE,
  malformed: 'withdraw',
  decode(buffer, start, end, _context, into) {
    if (end === start || (end - start) % 4 !== 0) return lengthReason(end - start, 'a multiple of 4');
    into.communities = readWords(buffer, start, end);
    return undefined;
  },
  encode(attributes, _context, out, offset) {
    return writeWords(attributes.communities, out, offset);
  },
};
