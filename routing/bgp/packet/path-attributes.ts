// The attributes of a path as one immutable value. Everything that is not the prefix: equal attributes are stored
// once (rib/intern.ts), so identity may stand for equality in a table. Not a wire form; attribute/ has those.
import { AS_SEGMENT, ORIGIN } from './iana.ts';

export interface AsSegment {
  /** AS_SEGMENT. */
  readonly type: number;
  readonly asns: readonly number[];
}

export interface Aggregator {
  readonly asn: number;
  /** IPv4 router id as a number. */
  readonly address: number;
}

/** An attribute podwire does not interpret. Kept only when optional and transitive (RFC 4271 section 5). */
export interface RawAttribute {
  readonly code: number;
  readonly flags: number;
  readonly value: Uint8Array;
}

export class PathAttributes {
  origin: number = ORIGIN.IGP;
  asPath: readonly AsSegment[] = [];
  /** Canonical text; absent only in a set that was never announced. */
  nextHop: string | undefined = undefined;
  /** The second address of an IPv6 MP_REACH_NLRI (RFC 2545 section 3). */
  linkLocalNextHop: string | undefined = undefined;
  med: number | undefined = undefined;
  localPref: number | undefined = undefined;
  atomicAggregate = false;
  aggregator: Aggregator | undefined = undefined;
  /** RFC 1997, each one unsigned 32 bits. */
  communities: readonly number[] | undefined = undefined;
  /** RFC 4360, eight octets each, uninterpreted. */
  extendedCommunities: Uint8Array | undefined = undefined;
  /** RFC 8092, three numbers each. */
  largeCommunities: readonly number[] | undefined = undefined;
  originatorId: number | undefined = undefined;
  clusterList: readonly number[] | undefined = undefined;
  unknown: readonly RawAttribute[] | undefined = undefined;
  /** Only between decoding AS4_PATH and joining it with AS_PATH (RFC 6793 section 4.2.3). */
  as4Path: readonly AsSegment[] | undefined = undefined;

  /** A copy with some fields changed. */
  with(changes: Partial<Omit<PathAttributes, 'with'>>): PathAttributes {
    const copy = Object.assign(new PathAttributes(), this);
    return Object.assign(copy, changes);
  }
}

/** RFC 4271 section 9.1.2.2 (a): a set counts 1; confederation segments 0 (RFC 5065 section 5.3). */
export function asPathLength(path: readonly AsSegment[]): number {
  let length = 0;
  for (const segment of path)
    if (segment.type === AS_SEGMENT.SEQUENCE) length += segment.asns.length;
    else if (segment.type === AS_SEGMENT.SET) length += 1;
  return length;
}

/** The AS the path was learned from: the first of a sequence (RFC 4271 section 9.1.2.2 (c)), 0 when local. */
export function neighbourAs(path: readonly AsSegment[]): number {
  const first = path[0];
  return first !== undefined && first.type === AS_SEGMENT.SEQUENCE ? (first.asns[0] ?? 0) : 0;
}

/** How many times `asn` stands in the path. */
export function countAs(path: readonly AsSegment[], asn: number): number {
  let count = 0;
  for (const segment of path) for (const one of segment.asns) if (one === asn) count++;
  return count;
}

/** RFC 4271 section 5.1.2 (b): the AS before all others, in the leading sequence, which holds at most 255. */
export function prependAs(path: readonly AsSegment[], asn: number, times = 1): readonly AsSegment[] {
  const added = new Array<number>(times).fill(asn);
  const first = path[0];
  if (first !== undefined && first.type === AS_SEGMENT.SEQUENCE && first.asns.length + times <= 255)
    return [{ type: AS_SEGMENT.SEQUENCE, asns: [...added, ...first.asns] }, ...path.slice(1)];
  return [{ type: AS_SEGMENT.SEQUENCE, asns: added }, ...path];
}

/** `64512 65001 {1,2}`, as routers print it. */
export function formatAsPath(path: readonly AsSegment[]): string {
  return path
    .map(segment => {
      if (segment.type === AS_SEGMENT.SEQUENCE) return segment.asns.join(' ');
      if (segment.type === AS_SEGMENT.SET) return `{${segment.asns.join(',')}}`;
      if (segment.type === AS_SEGMENT.CONFED_SEQUENCE) return `(${segment.asns.join(' ')})`;
      return `[${segment.asns.join(',')}]`;
    })
    .join(' ');
}
