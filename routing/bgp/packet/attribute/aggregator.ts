// AGGREGATOR (RFC 4271 section 5.1.7) and AS4_AGGREGATOR (RFC 6793 section 3): an AS number of 2 or 4 octets and a
// router's IPv4 address. Malformed: attribute discard (RFC 7606 7.7).
import { AS_TRANS, ATTRIBUTE, FLAG } from '../iana.ts';
import { type AttributeCodec, lengthReason } from './codec.ts';

export const aggregator: AttributeCodec = {
  code: ATTRIBUTE.AGGREGATOR,
  name: 'AGGREGATOR',
  flags: FLAG.OPTIONAL | FLAG.TRANSITIVE,
  malformed: 'discard',
  decode(buffer, start, end, context, into) {
    const asBytes = context.as4 ? 4 : 2;
    if (end - start !== asBytes + 4) return lengthReason(end - start, String(asBytes + 4));
    const asn = buffer.readUIntBE(start, asBytes);
    into.aggregator = { asn, address: buffer.readUInt32BE(start + asBytes) };
    return undefined;
  },
  encode(attributes, context, out, offset) {
    const value = attributes.aggregator;
    if (value === undefined) return -1;
    const at = context.as4
      ? out.writeUInt32BE(value.asn, offset)
      : out.writeUInt16BE(value.asn > 65535 ? AS_TRANS : value.asn, offset);
    return out.writeUInt32BE(value.address, at);
  },
};

/** Counts only beside an AGGREGATOR whose AS is AS_TRANS (RFC 6793 section 4.2.3); AGGREGATOR is decoded first. */
export const as4Aggregator: AttributeCodec = {
  code: ATTRIBUTE.AS4_AGGREGATOR,
  name: 'AS4_AGGREGATOR',
  flags: FLAG.OPTIONAL | FLAG.TRANSITIVE,
  malformed: 'discard',
  decode(buffer, start, end, context, into) {
    if (end - start !== 8) return lengthReason(end - start, '8');
    if (context.as4) return 'a four-octet speaker sent AS4_AGGREGATOR';
    if (into.aggregator?.asn === AS_TRANS)
      into.aggregator = { asn: buffer.readUInt32BE(start), address: buffer.readUInt32BE(start + 4) };
    return undefined;
  },
  encode(attributes, context, out, offset) {
    const value = attributes.aggregator;
    if (context.as4 || value === undefined || value.asn <= 65535) return -1;
    return out.writeUInt32BE(value.address, out.writeUInt32BE(value.asn, offset));
  },
};
