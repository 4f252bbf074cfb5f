// The scheduling path: filter (which nodes can), score (which is best), choose. Pure: plugins see the pod and the state
// of one node, never the API. Plugins are rows of a table (plugin-table.ts).
import type { NodeState } from './cluster-cache.ts';
import type { PodView } from './pod-view.ts';

/** What happened in the cluster; says which waiting pods are worth another try. */
export type ClusterEvent =
  | 'node-added'
  | 'node-allocatable'
  | 'node-labels'
  | 'node-taints'
  | 'pod-removed'
  | 'pod-changed'
  | 'pod-added';

export interface FilterPlugin {
  readonly name: string;
  /** Events after which a pod this plugin refused may fit. */
  readonly requeueOn: readonly ClusterEvent[];
  /** Reasons why the pod cannot run there, as people see them; empty or undefined when it can. */
  filter(view: PodView, state: NodeState, cycle: Cycle): readonly string[] | undefined;
}

export interface ScorePlugin {
  readonly name: string;
  readonly weight: number;
  /** Any number; higher is better. Without `normalize` it must be 0..100. */
  score(view: PodView, state: NodeState, cycle: Cycle): number;
  /** All feasible nodes' scores to 0..100, in place. */
  normalize?(scores: number[], feasible: readonly NodeState[], cycle: Cycle): void;
}

export interface PluginTable {
  readonly filters: readonly FilterPlugin[];
  readonly scores: readonly ScorePlugin[];
}

/** One pod's cycle: the nodes as they are, and a place for what plugins work out once. */
export interface Cycle {
  readonly nodes: readonly NodeState[];
  readonly memo: Map<string, unknown>;
}

export type Decision =
  | { nodeName: string; feasible: number }
  | { nodeName: undefined; message: string; rejectedBy: Set<string> };

export const MAX_SCORE = 100;

/** Below this many feasible nodes all nodes are looked at. */
const MIN_FEASIBLE = 100;
const MIN_PERCENT = 5;

/** How many feasible nodes are enough: all up to 100, then 50 % - nodes/125, at least 5 %. */
export function feasibleEnough(nodes: number): number {
  if (nodes < MIN_FEASIBLE) return nodes;
  const percent = Math.max(MIN_PERCENT, 50 - Math.floor(nodes / 125));
  return Math.max(MIN_FEASIBLE, Math.floor((nodes * percent) / 100));
}

/** Chooses a node. `startAt` rotates the first node looked at, so that all get their turn in large clusters. */
export function decide(
  view: PodView,
  nodes: readonly NodeState[],
  table: PluginTable,
  options: { startAt?: number; random?: () => number } = {},
): Decision {
  const cycle: Cycle = { nodes, memo: new Map() };
  const feasible: NodeState[] = [];
  const reasons = new Map<string, number>();
  const rejectedBy = new Set<string>();
  const enough = feasibleEnough(nodes.length);
  for (let i = 0; i < nodes.length && feasible.length < enough; i++) {
    const state = nodes[((options.startAt ?? 0) + i) % nodes.length] as NodeState;
    const rejection = rejectionOf(view, state, table, cycle);
    if (!rejection) {
      feasible.push(state);
      continue;
    }
    rejectedBy.add(rejection.plugin);
    for (const reason of rejection.reasons) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  }
  if (feasible.length === 0)
    return { nodeName: undefined, message: failureMessage(nodes.length, reasons), rejectedBy };
  if (feasible.length === 1) return { nodeName: (feasible[0] as NodeState).name, feasible: 1 };
  const totals = scoreNodes(view, feasible, table, cycle);
  return { nodeName: pick(feasible, totals, options.random ?? Math.random), feasible: feasible.length };
}

function rejectionOf(
  view: PodView,
  state: NodeState,
  table: PluginTable,
  cycle: Cycle,
): { plugin: string; reasons: readonly string[] } | undefined {
  for (const plugin of table.filters) {
    const reasons = plugin.filter(view, state, cycle);
    if (reasons && reasons.length > 0) return { plugin: plugin.name, reasons };
  }
  return undefined;
}

export function scoreNodes(
  view: PodView,
  feasible: readonly NodeState[],
  table: PluginTable,
  cycle: Cycle,
): number[] {
  const totals = new Array<number>(feasible.length).fill(0);
  for (const plugin of table.scores) {
    const scores = feasible.map(state => plugin.score(view, state, cycle));
    plugin.normalize?.(scores, feasible, cycle);
    for (const [index, score] of scores.entries())
      totals[index] = (totals[index] ?? 0) + score * plugin.weight;
  }
  return totals;
}

/** One of the best at random: schedulers that always take the first fill it first. */
function pick(feasible: readonly NodeState[], totals: readonly number[], random: () => number): string {
  const best = Math.max(...totals);
  const candidates = feasible.filter((_, index) => totals[index] === best);
  return (candidates[Math.floor(random() * candidates.length)] as NodeState).name;
}

/** `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.` (a de-facto API). */
export function failureMessage(nodes: number, reasons: ReadonlyMap<string, number>): string {
  if (nodes === 0) return 'no nodes available to schedule pods';
  const parts = [...reasons].map(([reason, count]) => `${count} ${reason}`).sort();
  return `0/${nodes} nodes are available: ${parts.join(', ')}.`;
}

/** Scales to 0..100 by the largest; `reverse` makes the largest the worst. */
export function normalizeByMax(scores: number[], reverse: boolean): void {
  const max = Math.max(0, ...scores);
  for (const [index, score] of scores.entries()) {
    const scaled = max === 0 ? 0 : (score * MAX_SCORE) / max;
    scores[index] = reverse ? MAX_SCORE - scaled : scaled;
  }
}
