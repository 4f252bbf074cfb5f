// UPDATE as a value (RFC 4271 section 4.3, RFC 4760), for tests, tools and everything that is not the receive path,
// which works on update-scan.ts and batches directly. Also the bulk encoder, which is the send path.
import type { Cidr } from '../../../../src/lib/cidr.ts';
import { encodeMpNextHop } from '../attribute/mp-next-hop.ts';
import { encodeAttributeList } from '../attribute/table.ts';
import { addPathOf, afiOf, type Family, type MessageContext } from '../context.ts';
import type { AttributeProblem } from '../error.ts';
import { HEADER_BYTES, writeHeader } from '../header.ts';
import { ATTRIBUTE, FLAG, MESSAGE, SAFI } from '../iana.ts';
import { decodeNlri, encodeNlri, maxNlriBytes } from '../nlri.ts';
import type { PathAttributes } from '../path-attributes.ts';
import { PrefixBatch } from '../prefix-batch.ts';
import { decodeUpdateAttributes, requireNlri } from './update-attributes.ts';
import { endOfRibFamily, scanUpdate, UpdateScan } from './update-scan.ts';

export interface Nlri {
  readonly cidr: Cidr;
  readonly pathId: number;
}

export interface UpdateMessage {
  readonly withdrawn: readonly Nlri[];
  readonly announced: readonly Nlri[];
  /** Present when something is announced. */
  readonly attributes: PathAttributes | undefined;
  readonly endOfRib: Family | undefined;
  readonly problems: readonly AttributeProblem[];
}

/** Decodes a whole UPDATE, header included; throws BgpMessageError for what RFC 7606 wants a reset for. */
export function decodeUpdate(message: Buffer, context: MessageContext): UpdateMessage {
  const scan = new UpdateScan();
  const batch = new PrefixBatch();
  scanUpdate(message, 0, message.length, scan);
  const read = (start: number, end: number, family: Family): Nlri[] => {
    decodeNlri(message, start, end, family, addPathOf(context, family), batch);
    return batch.toArray();
  };
  const withdrawn = read(scan.withdrawnStart, scan.withdrawnEnd, 4);
  if (scan.unreachFamily > 0)
    withdrawn.push(...read(scan.unreachStart, scan.unreachEnd, scan.unreachFamily as Family));
  const announced = read(scan.nlriStart, scan.nlriEnd, 4);
  if (scan.reachFamily > 0)
    announced.push(...read(scan.reachStart, scan.reachEnd, scan.reachFamily as Family));
  const endOfRib = endOfRibFamily(scan);
  const hasAttributes = scan.attributesEnd > scan.attributesStart;
  if (announced.length === 0 && (endOfRib !== undefined || !hasAttributes || isUnreachAlone(scan)))
    return { withdrawn, announced, attributes: undefined, endOfRib, problems: [] };
  const decoded = decodeUpdateAttributes(message, scan, context);
  requireNlri(scan, decoded.problems);
  const { problems } = decoded;
  if (decoded.withdraw)
    return {
      withdrawn: [...withdrawn, ...announced],
      announced: [],
      attributes: undefined,
      endOfRib,
      problems,
    };
  return { withdrawn, announced, attributes: decoded.attributes, endOfRib, problems };
}

/** Only MP_UNREACH_NLRI among the attributes: a plain withdraw of the other family. */
export function isUnreachAlone(scan: UpdateScan): boolean {
  return (
    scan.unreachFamily !== 0 &&
    scan.unreachAttributeStart === scan.attributesStart &&
    scan.unreachAttributeEnd === scan.attributesEnd
  );
}

/** Encoders work in a scratch buffer of this size: one message of the greatest length, and attributes set aside. */
export const ENCODE_SCRATCH_BYTES = 3 * 65536;
const REST_AT = 2 * 65536;

/** IPv4 prefixes with an IPv4 next hop travel in the classic fields, everything else in MP attributes. */
function isClassic(family: Family, attributes: PathAttributes): boolean {
  return family === 4 && attributes.nextHop?.includes(':') === false;
}

/**
 * Writes UPDATEs that announce `indexes` of `batch` (all when absent) with one attribute set, as many prefixes in each
 * as fit, and hands every finished message to `emit` (a view that is only valid during the call). Answers the count.
 */
