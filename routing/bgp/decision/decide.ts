// The decision process, RFC 4271 section 9.1.2.2 with RFC 4456 section 9, as elimination in steps: what is left after
// the last step is the best path, and every loser knows at which step it lost. MED is compared only among paths of the
// same neighbour AS, which is why this is set-wise and not a sort: with a pairwise compare the result depends on order.
import { compareIp, parseIp } from '../../../src/lib/ip.ts';
import type { AttributeEntry } from '../rib/attribute-store.ts';
import type { PathSource } from '../rib/path-source.ts';

export const DEFAULT_LOCAL_PREF = 100;

export interface Candidate {
  readonly path: number;
  readonly entry: AttributeEntry;
  readonly source: PathSource;
  readonly pathId: number;
  /** Cost to reach the next hop; undefined when it cannot be reached. */
  readonly metric: number | undefined;
}

/** In the order in which they decide. */
export const DECISION_STEPS = [
  'next hop reachable',
  'local route',
  'local preference',
  'AS path length',
  'origin',
  'MED',
  'external over internal',
  'metric to next hop',
  'router id',
  'cluster list length',
  'peer address',
  'path id',
] as const;

export type DecisionStep = (typeof DECISION_STEPS)[number];

export interface Decision {
  readonly best: Candidate | undefined;
  /** The best path and those equal to it down to the metric: what ECMP may use. */
  readonly multipath: readonly Candidate[];
  /** Where each other path lost, and to the value that won. */
  readonly lost: readonly { readonly candidate: Candidate; readonly step: DecisionStep }[];
}

type Lost = { candidate: Candidate; step: DecisionStep }[];

/** Keeps the candidates with the least value. */
function keepLeast(left: Candidate[], value: (c: Candidate) => number, step: DecisionStep, lost?: Lost) {
  if (left.length === 1) return left;
  let least = Number.POSITIVE_INFINITY;
  for (const candidate of left) least = Math.min(least, value(candidate));
  return keepIf(left, candidate => value(candidate) === least, step, lost);
}

function keepIf(left: Candidate[], good: (c: Candidate) => boolean, step: DecisionStep, lost?: Lost) {
  const kept = left.filter(good);
  if (lost !== undefined && kept.length < left.length)
    for (const candidate of left) if (!good(candidate)) lost.push({ candidate, step });
  return kept;
}

/** Step (c): within each neighbour AS only the least MED stays; an absent MED is 0. */
function keepLeastMed(left: Candidate[], lost?: Lost): Candidate[] {
  if (left.length === 1) return left;
  const least = new Map<number, number>();
  for (const { entry } of left) {
    const med = entry.attributes.med ?? 0;
    const known = least.get(entry.neighbourAs);
    if (known === undefined || med < known) least.set(entry.neighbourAs, med);
  }
  return keepIf(
    left,
    ({ entry }) => (entry.attributes.med ?? 0) === least.get(entry.neighbourAs),
    'MED',
    lost,
  );
}

/** RFC 4456 section 9: ORIGINATOR_ID stands for the router id where there is one. */
const routerIdOf = (c: Candidate): number => c.entry.attributes.originatorId ?? c.source.routerId;

function keepLowestAddress(left: Candidate[], lost?: Lost): Candidate[] {
  if (left.length === 1) return left;
  const bytes = (c: Candidate): Uint8Array => parseIp(c.source.address) ?? new Uint8Array(4);
  const lowest = left.reduce((a, b) => (compareIp(bytes(b), bytes(a)) < 0 ? b : a));
  return keepIf(left, c => c.source.address === lowest.source.address, 'peer address', lost);
}

/** Chooses among the usable paths to one destination. With `explain` the losers are listed with their steps. */
export function decide(candidates: readonly Candidate[], explain = false): Decision {
  const lost: Lost | undefined = explain ? [] : undefined;
  let left = keepIf([...candidates], c => c.metric !== undefined, 'next hop reachable', lost);
  if (left.length === 0) return { best: undefined, multipath: [], lost: lost ?? [] };
  left = keepLeast(left, c => (c.source.kind === 'local' ? 0 : 1), 'local route', lost);
  left = keepLeast(
    left,
    c => -(c.entry.attributes.localPref ?? DEFAULT_LOCAL_PREF),
    'local preference',
    lost,
  );
  left = keepLeast(left, c => c.entry.asPathLength, 'AS path length', lost);
  left = keepLeast(left, c => c.entry.attributes.origin, 'origin', lost);
  left = keepLeastMed(left, lost);
  left = keepLeast(left, c => (c.source.kind === 'internal' ? 1 : 0), 'external over internal', lost);
  left = keepLeast(left, c => c.metric ?? 0, 'metric to next hop', lost);
  const multipath = left;
  left = keepLeast(left, routerIdOf, 'router id', lost);
  left = keepLeast(left, c => c.entry.attributes.clusterList?.length ?? 0, 'cluster list length', lost);
  left = keepLowestAddress(left, lost);
  left = keepLeast(left, c => c.pathId, 'path id', lost);
  const best = left[0]!;
  return { best, multipath: [best, ...multipath.filter(c => c !== best)], lost: lost ?? [] };
}
