// ATOMIC_AGGREGATE, RFC 4271 section 5.1.6: no value. Malformed: attribute discard (RFC 7606 7.6).
import { ATTRIBUTE, FLAG } from '../iana.ts';
import { type AttributeCodec, lengthReason } from './codec.ts';

export const atomicAggregate: AttributeCodec = {
  code: ATTRIBUTE.ATOMIC_AGGREGATE,
  name: 'ATOMIC_AGGREGATE',
  flags: FLAG.TRANSITIVE,
  malformed: 'discard',
  decode(_buffer, start, end, _context, into) {
    if (end !== start) return lengthReason(end - start, '0');
    into.atomicAggregate = true;
    return undefined;
  },
  encode(attributes, _context, _out, offset) {
    return attributes.atomicAggregate ? offset : -1;
  },
};
