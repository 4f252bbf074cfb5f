// What fits on a node and where it fits best: requests against allocatable, host ports, least and balanced allocation.
import type { NodeState } from '../cluster-cache.ts';
import { type FilterPlugin, MAX_SCORE, type ScorePlugin } from '../framework.ts';
import type { PodView } from '../pod-view.ts';

export const nodeResourcesFit: FilterPlugin = {
  name: 'NodeResourcesFit',
  requeueOn: ['node-added', 'node-allocatable', 'pod-removed', 'pod-changed'],
  filter(view, state) {
    const reasons: string[] = [];
    const pods = state.allocatable.get('pods');
    if (pods !== undefined && state.pods.size + 1 > pods) reasons.push('Too many pods');
    for (const [resource, amount] of view.requests) {
      if (amount === 0) continue;
      const free = (state.allocatable.get(resource) ?? 0) - (state.requested.get(resource) ?? 0);
      if (amount > free) reasons.push(`Insufficient ${resource}`);
    }
    return reasons;
  },
};

export const nodePorts: FilterPlugin = {
  name: 'NodePorts',
  requeueOn: ['node-added', 'pod-removed'],
  filter(view, state) {
    return state.hasPortConflict(view.hostPorts)
      ? ["node(s) didn't have free ports for the requested pod ports"]
      : undefined;
  },
};

/** Shares of cpu and memory that would be taken with the pod, 0..1 (and above when overcommitted). */
function shares(view: PodView, state: NodeState): number[] {
  const taken: [resource: string, amount: number][] = [
    ['cpu', state.scoring.milliCpu + view.scoring.milliCpu],
    ['memory', state.scoring.memoryBytes + view.scoring.memoryBytes],
  ];
  return taken.flatMap(([resource, amount]) => {
    const capacity = state.allocatable.get(resource) ?? 0;
    return capacity > 0 ? [amount / capacity] : [];
  });
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The emptier the node would be, the better. */
export const leastAllocated: ScorePlugin = {
  name: 'NodeResourcesFit',
  weight: 1,
  score: (view, state) =>
    mean(shares(view, state).map(share => Math.floor(Math.max(0, 1 - share) * MAX_SCORE))),
};

/** The closer the shares of cpu and memory are, the better: none is left that the other cannot use. */
export const balancedAllocation: ScorePlugin = {
  name: 'NodeResourcesBalancedAllocation',
  weight: 1,
  score(view, state) {
    const fractions = shares(view, state).map(share => Math.min(1, share));
    const average = mean(fractions);
    const deviation = Math.sqrt(mean(fractions.map(fraction => (fraction - average) ** 2)));
    return Math.floor((1 - deviation) * MAX_SCORE);
  },
};
