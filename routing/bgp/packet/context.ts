// What a decoder or encoder must know of the session: the outcome of the capability exchange. Plain data.

/** Unicast address families by their usual digit; the wire has AFI 1 and 2 with SAFI 1. */
export type Family = 4 | 6;

export const FAMILIES: readonly Family[] = [4, 6];

export interface MessageContext {
  /** Both sides speak four-octet AS numbers (RFC 6793); without it AS_PATH has two octets each. */
  readonly as4: boolean;
  /** The other side is in another AS: attributes that are internal to an AS are discarded (RFC 7606 section 7). */
  readonly external: boolean;
  /** NLRI carry a path identifier in this direction (RFC 7911 section 3). */
  readonly addPath4: boolean;
  readonly addPath6: boolean;
  /** 4096, or 65535 with RFC 8654 (never for OPEN and KEEPALIVE). */
  readonly maxMessageBytes: number;
}

export const DEFAULT_CONTEXT: MessageContext = {
  as4: true,
  external: false,
  addPath4: false,
  addPath6: false,
  maxMessageBytes: 4096,
};

export function addPathOf(context: MessageContext, family: Family): boolean {
  return family === 4 ? context.addPath4 : context.addPath6;
}

export function afiOf(family: Family): number {
  return family === 4 ? 1 : 2;
}

/** Undefined for address families podwire does not carry. */
export function familyOfAfi(afi: number, safi: number): Family | undefined {
  if (safi !== 1) return undefined;
  return afi === 1 ? 4 : afi === 2 ? 6 : undefined;
}
