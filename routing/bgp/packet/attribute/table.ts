// All attribute codecs by type code, and the two loops over them: decode an attribute list, encode one.
import type { MessageContext } from '../context.ts';
import type { AttributeProblem } from '../error.ts';
import { ATTRIBUTE, FLAG } from '../iana.ts';
import type { PathAttributes, RawAttribute } from '../path-attributes.ts';
import { aggregator, as4Aggregator } from './aggregator.ts';
import { as4Path, asPath, mergeAs4Path } from './as-path.ts';
import { atomicAggregate } from './atomic-aggregate.ts';
import { clusterList } from './cluster-list.ts';
import type { AttributeCodec } from './codec.ts';
import { communities } from './communities.ts';
import { extendedCommunities } from './extended-communities.ts';
import { largeCommunities } from './large-communities.ts';
import { localPref } from './local-pref.ts';
import { multiExitDisc } from './multi-exit-disc.ts';
import { nextHop } from './next-hop.ts';
import { origin } from './origin.ts';
import { originatorId } from './originator-id.ts';

/** In the order of their type codes, the order in which they are written (RFC 4271 section 5). */
const CODECS: readonly AttributeCodec[] = [
  origin,
  asPath,
  nextHop,
  multiExitDisc,
  localPref,
  atomicAggregate,
  aggregator,
  communities,
  originatorId,
  clusterList,
  extendedCommunities,
  as4Path,
  as4Aggregator,
  largeCommunities,
];

const BY_CODE: readonly (AttributeCodec | undefined)[] = Array.from({ length: 256 }, (_, code) =>
  CODECS.find(codec => codec.code === code),
);

const OPTIONAL_TRANSITIVE = FLAG.OPTIONAL | FLAG.TRANSITIVE;

/** `ORIGIN`, or `attribute 99`. */
export function attributeName(code: number): string {
  if (code === ATTRIBUTE.MP_REACH_NLRI) return 'MP_REACH_NLRI';
  if (code === ATTRIBUTE.MP_UNREACH_NLRI) return 'MP_UNREACH_NLRI';
  return BY_CODE[code]?.name ?? `attribute ${code}`;
}

/**
 * Decodes the attribute list `buffer[start, end)` into `into`, MP_REACH_NLRI and MP_UNREACH_NLRI left out (their
 * framing was checked by scanUpdate). RFC 7606 sections 3 and 4: repeats are dropped, wrong flags and an overrun mean
 * treat-as-withdraw. Answers what was wrong.
 */
export function decodeAttributeList(
  buffer: Buffer,
  start: number,
  end: number,
  context: MessageContext,
  into: PathAttributes,
  announces: boolean,
): AttributeProblem[] {
  const problems: AttributeProblem[] = [];
  const seen = new Set<number>();
  const unknown: RawAttribute[] = [];
  let at = start;
  while (at < end) {
    const flags = buffer[at]!;
    const headerBytes = (flags & FLAG.EXTENDED_LENGTH) !== 0 ? 4 : 3;
    const code = at + 1 < end ? buffer[at + 1]! : 0;
    const length =
      at + headerBytes > end ? -1 : headerBytes === 4 ? buffer.readUInt16BE(at + 2) : buffer[at + 2]!;
    if (length < 0 || at + headerBytes + length > end) {
      problems.push({ attribute: code, disposition: 'withdraw', reason: 'the attribute list is cut short' });
      break;
    }
    const valueStart = at + headerBytes;
    at = valueStart + length;
    if (code === ATTRIBUTE.MP_REACH_NLRI || code === ATTRIBUTE.MP_UNREACH_NLRI) continue;
    if (seen.has(code)) {
      problems.push({ attribute: code, disposition: 'discard', reason: 'the attribute is repeated' });
      continue;
    }
    seen.add(code);
    const codec = BY_CODE[code];
    if (codec === undefined) {
      if ((flags & FLAG.OPTIONAL) === 0)
        problems.push({
          attribute: code,
          disposition: 'withdraw',
          reason: 'an unknown attribute is well-known',
        });
      else if ((flags & FLAG.TRANSITIVE) !== 0)
        unknown.push({
          code,
          flags: OPTIONAL_TRANSITIVE | FLAG.PARTIAL,
          value: Uint8Array.from(buffer.subarray(valueStart, at)),
        });
      continue;
    }
    if ((flags & OPTIONAL_TRANSITIVE) !== codec.flags) {
      problems.push({
        attribute: code,
        disposition: codec.malformed === 'discard' ? 'discard' : 'withdraw',
        reason: `flags 0x${flags.toString(16)} do not belong to ${codec.name}`,
      });
      continue;
    }
    if (codec.internalOnly === true && context.external) {
      problems.push({
        attribute: code,
        disposition: 'discard',
        reason: `${codec.name} does not come from another AS`,
      });
      continue;
    }
    const reason = codec.decode(buffer, valueStart, at, context, into);
    if (reason !== undefined) problems.push({ attribute: code, disposition: codec.malformed, reason });
  }
  if (unknown.length > 0) into.unknown = unknown;
  mergeAs4Path(into, context);
  for (const mandatory of [ATTRIBUTE.ORIGIN, ATTRIBUTE.AS_PATH])
    if (announces && !seen.has(mandatory))
      problems.push({
        attribute: mandatory,
        disposition: 'withdraw',
        reason: `the mandatory ${attributeName(mandatory)} is missing`,
      });
  return problems;
}

/** Writes one attribute header before a value that already stands at `valueAt = offset + 3`; answers the end. */
function closeAttribute(out: Buffer, offset: number, flags: number, code: number, end: number): number {
  const length = end - offset - 3;
  out[offset + 1] = code;
  if (length <= 255) {
    out[offset] = flags;
    out[offset + 2] = length;
    return end;
  }
  out.copyWithin(offset + 4, offset + 3, end);
  out[offset] = flags | FLAG.EXTENDED_LENGTH;
  out.writeUInt16BE(length, offset + 2);
  return end + 1;
}

/**
 * Writes every attribute but MP_REACH_NLRI and MP_UNREACH_NLRI; with `withNextHop` also NEXT_HOP. Answers the end.
 * `out` must be large enough for an extended message.
 */
export function encodeAttributeList(
  attributes: PathAttributes,
  context: MessageContext,
  withNextHop: boolean,
  out: Buffer,
  offset: number,
): number {
  let at = offset;
  for (const codec of CODECS) {
    if (codec.code === ATTRIBUTE.NEXT_HOP && !withNextHop) continue;
    const end = codec.encode(attributes, context, out, at + 3);
    if (end >= 0) at = closeAttribute(out, at, codec.flags, codec.code, end);
  }
  for (const raw of attributes.unknown ?? []) {
    out.set(raw.value, at + 3);
    at = closeAttribute(out, at, raw.flags, raw.code, at + 3 + raw.value.length);
  }
  return at;
}
