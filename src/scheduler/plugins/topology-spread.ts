// topologySpreadConstraints (KEP-895): pods that match a selector are spread over the domains of a node label.
// DoNotSchedule filters, ScheduleAnyway scores. A pod without constraints of its own is spread by its owner
// (spreading.ts), as kube-scheduler's default constraints do.
import {
  labelSelectorFromObject,
  matchesLabelSelector,
  type ParsedLabelSelector,
} from '../../api/selectors.ts';
import type { PodSpec } from '../../api/types.ts';
import type { NodeState } from '../cluster-cache.ts';
import { type Cycle, type FilterPlugin, MAX_SCORE, type ScorePlugin } from '../framework.ts';
import type { PodView } from '../pod-view.ts';
import { nodeAffinityFilter } from './node-placement.ts';
import { ownerSpreading } from './spreading.ts';
import { taintTolerationFilter } from './taints.ts';

type Constraint = NonNullable<PodSpec['topologySpreadConstraints']>[number];

/** One constraint with the pods that count, by domain. */
interface Spread {
  constraint: Constraint;
  /** The pod counts itself when it goes somewhere. */
  self: number;
  counts: Map<string, number>;
}

const MISMATCH = "node(s) didn't match pod topology spread constraints";

export const topologySpreadFilter: FilterPlugin = {
  name: 'PodTopologySpread',
  requeueOn: ['node-added', 'node-labels', 'pod-added', 'pod-removed', 'pod-changed'],
  filter(view, state, cycle) {
    for (const { constraint, self, counts } of spreads(view, cycle, 'DoNotSchedule')) {
      const domain = state.node?.metadata.labels?.[constraint.topologyKey];
      if (domain === undefined) return [`${MISMATCH} (missing required label)`];
      const fewest = counts.size < (constraint.minDomains ?? 1) ? 0 : Math.min(...counts.values());
      if ((counts.get(domain) ?? 0) + self - fewest > constraint.maxSkew) return [MISMATCH];
    }
    return undefined;
  },
};

export const topologySpreadScore: ScorePlugin = {
  name: 'PodTopologySpread',
  weight: 2,
  score(view, state, cycle) {
    if (!hasConstraints(view)) return ownerSpreading.score(view, state, cycle);
    let pods = 0;
    for (const { constraint, counts } of spreads(view, cycle, 'ScheduleAnyway')) {
      const domain = state.node?.metadata.labels?.[constraint.topologyKey];
      // A node outside every domain is the last choice.
      pods += domain === undefined ? Number.MAX_SAFE_INTEGER : (counts.get(domain) ?? 0);
    }
    return pods;
  },
  normalize(scores, feasible, cycle) {
    if (!cycle.memo.has('spread ScheduleAnyway')) {
      ownerSpreading.normalize?.(scores, feasible, cycle);
      return;
    }
    const counted = scores.filter(score => score < Number.MAX_SAFE_INTEGER);
    const most = Math.max(0, ...counted);
    const fewest = Math.min(most, ...counted);
    for (const [index, score] of scores.entries())
      scores[index] =
        score >= Number.MAX_SAFE_INTEGER
          ? 0
          : most === 0
            ? MAX_SCORE
            : (MAX_SCORE * (most + fewest - score)) / most;
  },
};

function hasConstraints(view: PodView): boolean {
  return (view.pod.spec?.topologySpreadConstraints?.length ?? 0) > 0;
}

/** The constraints of one sort, counted once a cycle. */
function spreads(view: PodView, cycle: Cycle, when: 'DoNotSchedule' | 'ScheduleAnyway'): Spread[] {
  const name = `spread ${when}`;
  const known = cycle.memo.get(name) as Spread[] | undefined;
  if (known) return known;
  const constraints = (view.pod.spec?.topologySpreadConstraints ?? []).filter(
    constraint => constraint.whenUnsatisfiable === when,
  );
  const counted = constraints.map(constraint => countPods(view, cycle, constraint, constraints));
  if (hasConstraints(view)) cycle.memo.set(name, counted);
  return counted;
}

function countPods(view: PodView, cycle: Cycle, constraint: Constraint, all: readonly Constraint[]): Spread {
  const selector = selectorOf(constraint, view);
  const counts = new Map<string, number>();
  for (const state of cycle.nodes) {
    const labels = state.node?.metadata.labels ?? {};
    const domain = labels[constraint.topologyKey];
    if (domain === undefined || all.some(({ topologyKey }) => labels[topologyKey] === undefined)) continue;
    if (!isEligible(view, state, cycle, constraint)) continue;
    const matching = [...state.pods.values()].filter(other => isCounted(other, view, selector)).length;
    counts.set(domain, (counts.get(domain) ?? 0) + matching);
  }
  return { constraint, self: matchesLabelSelector(selector, view.pod.metadata.labels) ? 1 : 0, counts };
}

function isCounted(other: PodView, view: PodView, selector: ParsedLabelSelector): boolean {
  return (
    other.pod.metadata.namespace === view.pod.metadata.namespace &&
    other.pod.metadata.deletionTimestamp === undefined &&
    matchesLabelSelector(selector, other.pod.metadata.labels)
  );
}

/** matchLabelKeys adds the pod's own values to the selector (KEP-3243). */
function selectorOf(constraint: Constraint, view: PodView): ParsedLabelSelector {
  const labels = view.pod.metadata.labels ?? {};
  const own = (constraint.matchLabelKeys ?? []).flatMap(key => {
    const value = labels[key];
    return value === undefined ? [] : [{ key, operator: 'In' as const, values: [value] }];
  });
  return [...labelSelectorFromObject(constraint.labelSelector), ...own];
}

/** nodeAffinityPolicy (default Honor) and nodeTaintsPolicy (default Ignore), KEP-3094. */
function isEligible(view: PodView, state: NodeState, cycle: Cycle, constraint: Constraint): boolean {
  if (constraint.nodeAffinityPolicy !== 'Ignore' && nodeAffinityFilter.filter(view, state, cycle))
    return false;
  return constraint.nodeTaintsPolicy !== 'Honor' || !taintTolerationFilter.filter(view, state, cycle);
}
