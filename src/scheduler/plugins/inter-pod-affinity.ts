// Pod affinity and anti-affinity: near or away from pods that match a selector, within the domains of a node label.
// Required terms filter, in both directions for anti-affinity; preferred ones score. Source: kube-scheduler
// plugins/interpodaffinity. A namespaceSelector sees the label that every namespace has, kubernetes.io/metadata.name.
import type { NodeState } from '../cluster-cache.ts';
import { type Cycle, type FilterPlugin, MAX_SCORE, type ScorePlugin } from '../framework.ts';
import { type AffinityTerm, matchesTerm } from '../pod-affinity.ts';
import type { PodView } from '../pod-view.ts';

/** `topologyKey=value`. */
type Domain = string;

interface Required {
  /** Domains in which each affinity term finds a pod, in the terms' order. */
  near: Set<Domain>[];
  /** Domains in which any anti-affinity term finds a pod. */
  away: Set<Domain>;
  /** Domains from which pods that are there keep this one away. */
  forbidden: Set<Domain>;
  /** No pod matches, but the pod itself does: the first of its kind may go anywhere. */
  first: boolean;
}

function domainOf(state: NodeState, topologyKey: string): Domain | undefined {
  const value = state.node?.metadata.labels?.[topologyKey];
  return value === undefined ? undefined : `${topologyKey}=${value}`;
}

function addDomain(to: Set<Domain>, state: NodeState, term: AffinityTerm): void {
  const domain = domainOf(state, term.topologyKey);
  if (domain !== undefined) to.add(domain);
}

function required(view: PodView, cycle: Cycle): Required {
  const known = cycle.memo.get('interPodAffinity') as Required | undefined;
  if (known) return known;
  const near = view.affinity?.near ?? [];
  const away = view.affinity?.away ?? [];
  const found: Required = {
    near: near.map(() => new Set()),
    away: new Set(),
    forbidden: new Set(),
    first: false,
  };
  for (const state of cycle.nodes) {
    for (const other of state.affine.values())
      for (const term of other.affinity?.away ?? [])
        if (matchesTerm(term, view.pod)) addDomain(found.forbidden, state, term);
    if (near.length === 0 && away.length === 0) continue;
    for (const other of state.pods.values()) {
      // A pod is near only where it matches all terms at once.
      if (near.length > 0 && near.every(term => matchesTerm(term, other.pod)))
        for (const [index, term] of near.entries()) addDomain(found.near[index] as Set<Domain>, state, term);
      for (const term of away) if (matchesTerm(term, other.pod)) addDomain(found.away, state, term);
    }
  }
  found.first =
    near.length > 0 &&
    found.near.every(domains => domains.size === 0) &&
    near.every(term => matchesTerm(term, view.pod));
  cycle.memo.set('interPodAffinity', found);
  return found;
}

export const interPodAffinityFilter: FilterPlugin = {
  name: 'InterPodAffinity',
  requeueOn: ['node-added', 'node-labels', 'pod-added', 'pod-removed', 'pod-changed'],
  filter(view, state, cycle) {
    const found = required(view, cycle);
    const isIn = (domains: Set<Domain>, key: string): boolean => {
      const domain = domainOf(state, key);
      return domain !== undefined && domains.has(domain);
    };
    for (const [index, term] of (view.affinity?.near ?? []).entries()) {
      if (domainOf(state, term.topologyKey) === undefined) return ["node(s) didn't match pod affinity rules"];
      if (!found.first && !isIn(found.near[index] as Set<Domain>, term.topologyKey))
        return ["node(s) didn't match pod affinity rules"];
    }
    for (const term of view.affinity?.away ?? [])
      if (isIn(found.away, term.topologyKey)) return ["node(s) didn't match pod anti-affinity rules"];
    const labels = Object.entries(state.node?.metadata.labels ?? {});
    if (found.forbidden.size > 0 && labels.some(([key, value]) => found.forbidden.has(`${key}=${value}`)))
      return ["node(s) didn't satisfy existing pods anti-affinity rules"];
    return undefined;
  },
};

/** Points by domain: the pod's own preferences, and those of pods that are there (their required terms count 1). */
function points(view: PodView, cycle: Cycle): Map<Domain, number> {
  const known = cycle.memo.get('interPodPoints') as Map<Domain, number> | undefined;
  if (known) return known;
  const found = new Map<Domain, number>();
  const add = (state: NodeState, term: AffinityTerm, weight: number): void => {
    const domain = domainOf(state, term.topologyKey);
    if (domain !== undefined) found.set(domain, (found.get(domain) ?? 0) + weight);
  };
  const preferred = view.affinity?.preferred ?? [];
  for (const state of cycle.nodes) {
    if (preferred.length > 0)
      for (const other of state.pods.values())
        for (const { term, weight } of preferred) if (matchesTerm(term, other.pod)) add(state, term, weight);
    for (const other of state.affine.values()) {
      for (const { term, weight } of other.affinity?.preferred ?? [])
        if (matchesTerm(term, view.pod)) add(state, term, weight);
      for (const term of other.affinity?.near ?? []) if (matchesTerm(term, view.pod)) add(state, term, 1);
    }
  }
  cycle.memo.set('interPodPoints', found);
  return found;
}

export const interPodAffinityScore: ScorePlugin = {
  name: 'InterPodAffinity',
  weight: 2,
  score(view, state, cycle) {
    const found = points(view, cycle);
    if (found.size === 0) return 0;
    let sum = 0;
    for (const [key, value] of Object.entries(state.node?.metadata.labels ?? {}))
      sum += found.get(`${key}=${value}`) ?? 0;
    return sum;
  },
  normalize(scores) {
    const most = Math.max(...scores);
    const least = Math.min(...scores);
    for (const [index, score] of scores.entries())
      scores[index] = most === least ? 0 : (MAX_SCORE * (score - least)) / (most - least);
  },
};
