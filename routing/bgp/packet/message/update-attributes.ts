// The second pass over an UPDATE: its attributes as a PathAttributes, and what RFC 7606 says to do about what is wrong.
import { decodeMpNextHop } from '../attribute/mp-next-hop.ts';
import { attributeName, decodeAttributeList } from '../attribute/table.ts';
import type { MessageContext } from '../context.ts';
import { type AttributeProblem, BgpMessageError } from '../error.ts';
import { ATTRIBUTE, ERROR, UPDATE_ERROR } from '../iana.ts';
import { PathAttributes } from '../path-attributes.ts';
import type { UpdateScan } from './update-scan.ts';

export interface DecodedAttributes {
  readonly attributes: PathAttributes;
  /** The prefixes of the message must be treated as withdrawn (RFC 7606 section 2). */
  readonly withdraw: boolean;
  readonly problems: readonly AttributeProblem[];
}

/**
 * Decodes the attributes of a scanned UPDATE. Which are mandatory counts only where something is announced (RFC 4271
 * section 5): ExaBGP sends withdrawals with an ORIGIN and an AS_PATH, and no NEXT_HOP.
 */
export function decodeUpdateAttributes(
  buffer: Buffer,
  scan: UpdateScan,
  context: MessageContext,
): DecodedAttributes {
  const attributes = new PathAttributes();
  let nextHopProblem: AttributeProblem | undefined;
  if (scan.reachFamily > 0) {
    const family = scan.reachFamily === 4 ? 4 : 6;
    const reason = decodeMpNextHop(buffer, scan.nextHopStart, scan.nextHopLength, family, attributes);
    // The NLRI's place is known, so a bad next hop costs the routes and not the session (RFC 7606 section 7.11).
    if (reason !== undefined)
      nextHopProblem = { attribute: ATTRIBUTE.MP_REACH_NLRI, disposition: 'withdraw', reason };
  }
  const { attributesStart, attributesEnd } = scan;
  const announces = scan.nlriEnd > scan.nlriStart || scan.reachFamily !== 0;
  const problems = decodeAttributeList(
    buffer,
    attributesStart,
    attributesEnd,
    context,
    attributes,
    announces,
  );
  if (nextHopProblem !== undefined) problems.push(nextHopProblem);
  if (announces && attributes.nextHop === undefined && nextHopProblem === undefined)
    problems.push({
      attribute: ATTRIBUTE.NEXT_HOP,
      disposition: 'withdraw',
      reason: 'the mandatory NEXT_HOP is missing',
    });
  return { attributes, withdraw: problems.some(p => p.disposition === 'withdraw'), problems };
}

/** RFC 7606 section 5.2: attributes that cannot be used and no prefix to withdraw: the session must be reset. */
export function requireNlri(scan: UpdateScan, problems: readonly AttributeProblem[]): void {
  const worst = problems.find(problem => problem.disposition === 'withdraw');
  if (worst === undefined || scan.nlriEnd > scan.nlriStart || scan.reachFamily !== 0) return;
  throw new BgpMessageError(
    ERROR.UPDATE_MESSAGE,
    UPDATE_ERROR.MALFORMED_ATTRIBUTE_LIST,
    attributeName(worst.attribute),
    scan.attributesStart,
    `${worst.reason}, and the UPDATE has no prefixes`,
  );
}