export function encodeAnnouncements(
  batch: PrefixBatch,
  attributes: PathAttributes,
  context: MessageContext,
  scratch: Buffer,
  emit: (message: Buffer) => void,
): number {
  const { family } = batch;
  const classic = isClassic(family, attributes);
  const addPath = addPathOf(context, family);
  scratch.writeUInt16BE(0, HEADER_BYTES);
  const attributesAt = HEADER_BYTES + 4;
  let at = attributesAt;
  let reachAt = 0;
  if (!classic) {
    // RFC 7606 section 5.1: MP_REACH_NLRI goes first. Extended length always, patched once the prefixes are in.
    reachAt = at;
    scratch[at] = FLAG.OPTIONAL | FLAG.EXTENDED_LENGTH;
    scratch[at + 1] = ATTRIBUTE.MP_REACH_NLRI;
    at = scratch.writeUInt16BE(afiOf(family), at + 4);
    scratch[at++] = SAFI.UNICAST;
    at = encodeMpNextHop(attributes, scratch, at);
    scratch[at++] = 0;
  }
  // The attribute bytes are written once; for MP they stand behind the prefixes and are moved per message.
  const restLength = classic
    ? 0
    : encodeAttributeList(attributes, context, false, scratch, REST_AT) - REST_AT;
  if (classic) {
    at = encodeAttributeList(attributes, context, true, scratch, attributesAt);
    scratch.writeUInt16BE(at - attributesAt, attributesAt - 2);
  }
  const nlriAt = at;
  const limit = context.maxMessageBytes - maxNlriBytes(family) - restLength;
  if (nlriAt > limit) return 0;
  return packPrefixes(batch, addPath, scratch, nlriAt, limit, prefixesEnd => {
    let end = prefixesEnd;
    if (!classic) {
      scratch.writeUInt16BE(end - reachAt - 4, reachAt + 2);
      scratch.copyWithin(end, REST_AT, REST_AT + restLength);
      end += restLength;
      scratch.writeUInt16BE(end - attributesAt, attributesAt - 2);
    }
    writeHeader(scratch, 0, end, MESSAGE.UPDATE);
    emit(scratch.subarray(0, end));
  });
}

/** Writes the prefixes from `nlriAt` on, and calls `flush` with their end when no more fit; answers how often. */
function packPrefixes(
  batch: PrefixBatch,
  addPath: boolean,
  scratch: Buffer,
  nlriAt: number,
  limit: number,
  flush: (end: number) => void,
): number {
  const { words, stride, lengths, pathIds } = batch;
  let at = nlriAt;
  let messages = 0;
  for (let i = 0; i < batch.count; i++) {
    if (at > limit) {
      flush(at);
      messages++;
      at = nlriAt;
    }
    at = encodeNlri(scratch, at, words, i * stride, lengths[i]!, addPath, pathIds[i]!);
  }
  if (at === nlriAt) return messages;
  flush(at);
  return messages + 1;
}

/** Writes UPDATEs that withdraw all of `batch`; see encodeAnnouncements. */
export function encodeWithdrawals(
  batch: PrefixBatch,
  context: MessageContext,
  scratch: Buffer,
  emit: (message: Buffer) => void,
): number {
  const { family } = batch;
  const addPath = addPathOf(context, family);
  const start = HEADER_BYTES + (family === 4 ? 2 : 4 + 4 + 3);
  const limit = context.maxMessageBytes - maxNlriBytes(family) - 2;
  return packPrefixes(batch, addPath, scratch, start, limit, prefixesEnd => {
    let end = prefixesEnd;
    if (family === 4) {
      scratch.writeUInt16BE(end - start, HEADER_BYTES);
      end = scratch.writeUInt16BE(0, end);
    } else writeUnreachHeader(scratch, end - start, family);
    writeHeader(scratch, 0, end, MESSAGE.UPDATE);
    emit(scratch.subarray(0, end));
  });
}

/** Everything of an MP_UNREACH_NLRI UPDATE before its prefixes. */
function writeUnreachHeader(out: Buffer, nlriBytes: number, family: Family): number {
  let at = out.writeUInt16BE(0, HEADER_BYTES);
  at = out.writeUInt16BE(4 + 3 + nlriBytes, at);
  out[at++] = FLAG.OPTIONAL | FLAG.EXTENDED_LENGTH;
  out[at++] = ATTRIBUTE.MP_UNREACH_NLRI;
  at = out.writeUInt16BE(3 + nlriBytes, at);
  at = out.writeUInt16BE(afiOf(family), at);
  out[at++] = SAFI.UNICAST;
  return at;
}

/** RFC 4724 section 2. */
export function encodeEndOfRib(family: Family): Buffer {
  const bytes = HEADER_BYTES + (family === 4 ? 4 : 4 + 4 + 3);
  const message = Buffer.alloc(bytes);
  if (family !== 4) writeUnreachHeader(message, 0, family);
  writeHeader(message, 0, bytes, MESSAGE.UPDATE);
  return message;
}
