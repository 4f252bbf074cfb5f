// CLUSTER_LIST, RFC 4456 section 8: the reflection clusters a path has passed, four octets each. From outside:
// discarded; a length that is zero or no multiple of four: treat-as-withdraw (RFC 7606 7.10).
import { ATTRIBUTE, FLAG } from '../iana.ts';
import { type AttributeCodec, lengthReason } from './codec.ts';
import { readWords, writeWords } from './words.ts';

export const clusterList: AttributeCodec = {
  code: ATTRIBUTE.CLUSTER_LIST,
  name: 'CLUSTER_LIST',
  flags: FLAG.OPTIONAL,
  malformed: 'withdraw',
  internalOnly: true,
  decode(buffer, start, end, _context, into) {
    if (end === start || (end - start) % 4 !== 0) return lengthReason(end - start, 'a multiple of 4');
    into.clusterList = readWords(buffer, start, end);
    return undefined;
  },
  encode(attributes, context, out, offset) {
    return context.external ? -1 : writeWords(attributes.clusterList, out, offset);
  },
};
