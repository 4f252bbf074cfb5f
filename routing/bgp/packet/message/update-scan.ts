// The first pass over an UPDATE (RFC 4271 section 4.3): where its parts are. No attribute value is looked into except
// the framing of MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760 sections 3 and 4), because the receive path takes the
// attribute bytes as a key and decodes them only when it has not seen them before.
//
//   +-----------------------------------------------------+
//   |   Withdrawn Routes Length (2 octets)                |
//   |   Withdrawn Routes (variable)                       |
//   |   Total Path Attribute Length (2 octets)            |
//   |   Path Attributes (variable)                        |
//   |   Network Layer Reachability Information (variable) |
//   +-----------------------------------------------------+
import { type Family, familyOfAfi } from '../context.ts';
import { BgpMessageError } from '../error.ts';
import { HEADER_BYTES } from '../header.ts';
import { ATTRIBUTE, ERROR, FLAG, UPDATE_ERROR } from '../iana.ts';

/** Offsets into the scanned buffer; reused from message to message. `family 0` means the attribute is absent. */
export class UpdateScan {
  withdrawnStart = 0;
  withdrawnEnd = 0;
  attributesStart = 0;
  attributesEnd = 0;
  nlriStart = 0;
  nlriEnd = 0;
  /** The family of MP_REACH_NLRI, 0 when absent, -1 for a family podwire does not carry. */
  reachFamily: Family | 0 | -1 = 0;
  nextHopStart = 0;
  nextHopLength = 0;
  reachStart = 0;
  reachEnd = 0;
  /** Where the whole MP_REACH_NLRI attribute is, header included. */
  reachAttributeStart = 0;
  reachAttributeEnd = 0;
  unreachFamily: Family | 0 | -1 = 0;
  unreachStart = 0;
  unreachEnd = 0;
  unreachAttributeStart = 0;
  unreachAttributeEnd = 0;
  /** The attribute list runs over its end: treat-as-withdraw, RFC 7606 section 4. */
  overrun = false;
}

function malformed(offset: number, message: string, subcode: number): BgpMessageError {
  return new BgpMessageError(ERROR.UPDATE_MESSAGE, subcode, 'update', offset, message);
}

/** Scans the UPDATE at `[start, end)`, header included, into `scan`. */
export function scanUpdate(buffer: Buffer, start: number, end: number, scan: UpdateScan): void {
  let at = start + HEADER_BYTES;
  const withdrawnLength = (buffer[at]! << 8) | buffer[at + 1]!;
  scan.withdrawnStart = at + 2;
  scan.withdrawnEnd = at = scan.withdrawnStart + withdrawnLength;
  if (at + 2 > end)
    throw malformed(
      start + HEADER_BYTES,
      `withdrawn routes of ${withdrawnLength} bytes do not fit`,
      UPDATE_ERROR.MALFORMED_ATTRIBUTE_LIST,
    );
  const attributesLength = (buffer[at]! << 8) | buffer[at + 1]!;
  scan.attributesStart = at + 2;
  scan.attributesEnd = scan.attributesStart + attributesLength;
  if (scan.attributesEnd > end)
    throw malformed(
      at,
      `path attributes of ${attributesLength} bytes do not fit`,
      UPDATE_ERROR.MALFORMED_ATTRIBUTE_LIST,
    );
  scan.nlriStart = scan.attributesEnd;
  scan.nlriEnd = end;
  scan.reachFamily = 0;
  scan.unreachFamily = 0;
  scan.overrun = false;
  scanAttributes(buffer, scan);
}

