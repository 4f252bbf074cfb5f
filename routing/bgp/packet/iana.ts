// Numbers that IANA keeps for BGP, with the names of the RFCs, as plain constants. No logic.
// https://www.iana.org/assignments/bgp-parameters, /capability-codes, /address-family-numbers.

/** RFC 4271 section 4.1, RFC 2918. */
export const MESSAGE = { OPEN: 1, UPDATE: 2, NOTIFICATION: 3, KEEPALIVE: 4, ROUTE_REFRESH: 5 } as const;

/** RFC 4271 section 4.3 and the RFCs named. */
export const ATTRIBUTE = {
  ORIGIN: 1,
  AS_PATH: 2,
  NEXT_HOP: 3,
  MULTI_EXIT_DISC: 4,
  LOCAL_PREF: 5,
  ATOMIC_AGGREGATE: 6,
  AGGREGATOR: 7,
  /** RFC 1997. */
  COMMUNITIES: 8,
  /** RFC 4456. */
  ORIGINATOR_ID: 9,
  CLUSTER_LIST: 10,
  /** RFC 4760. */
  MP_REACH_NLRI: 14,
  MP_UNREACH_NLRI: 15,
  /** RFC 4360. */
  EXTENDED_COMMUNITIES: 16,
  /** RFC 6793. */
  AS4_PATH: 17,
  AS4_AGGREGATOR: 18,
  /** RFC 8092. */
  LARGE_COMMUNITY: 32,
} as const;

/** The flag bits of a path attribute, RFC 4271 section 4.3. */
export const FLAG = { OPTIONAL: 0x80, TRANSITIVE: 0x40, PARTIAL: 0x20, EXTENDED_LENGTH: 0x10 } as const;

/** RFC 4271 section 5.1.1. */
export const ORIGIN = { IGP: 0, EGP: 1, INCOMPLETE: 2 } as const;

/** RFC 4271 section 4.3, RFC 5065. */
export const AS_SEGMENT = { SET: 1, SEQUENCE: 2, CONFED_SEQUENCE: 3, CONFED_SET: 4 } as const;

/** RFC 5492 section 4 and the RFCs named. */
export const CAPABILITY = {
  /** RFC 4760. */
  MULTIPROTOCOL: 1,
  /** RFC 2918. */
  ROUTE_REFRESH: 2,
  /** RFC 8950. */
  EXTENDED_NEXT_HOP: 5,
  /** RFC 8654. */
  EXTENDED_MESSAGE: 6,
  /** RFC 4724, RFC 8538. */
  GRACEFUL_RESTART: 64,
  /** RFC 6793. */
  FOUR_OCTET_AS: 65,
  /** RFC 7911. */
  ADD_PATH: 69,
  /** RFC 7313. */
  ENHANCED_ROUTE_REFRESH: 70,
} as const;

export const AFI = { IPV4: 1, IPV6: 2 } as const;
export const SAFI = { UNICAST: 1 } as const;

/** RFC 6793 section 4.2.2: stands for a four-octet AS number where only two octets fit. */
export const AS_TRANS = 23456;

/** NOTIFICATION error codes, RFC 4271 section 4.5, RFC 7313 section 5. */
export const ERROR = {
  MESSAGE_HEADER: 1,
  OPEN_MESSAGE: 2,
  UPDATE_MESSAGE: 3,
  HOLD_TIMER_EXPIRED: 4,
  FSM: 5,
  CEASE: 6,
  ROUTE_REFRESH: 7,
} as const;

/** RFC 4271 section 6.1. */
export const HEADER_ERROR = { NOT_SYNCHRONIZED: 1, BAD_LENGTH: 2, BAD_TYPE: 3 } as const;

/** RFC 4271 section 6.2, RFC 5492 section 5. */
export const OPEN_ERROR = {
  UNSPECIFIED: 0,
  UNSUPPORTED_VERSION: 1,
  BAD_PEER_AS: 2,
  BAD_IDENTIFIER: 3,
  UNSUPPORTED_PARAMETER: 4,
  UNACCEPTABLE_HOLD_TIME: 6,
  UNSUPPORTED_CAPABILITY: 7,
} as const;

/** RFC 4271 section 6.3. */
export const UPDATE_ERROR = {
  MALFORMED_ATTRIBUTE_LIST: 1,
  UNRECOGNIZED_WELL_KNOWN: 2,
  MISSING_WELL_KNOWN: 3,
  ATTRIBUTE_FLAGS: 4,
  ATTRIBUTE_LENGTH: 5,
  INVALID_ORIGIN: 6,
  INVALID_NEXT_HOP: 8,
  OPTIONAL_ATTRIBUTE: 9,
  INVALID_NETWORK_FIELD: 10,
  MALFORMED_AS_PATH: 11,
} as const;

/** RFC 6608. */
export const FSM_ERROR = { UNSPECIFIED: 0, IN_OPEN_SENT: 1, IN_OPEN_CONFIRM: 2, IN_ESTABLISHED: 3 } as const;

/** RFC 4486, RFC 8538 section 3.1, RFC 9384. */
export const CEASE = {
  MAX_PREFIXES: 1,
  ADMIN_SHUTDOWN: 2,
  PEER_DECONFIGURED: 3,
  ADMIN_RESET: 4,
  CONNECTION_REJECTED: 5,
  CONFIGURATION_CHANGE: 6,
  CONNECTION_COLLISION: 7,
  OUT_OF_RESOURCES: 8,
  HARD_RESET: 9,
  BFD_DOWN: 10,
} as const;

const ERROR_NAMES: Record<number, [name: string, subcodes: Record<string, number>]> = {
  1: ['message header error', HEADER_ERROR],
  2: ['open message error', OPEN_ERROR],
  3: ['update message error', UPDATE_ERROR],
  4: ['hold timer expired', {}],
  5: ['finite state machine error', FSM_ERROR],
  6: ['cease', CEASE],
  7: ['route-refresh message error', { INVALID_LENGTH: 1 }],
};

/** `cease/admin-shutdown`; numbers where IANA has no name. */
export function errorName(code: number, subcode: number): string {
  const entry = ERROR_NAMES[code];
  if (entry === undefined) return `error ${code}/${subcode}`;
  const name = Object.entries(entry[1]).find(([, value]) => value === subcode)?.[0];
  if (name !== undefined) return `${entry[0]}/${name.toLowerCase().replaceAll('_', '-')}`;
  return subcode === 0 ? entry[0] : `${entry[0]}/${subcode}`;
}
