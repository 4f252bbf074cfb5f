// ORIGIN, RFC 4271 section 5.1.1: one octet, 0 IGP, 1 EGP, 2 INCOMPLETE. Malformed: treat-as-withdraw (RFC 7606 7.1).
import { ATTRIBUTE, FLAG } from '../iana.ts';
import { type AttributeCodec, lengthReason } from './codec.ts';

export const origin: AttributeCodec = {
  code: ATTRIBUTE.ORIGIN,
  name: 'ORIGIN',
  flags: FLAG.TRANSITIVE,
  malformed: 'withdraw',
  decode(buffer, start, end, _context, into) {
    if (end - start !== 1) return lengthReason(end - start, '1');
    const value = buffer[start]!;
    if (value > 2) return `origin ${value} is not defined`;
    into.origin = value;
    return undefined;
  },
  encode(attributes, _context, out, offset) {
    out[offset] = attributes.origin;
    return offset + 1;
  },
};
