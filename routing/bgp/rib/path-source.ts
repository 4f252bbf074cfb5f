// Who a path came from, as far as the decision process and policy care. One per configured neighbour, one for our own.

export interface PathSource {
  /** Index in the RIB's per-source arrays; 0 is podwire itself. */
  readonly index: number;
  readonly kind: 'local' | 'internal' | 'external';
  /** For messages and the looking glass. */
  readonly name: string;
  /** Canonical text; empty for local. */
  readonly address: string;
  readonly asn: number;
  /** From the peer's OPEN. */
  readonly routerId: number;
  /** The peer is our route reflector client (RFC 4456). */
  readonly reflectorClient: boolean;
}
