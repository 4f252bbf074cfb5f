// The capabilities of an OPEN as one value, and their codec (RFC 5492 section 4). Unknown ones are kept for display.
//
//   +------------------------------+
//   | Capability Code (1 octet)    |
//   | Capability Length (1 octet)  |
//   | Capability Value (variable)  |
//   +------------------------------+
import { type Family, familyOfAfi } from '../context.ts';
import { BgpMessageError } from '../error.ts';
import { CAPABILITY, ERROR, OPEN_ERROR } from '../iana.ts';
import { type AddPathFamily, decodeAddPath, encodeAddPath } from './add-path.ts';
import { decodeGracefulRestart, encodeGracefulRestart, type GracefulRestart } from './graceful-restart.ts';

export interface Capabilities {
  /** RFC 4760; without any, IPv4 unicast is what the peer speaks. */
  readonly families: readonly Family[];
  /** RFC 2918. */
  readonly routeRefresh: boolean;
  /** RFC 7313. */
  readonly enhancedRouteRefresh: boolean;
  /** RFC 8654. */
  readonly extendedMessage: boolean;
  /** RFC 8950: IPv4 prefixes may have an IPv6 next hop. */
  readonly extendedNextHop: boolean;
  /** RFC 6793; the AS number lives here when it needs four octets. */
  readonly as4: number | undefined;
  /** RFC 4724. */
  readonly gracefulRestart: GracefulRestart | undefined;
  /** RFC 7911. */
  readonly addPath: readonly AddPathFamily[];
  readonly unknown: readonly { code: number; value: Uint8Array }[];
}

export const NO_CAPABILITIES: Capabilities = {
  families: [],
  routeRefresh: false,
  enhancedRouteRefresh: false,
  extendedMessage: false,
  extendedNextHop: false,
  as4: undefined,
  gracefulRestart: undefined,
  addPath: [],
  unknown: [],
};

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Decodes a run of capability TLVs; several optional parameters may each hold such a run, so `into` is extended. */
export function decodeCapabilities(
  buffer: Buffer,
  start: number,
  end: number,
  into: Capabilities,
): Capabilities {
  const result: Mutable<Capabilities> = { ...into };
  let at = start;
  while (at < end) {
    const length = at + 1 < end ? buffer[at + 1]! : -1;
    if (length < 0 || at + 2 + length > end) throw badCapability(at, 'a capability is cut short');
    decodeCapability(buffer[at]!, buffer.subarray(at + 2, at + 2 + length), at, result);
    at += 2 + length;
  }
  return result;
}

function badCapability(offset: number, message: string): BgpMessageError {
  return new BgpMessageError(ERROR.OPEN_MESSAGE, OPEN_ERROR.UNSPECIFIED, 'capability', offset, message);
}

function decodeCapability(code: number, value: Buffer, offset: number, into: Mutable<Capabilities>): void {
  const need = (bytes: number): void => {
    if (value.length !== bytes)
      throw badCapability(offset, `capability ${code} has ${value.length} bytes instead of ${bytes}`);
  };
  switch (code) {
    case CAPABILITY.MULTIPROTOCOL: {
      need(4);
      const family = familyOfAfi(value.readUInt16BE(0), value[3]!);
      if (family !== undefined && !into.families.includes(family)) into.families = [...into.families, family];
      return;
    }
    case CAPABILITY.ROUTE_REFRESH:
      into.routeRefresh = true;
      return;
    case CAPABILITY.ENHANCED_ROUTE_REFRESH:
      into.enhancedRouteRefresh = true;
      return;
    case CAPABILITY.EXTENDED_MESSAGE:
      into.extendedMessage = true;
      return;
    case CAPABILITY.EXTENDED_NEXT_HOP:
      // RFC 8950 section 4: (NLRI AFI, NLRI SAFI, next hop AFI), two octets each.
      for (let i = 0; i + 6 <= value.length; i += 6)
        if (value.readUInt16BE(i) === 1 && value.readUInt16BE(i + 2) === 1 && value.readUInt16BE(i + 4) === 2)
          into.extendedNextHop = true;
      return;
    case CAPABILITY.FOUR_OCTET_AS:
      need(4);
      into.as4 = value.readUInt32BE(0);
      return;
    case CAPABILITY.GRACEFUL_RESTART:
      into.gracefulRestart = decodeGracefulRestart(value) ?? into.gracefulRestart;
      return;
    case CAPABILITY.ADD_PATH:
      into.addPath = decodeAddPath(value);
      return;
    default:
      into.unknown = [...into.unknown, { code, value: Uint8Array.from(value) }];
  }
}

/** The capability TLVs, ready for one optional parameter. */
export function encodeCapabilities(capabilities: Capabilities): Buffer {
  const parts: Uint8Array[] = [];
  const add = (code: number, value: Uint8Array): void => {
    parts.push(Uint8Array.of(code, value.length), value);
  };
  for (const family of capabilities.families)
    add(CAPABILITY.MULTIPROTOCOL, Uint8Array.of(0, family === 4 ? 1 : 2, 0, 1));
  if (capabilities.routeRefresh) add(CAPABILITY.ROUTE_REFRESH, new Uint8Array(0));
  if (capabilities.extendedNextHop) add(CAPABILITY.EXTENDED_NEXT_HOP, Uint8Array.of(0, 1, 0, 1, 0, 2));
  if (capabilities.extendedMessage) add(CAPABILITY.EXTENDED_MESSAGE, new Uint8Array(0));
  if (capabilities.gracefulRestart !== undefined)
    add(CAPABILITY.GRACEFUL_RESTART, encodeGracefulRestart(capabilities.gracefulRestart));
  if (capabilities.as4 !== undefined) {
    const value = Buffer.alloc(4);
    value.writeUInt32BE(capabilities.as4);
    add(CAPABILITY.FOUR_OCTET_AS, value);
  }
  if (capabilities.addPath.length > 0) add(CAPABILITY.ADD_PATH, encodeAddPath(capabilities.addPath));
  if (capabilities.enhancedRouteRefresh) add(CAPABILITY.ENHANCED_ROUTE_REFRESH, new Uint8Array(0));
  for (const { code, value } of capabilities.unknown) add(code, value);
  return Buffer.concat(parts);
}
