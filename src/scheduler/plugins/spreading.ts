// Pods of one owner go to different nodes and zones where possible: what PodTopologySpread does with its default
// constraints (hostname and zone, ScheduleAnyway), here by the controller that owns the pods.

import type { NodeState } from '../cluster-cache.ts';
import { type Cycle, MAX_SCORE, type ScorePlugin } from '../framework.ts';
import type { PodView } from '../pod-view.ts';

const ZONE_LABEL = 'topology.kubernetes.io/zone';
/** Of the final score, the share that zones decide where there are zones (kube-scheduler selectorspread). */
const ZONE_WEIGHT = 2 / 3;

function zoneOf(state: NodeState): string | undefined {
  return state.node?.metadata.labels?.[ZONE_LABEL];
}

function ownersPods(view: PodView, state: NodeState): number {
  return view.ownerUid ? (state.owners.get(view.ownerUid) ?? 0) : 0;
}

/** The owner's pods by zone, over all nodes, counted once a cycle. */
function podsByZone(view: PodView, cycle: Cycle): Map<string, number> {
  const known = cycle.memo.get('podsByZone') as Map<string, number> | undefined;
  if (known) return known;
  const counts = new Map<string, number>();
  for (const state of cycle.nodes) {
    const zone = zoneOf(state);
    if (zone !== undefined) counts.set(zone, (counts.get(zone) ?? 0) + ownersPods(view, state));
  }
  cycle.memo.set('podsByZone', counts);
  return counts;
}

export const ownerSpreading: ScorePlugin = {
  name: 'PodTopologySpread',
  weight: 2,
  score(view, state, cycle) {
    if (view.ownerUid) podsByZone(view, cycle);
    return ownersPods(view, state);
  },
  normalize(scores, feasible, cycle) {
    const zones =
      (cycle.memo.get('podsByZone') as Map<string, number> | undefined) ?? new Map<string, number>();
    const mostOnNode = Math.max(0, ...scores);
    const mostInZone = Math.max(0, ...zones.values());
    for (const [index, count] of scores.entries()) {
      const byNode = mostOnNode === 0 ? MAX_SCORE : (MAX_SCORE * (mostOnNode - count)) / mostOnNode;
      const zone = zoneOf(feasible[index] as NodeState);
      if (zone === undefined || zones.size < 2) {
        scores[index] = byNode;
        continue;
      }
      const inZone = zones.get(zone) ?? 0;
      const byZone = mostInZone === 0 ? MAX_SCORE : (MAX_SCORE * (mostInZone - inZone)) / mostInZone;
      scores[index] = byNode * (1 - ZONE_WEIGHT) + byZone * ZONE_WEIGHT;
    }
  },
};
