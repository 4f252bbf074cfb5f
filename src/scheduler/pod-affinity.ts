// A pod's affinity to other pods, parsed once when the pod is seen. Pure.
import { labelSelectorFromObject, matchesLabelSelector, type ParsedLabelSelector } from '../api/selectors.ts';
import type { Pod, PodSpec } from '../api/types.ts';

type Spec = NonNullable<NonNullable<PodSpec['affinity']>['podAffinity']>;
type TermSpec = NonNullable<Spec['requiredDuringSchedulingIgnoredDuringExecution']>[number];

export interface AffinityTerm {
  selector: ParsedLabelSelector;
  /** By name; a selector over namespaces comes on top. */
  namespaces: ReadonlySet<string>;
  namespaceSelector?: ParsedLabelSelector;
  topologyKey: string;
}

export interface PodAffinity {
  near: AffinityTerm[];
  away: AffinityTerm[];
  /** Anti-affinity has a negative weight. */
  preferred: { term: AffinityTerm; weight: number }[];
}

/** undefined for the many pods that have none. */
export function parsePodAffinity(pod: Pod): PodAffinity | undefined {
  const { podAffinity: near, podAntiAffinity: away } = pod.spec?.affinity ?? {};
  if (!near && !away) return undefined;
  const term = (spec: TermSpec) => parseTerm(spec, pod);
  const weighted = (sign: 1 | -1, list: Spec['preferredDuringSchedulingIgnoredDuringExecution'] = []) =>
    list.map(({ podAffinityTerm, weight }) => ({ term: term(podAffinityTerm), weight: sign * weight }));
  return {
    near: (near?.requiredDuringSchedulingIgnoredDuringExecution ?? []).map(term),
    away: (away?.requiredDuringSchedulingIgnoredDuringExecution ?? []).map(term),
    preferred: [
      ...weighted(1, near?.preferredDuringSchedulingIgnoredDuringExecution),
      ...weighted(-1, away?.preferredDuringSchedulingIgnoredDuringExecution),
    ],
  };
}

/** Without namespaces and without a selector over them: the pod's own namespace. */
function parseTerm(spec: TermSpec, pod: Pod): AffinityTerm {
  const labels = pod.metadata?.labels ?? {};
  const same = (keys: string[] | undefined, operator: 'In' | 'NotIn') =>
    (keys ?? []).flatMap(key =>
      labels[key] === undefined ? [] : [{ key, operator, values: [labels[key]] }],
    );
  const named = spec.namespaces ?? [];
  const own = named.length === 0 && !spec.namespaceSelector ? [pod.metadata?.namespace ?? 'default'] : named;
  return {
    selector: [
      ...labelSelectorFromObject(spec.labelSelector),
      ...same(spec.matchLabelKeys, 'In'),
      ...same(spec.mismatchLabelKeys, 'NotIn'),
    ],
    namespaces: new Set(own),
    ...(spec.namespaceSelector ? { namespaceSelector: labelSelectorFromObject(spec.namespaceSelector) } : {}),
    topologyKey: spec.topologyKey,
  };
}

export function matchesTerm(term: AffinityTerm, pod: Pod): boolean {
  const namespace = pod.metadata?.namespace ?? 'default';
  const inScope =
    term.namespaces.has(namespace) ||
    (term.namespaceSelector !== undefined &&
      matchesLabelSelector(term.namespaceSelector, { 'kubernetes.io/metadata.name': namespace }));
  return inScope && matchesLabelSelector(term.selector, pod.metadata?.labels);
}