function scanAttributes(buffer: Buffer, scan: UpdateScan): void {
  const end = scan.attributesEnd;
  let at = scan.attributesStart;
  while (at < end) {
    const extended = (buffer[at]! & FLAG.EXTENDED_LENGTH) !== 0;
    const valueStart = at + (extended ? 4 : 3);
    if (valueStart > end) {
      scan.overrun = true;
      return;
    }
    const code = buffer[at + 1]!;
    const length = extended ? (buffer[at + 2]! << 8) | buffer[at + 3]! : buffer[at + 2]!;
    const valueEnd = valueStart + length;
    if (valueEnd > end) {
      scan.overrun = true;
      return;
    }
    if (code === ATTRIBUTE.MP_REACH_NLRI) scanReach(buffer, at, valueStart, valueEnd, scan);
    else if (code === ATTRIBUTE.MP_UNREACH_NLRI) scanUnreach(buffer, at, valueStart, valueEnd, scan);
    at = valueEnd;
  }
}

/**
 *   +---------------------------------------------------------+
 *   | Address Family Identifier (2 octets)                    |
 *   | Subsequent Address Family Identifier (1 octet)          |
 *   | Length of Next Hop Network Address (1 octet)            |
 *   | Network Address of Next Hop (variable)                  |
 *   | Reserved (1 octet)                                      |
 *   | Network Layer Reachability Information (variable)       |
 *   +---------------------------------------------------------+
 * A form that hides where the NLRI begins ends the session (RFC 7606 sections 5.3 and 7.11).
 */
function scanReach(buffer: Buffer, at: number, start: number, end: number, scan: UpdateScan): void {
  if (scan.reachFamily !== 0)
    throw malformed(at, 'MP_REACH_NLRI is repeated', UPDATE_ERROR.MALFORMED_ATTRIBUTE_LIST);
  if (end - start < 5) throw malformed(at, 'MP_REACH_NLRI is cut short', UPDATE_ERROR.OPTIONAL_ATTRIBUTE);
  const nextHopLength = buffer[start + 3]!;
  if (start + 5 + nextHopLength > end)
    throw malformed(at, `a next hop of ${nextHopLength} bytes does not fit`, UPDATE_ERROR.OPTIONAL_ATTRIBUTE);
  scan.reachFamily = familyOfAfi(buffer.readUInt16BE(start), buffer[start + 2]!) ?? -1;
  scan.nextHopStart = start + 4;
  scan.nextHopLength = nextHopLength;
  scan.reachStart = start + 5 + nextHopLength;
  scan.reachEnd = end;
  scan.reachAttributeStart = at;
  scan.reachAttributeEnd = end;
}

/** AFI (2), SAFI (1), withdrawn prefixes. */
function scanUnreach(buffer: Buffer, at: number, start: number, end: number, scan: UpdateScan): void {
  if (scan.unreachFamily !== 0)
    throw malformed(at, 'MP_UNREACH_NLRI is repeated', UPDATE_ERROR.MALFORMED_ATTRIBUTE_LIST);
  if (end - start < 3) throw malformed(at, 'MP_UNREACH_NLRI is cut short', UPDATE_ERROR.OPTIONAL_ATTRIBUTE);
  scan.unreachFamily = familyOfAfi(buffer.readUInt16BE(start), buffer[start + 2]!) ?? -1;
  scan.unreachStart = start + 3;
  scan.unreachEnd = end;
  scan.unreachAttributeStart = at;
  scan.unreachAttributeEnd = end;
}

/**
 * The family an UPDATE is the End-of-RIB marker of (RFC 4724 section 2): an empty UPDATE for IPv4 unicast, an empty
 * MP_UNREACH_NLRI as the only attribute otherwise. Undefined for every other UPDATE.
 */
export function endOfRibFamily(scan: UpdateScan): Family | undefined {
  if (scan.withdrawnStart !== scan.withdrawnEnd || scan.nlriStart !== scan.nlriEnd || scan.overrun)
    return undefined;
  if (scan.attributesStart === scan.attributesEnd) return 4;
  const alone =
    scan.unreachAttributeStart === scan.attributesStart && scan.unreachAttributeEnd === scan.attributesEnd;
  if (scan.unreachFamily > 0 && alone && scan.unreachStart === scan.unreachEnd)
    return scan.unreachFamily as Family;
  return undefined;
}
