// Taints repel pods that do not tolerate them: NoSchedule and NoExecute forbid, PreferNoSchedule costs points.
import type { Taint, Toleration } from '../../api/types.ts';
import { type FilterPlugin, normalizeByMax, type ScorePlugin } from '../framework.ts';

type TaintKey = Pick<Taint, 'key' | 'effect'> & { value?: string };

/** core/v1 Toleration: an empty key with Exists tolerates everything, an empty effect every effect. */
export function tolerates(tolerations: readonly Toleration[] | undefined, taint: TaintKey): boolean {
  return (tolerations ?? []).some(toleration => {
    if (toleration.effect && toleration.effect !== taint.effect) return false;
    const exists = toleration.operator === 'Exists';
    if (!toleration.key) return exists;
    if (toleration.key !== taint.key) return false;
    return exists || (toleration.value ?? '') === (taint.value ?? '');
  });
}

export const taintTolerationFilter: FilterPlugin = {
  name: 'TaintToleration',
  requeueOn: ['node-added', 'node-taints', 'pod-changed'],
  filter(view, state) {
    const taint = (state.node?.spec?.taints ?? []).find(
      candidate =>
        candidate.effect !== 'PreferNoSchedule' && !tolerates(view.pod.spec?.tolerations, candidate),
    );
    return taint && [`node(s) had untolerated taint {${taint.key}: ${taint.value ?? ''}}`];
  },
};

export const taintTolerationScore: ScorePlugin = {
  name: 'TaintToleration',
  weight: 3,
  score(view, state) {
    return (state.node?.spec?.taints ?? []).filter(
      taint => taint.effect === 'PreferNoSchedule' && !tolerates(view.pod.spec?.tolerations, taint),
    ).length;
  },
  normalize: scores => normalizeByMax(scores, true),
};
