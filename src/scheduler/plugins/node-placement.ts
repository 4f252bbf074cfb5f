// Filters by what the node is: its name, whether it takes pods, and its labels (nodeSelector and node affinity).
import { type LabelRequirement, matchesLabelSelector } from '../../api/selectors.ts';
import type { Node, PodSpec, Stored } from '../../api/types.ts';
import { type FilterPlugin, normalizeByMax, type ScorePlugin } from '../framework.ts';
import type { PodView } from '../pod-view.ts';
import { tolerates } from './taints.ts';

type Affinity = NonNullable<NonNullable<PodSpec['affinity']>['nodeAffinity']>;
type NodeSelectorTerm = NonNullable<
  Affinity['requiredDuringSchedulingIgnoredDuringExecution']
>['nodeSelectorTerms'][number];

const UNSCHEDULABLE_TAINT = { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' };

export const nodeUnschedulable: FilterPlugin = {
  name: 'NodeUnschedulable',
  requeueOn: ['node-added', 'node-taints'],
  filter(view, state) {
    if (!state.node?.spec?.unschedulable) return undefined;
    if (tolerates(view.pod.spec?.tolerations, UNSCHEDULABLE_TAINT)) return undefined;
    return ['node(s) were unschedulable'];
  },
};

export const nodeName: FilterPlugin = {
  name: 'NodeName',
  requeueOn: ['node-added'],
  filter(view, state) {
    const wanted = view.pod.spec?.nodeName;
    return wanted && wanted !== state.name ? ["node(s) didn't match the requested node name"] : undefined;
  },
};

export const nodeAffinityFilter: FilterPlugin = {
  name: 'NodeAffinity',
  requeueOn: ['node-added', 'node-labels'],
  filter(view, state) {
    const node = state.node as Stored<Node>;
    const selector = Object.entries(view.pod.spec?.nodeSelector ?? {});
    const labels = node.metadata.labels ?? {};
    const required = affinityOf(view)?.requiredDuringSchedulingIgnoredDuringExecution;
    const matches =
      selector.every(([key, value]) => labels[key] === value) &&
      (!required || required.nodeSelectorTerms.some(term => matchesTerm(term, node)));
    return matches ? undefined : ["node(s) didn't match Pod's node affinity/selector"];
  },
};

export const nodeAffinityScore: ScorePlugin = {
  name: 'NodeAffinity',
  weight: 2,
  score(view, state) {
    const preferred = affinityOf(view)?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
    return preferred
      .filter(({ preference }) => matchesTerm(preference, state.node as Stored<Node>))
      .reduce((sum, { weight }) => sum + weight, 0);
  },
  normalize: scores => normalizeByMax(scores, false),
};

function affinityOf(view: PodView): Affinity | undefined {
  return view.pod.spec?.affinity?.nodeAffinity;
}

/** Requirements of one term are joined by AND, terms by OR; an empty term matches nothing (core/v1 NodeSelector). */
function matchesTerm(term: NodeSelectorTerm, node: Stored<Node>): boolean {
  const expressions = term.matchExpressions ?? [];
  const fields = term.matchFields ?? [];
  if (expressions.length === 0 && fields.length === 0) return false;
  return (
    matchesLabelSelector(expressions.map(requirement), node.metadata.labels) &&
    matchesLabelSelector(fields.map(requirement), { 'metadata.name': node.metadata.name })
  );
}

function requirement(expression: { key: string; operator: string; values?: string[] }): LabelRequirement {
  return {
    key: expression.key,
    operator: expression.operator as LabelRequirement['operator'],
    values: expression.values ?? [],
  };
}
