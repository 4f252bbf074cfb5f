// LARGE_COMMUNITY, RFC 8092 section 3: three 32-bit numbers each. A length that is zero or no multiple of twelve:
// treat-as-withdraw (section 6). Repeats are dropped on receipt (section 3).
import { ATTRIBUTE, FLAG } from '../iana.ts';
import { type AttributeCodec, lengthReason } from './codec.ts';
import { readWords, writeWords } from './words.ts';

function withoutRepeats(triples: number[]): number[] {
  if (triples.length <= 3) return triples;
  const seen = new Set<string>();
  const kept: number[] = [];
  for (let i = 0; i < triples.length; i += 3) {
    const key = `${triples[i]}:${triples[i + 1]}:${triples[i + 2]}`;
    if (seen.has(key)) continue;
    seen.add(key);
    kept.push(triples[i]!, triples[i + 1]!, triples[i + 2]!);
  }
  return kept;
}

export const largeCommunities: AttributeCodec = {
  code: ATTRIBUTE.LARGE_COMMUNITY,
  name: 'LARGE_COMMUNITY',
  flags: FLAG.OPTIONAL | FLAG.TRANSITIVE,
  malformed: 'withdraw',
  decode(buffer, start, end, _context, into) {
    if (end === start || (end - start) % 12 !== 0) return lengthReason(end - start, 'a multiple of 12');
    into.largeCommunities = withoutRepeats(readWords(buffer, start, end));
    return undefined;
  },
  encode(attributes, _context, out, offset) {
    return writeWords(attributes.largeCommunities, out, offset);
  },
};
