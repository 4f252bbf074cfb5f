// The next hop inside MP_REACH_NLRI: RFC 4760 section 3, RFC 2545 section 3 (two IPv6 addresses), RFC 8950 (an IPv6
// next hop for IPv4 prefixes). The rest of MP_REACH_NLRI and MP_UNREACH_NLRI is prefixes: message/update.ts.
import { formatIp, requireIp } from '../../../../src/lib/ip.ts';
import type { Family } from '../context.ts';
import type { PathAttributes } from '../path-attributes.ts';

/** Answers the reason when a next hop of this length cannot be one for the family. */
export function decodeMpNextHop(
  buffer: Buffer,
  start: number,
  length: number,
  family: Family,
  into: PathAttributes,
): string | undefined {
  if (length === 4 && family === 4) {
    into.nextHop = formatIp(buffer.subarray(start, start + 4));
    return undefined;
  }
  if (length !== 16 && length !== 32) return `a next hop of ${length} bytes for IPv${family}`;
  into.nextHop = formatIp(buffer.subarray(start, start + 16));
  if (length === 32) {
    const second = buffer.subarray(start + 16, start + 32);
    // Some speakers repeat the global address or send zeros where they have no link-local one.
    if (second[0] === 0xfe && (second[1]! & 0xc0) === 0x80) into.linkLocalNextHop = formatIp(second);
  }
  return undefined;
}

/** Writes length and address(es); answers the offset behind them. */
export function encodeMpNextHop(attributes: PathAttributes, out: Buffer, offset: number): number {
  const global = requireIp(attributes.nextHop ?? '', 'next hop');
  const second =
    attributes.linkLocalNextHop === undefined
      ? undefined
      : requireIp(attributes.linkLocalNextHop, 'link-local next hop');
  out[offset] = global.length + (second?.length ?? 0);
  out.set(global, offset + 1);
  if (second !== undefined) out.set(second, offset + 1 + global.length);
  return offset + 1 + out[offset]!;
}
