// AS_PATH (RFC 4271 section 4.3 b) and AS4_PATH (RFC 6793 section 3). Malformed: treat-as-withdraw (RFC 7606 7.2);
// a malformed AS4_PATH is discarded (RFC 6793 section 6).
//
//   +---------------+---------------+-------------------------------------+
//   | Segment Type  | Segment Length| AS numbers, 2 or 4 octets each      |  repeated
//   +---------------+---------------+-------------------------------------+
import type { MessageContext } from '../context.ts';
import { AS_SEGMENT, AS_TRANS, ATTRIBUTE, FLAG } from '../iana.ts';
import { type AsSegment, asPathLength, type PathAttributes } from '../path-attributes.ts';
import type { AttributeCodec } from './codec.ts';

/** The segments, or the reason why there are none. */
export function decodeSegments(
  buffer: Buffer,
  start: number,
  end: number,
  asBytes: 2 | 4,
): AsSegment[] | string {
  const segments: AsSegment[] = [];
  let at = start;
  while (at < end) {
    if (end - at < 2) return 'a segment header is cut short';
    const type = buffer[at]!;
    const count = buffer[at + 1]!;
    at += 2;
    if (type < AS_SEGMENT.SET || type > AS_SEGMENT.CONFED_SET) return `segment type ${type} is not defined`;
    if (count === 0) return 'a segment is empty';
    if (at + count * asBytes > end) return `a segment of ${count} AS numbers is cut short`;
    const asns = new Array<number>(count);
    for (let i = 0; i < count; i++, at += asBytes) {
      const high = (buffer[at]! << 8) | buffer[at + 1]!;
      asns[i] = asBytes === 2 ? high : high * 65536 + ((buffer[at + 2]! << 8) | buffer[at + 3]!);
    }
    segments.push({ type, asns });
  }
  return segments;
}

export function encodeSegments(
  segments: readonly AsSegment[],
  asBytes: 2 | 4,
  out: Buffer,
  offset: number,
): number {
  let at = offset;
  for (const segment of segments) {
    // RFC 4271: the count is one octet, so a longer segment is written as several.
    for (let from = 0; from < segment.asns.length; from += 255) {
      const part = segment.asns.slice(from, from + 255);
      out[at++] = segment.type;
      out[at++] = part.length;
      for (const asn of part)
        at = asBytes === 4 ? out.writeUInt32BE(asn, at) : out.writeUInt16BE(asn > 65535 ? AS_TRANS : asn, at);
    }
  }
  return at;
}

const usesConfederation = (path: readonly AsSegment[]): boolean =>
  path.some(s => s.type === AS_SEGMENT.CONFED_SEQUENCE || s.type === AS_SEGMENT.CONFED_SET);

export const asPath: AttributeCodec = {
  code: ATTRIBUTE.AS_PATH,
  name: 'AS_PATH',
  flags: FLAG.TRANSITIVE,
  malformed: 'withdraw',
  decode(buffer, start, end, context, into) {
    const segments = decodeSegments(buffer, start, end, context.as4 ? 4 : 2);
    if (typeof segments === 'string') return segments;
    into.asPath = segments;
    return undefined;
  },
  encode(attributes, context, out, offset) {
    return encodeSegments(attributes.asPath, context.as4 ? 4 : 2, out, offset);
  },
};

/** Written to an old speaker when a number does not fit; RFC 6793 section 4.2.2 leaves confederation segments out. */
export const as4Path: AttributeCodec = {
  code: ATTRIBUTE.AS4_PATH,
  name: 'AS4_PATH',
  flags: FLAG.OPTIONAL | FLAG.TRANSITIVE,
  malformed: 'discard',
  decode(buffer, start, end, context, into) {
    if (context.as4) return 'a four-octet speaker sent AS4_PATH';
    const segments = decodeSegments(buffer, start, end, 4);
    if (typeof segments === 'string') return segments;
    if (usesConfederation(segments)) return 'confederation segments do not belong in AS4_PATH';
    into.as4Path = segments;
    return undefined;
  },
  encode(attributes, context, out, offset) {
    if (context.as4 || !attributes.asPath.some(s => s.asns.some(asn => asn > 65535))) return -1;
    const plain = attributes.asPath.filter(s => s.type <= AS_SEGMENT.SEQUENCE);
    return encodeSegments(plain, 4, out, offset);
  },
};

/**
 * RFC 6793 section 4.2.3: the path in four-octet numbers is the leading part of AS_PATH that AS4_PATH does not cover,
 * then AS4_PATH. When AS4_PATH is the longer one it is ignored.
 */
export function mergeAs4Path(attributes: PathAttributes, context: MessageContext): void {
  const path4 = context.as4 ? undefined : attributes.as4Path;
  if (path4 === undefined) return;
  attributes.as4Path = undefined;
  let lead = asPathLength(attributes.asPath) - asPathLength(path4);
  if (lead < 0) return;
  const merged: AsSegment[] = [];
  for (const segment of attributes.asPath) {
    if (lead <= 0 && segment.type <= AS_SEGMENT.SEQUENCE) break;
    if (segment.type !== AS_SEGMENT.SEQUENCE) {
      merged.push(segment);
      if (segment.type === AS_SEGMENT.SET) lead--;
      continue;
    }
    merged.push({ type: segment.type, asns: segment.asns.slice(0, lead) });
    lead -= Math.min(lead, segment.asns.length);
  }
  attributes.asPath = joinSequences([...merged, ...path4]);
}

/** Two sequences next to each other are one; the wire form splits again after 255. */
function joinSequences(segments: readonly AsSegment[]): AsSegment[] {
  const joined: AsSegment[] = [];
  for (const segment of segments) {
    const last = joined.at(-1);
    if (
      last?.type === AS_SEGMENT.SEQUENCE &&
      segment.type === AS_SEGMENT.SEQUENCE &&
      last.asns.length + segment.asns.length <= 255
    )
      joined[joined.length - 1] = { type: last.type, asns: [...last.asns, ...segment.asns] };
    else joined.push(segment);
  }
  return joined;
}
