// EXTENDED_COMMUNITIES, RFC 4360: eight octets each, kept as they are. A length that is zero or no multiple of eight:
// treat-as-withdraw (RFC 7606 7.14). Non-transitive ones stay inside the AS (RFC 4360 section 6).
import { ATTRIBUTE, FLAG } from '../iana.ts';
import { type AttributeCodec, lengthReason } from './codec.ts';

/** The T bit of the type's first octet, RFC 4360 section 2. */
const NON_TRANSITIVE = 0x40;

export const extendedCommunities: AttributeCodec = {
  code: ATTRIBUTE.EXTENDED_COMMUNITIES,
  name: 'EXTENDED_COMMUNITIES',
  flags: FLAG.OPTIONAL | FLAG.TRANSITIVE,
  malformed: 'withdraw',
  decode(buffer, start, end, _context, into) {
    if (end === start || (end - start) % 8 !== 0) return lengthReason(end - start, 'a multiple of 8');
    into.extendedCommunities = Uint8Array.from(buffer.subarray(start, end));
    return undefined;
  },
  encode(attributes, context, out, offset) {
    const value = attributes.extendedCommunities;
    if (value === undefined) return -1;
    let at = offset;
    for (let i = 0; i < value.length; i += 8) {
      if (context.external && (value[i]! & NON_TRANSITIVE) !== 0) continue;
      out.set(value.subarray(i, i + 8), at);
      at += 8;
    }
    return at === offset ? -1 : at;
  },
};
