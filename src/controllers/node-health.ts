// What the silence or the word of a node means: conditions and taints. Pure.
// Source: k8s.io/kubernetes pkg/controller/nodelifecycle.
import type { Node, NodeCondition, Pod, Taint } from '../api/types.ts';
import { formatTime } from '../lib/clock.ts';

export const NOT_READY_TAINT = 'node.kubernetes.io/not-ready';
export const UNREACHABLE_TAINT = 'node.kubernetes.io/unreachable';

/** Condition → the status that taints, and the taint (NoSchedule). */
const CONDITION_TAINTS: [type: string, status: string, key: string][] = [
  ['Ready', 'False', NOT_READY_TAINT],
  ['Ready', 'Unknown', UNREACHABLE_TAINT],
  ['MemoryPressure', 'True', 'node.kubernetes.io/memory-pressure'],
  ['DiskPressure', 'True', 'node.kubernetes.io/disk-pressure'],
  ['PIDPressure', 'True', 'node.kubernetes.io/pid-pressure'],
  ['NetworkUnavailable', 'True', 'node.kubernetes.io/network-unavailable'],
];
const UNSCHEDULABLE_TAINT = 'node.kubernetes.io/unschedulable';
const OWN_NO_SCHEDULE = new Set([...CONDITION_TAINTS.map(([, , key]) => key), UNSCHEDULABLE_TAINT]);
const OWN_NO_EXECUTE = new Set([NOT_READY_TAINT, UNREACHABLE_TAINT]);
const KUBELET_CONDITIONS = ['Ready', 'MemoryPressure', 'DiskPressure', 'PIDPressure'];

export function nodeCondition(node: Node, type: string): NodeCondition | undefined {
  return node.status?.conditions?.find(condition => condition.type === type);
}

/** The kubelet's conditions, all Unknown, for a node nobody has heard of. */
export function unknownConditions(node: Node, nowMs: number): NodeCondition[] {
  const now = formatTime(nowMs);
  return KUBELET_CONDITIONS.flatMap(type => {
    const before = nodeCondition(node, type);
    if (before?.status === 'Unknown') return [];
    return [
      {
        type,
        status: 'Unknown',
        reason: before ? 'NodeStatusUnknown' : 'NodeStatusNeverUpdated',
        message: before ? 'Kubelet stopped posting node status.' : 'Kubelet never posted node status.',
        lastHeartbeatTime: before?.lastHeartbeatTime ?? node.metadata?.creationTimestamp,
        lastTransitionTime: now,
      },
    ];
  });
}

/** The taints the node should have: ours as its conditions say, everybody else's as they are. */
export function desiredTaints(node: Node, nowMs: number): Taint[] {
  const present = node.spec?.taints ?? [];
  const kept = present.filter(
    ({ key, effect }) =>
      !(effect === 'NoSchedule' && OWN_NO_SCHEDULE.has(key)) &&
      !(effect === 'NoExecute' && OWN_NO_EXECUTE.has(key)),
  );
  const own: Taint[] = [];
  for (const [type, status, key] of CONDITION_TAINTS) {
    if (nodeCondition(node, type)?.status !== status) continue;
    own.push({ key, effect: 'NoSchedule' });
    if (type === 'Ready') own.push({ key, effect: 'NoExecute' });
  }
  if (node.spec?.unschedulable) own.push({ key: UNSCHEDULABLE_TAINT, effect: 'NoSchedule' });
  const stamped = own.map(taint => {
    const before = present.find(({ key, effect }) => key === taint.key && effect === taint.effect);
    return before ?? { ...taint, timeAdded: formatTime(nowMs) };
  });
  return [...kept, ...stamped];
}

/** Pods that say nothing about not-ready and unreachable stay this long (admission DefaultTolerationSeconds). */
const DEFAULT_TOLERATION_S = 300;

/** When the pod must leave a node with these taints; undefined: it may stay. */
export function evictionTimeMs(pod: Pod, taints: readonly Taint[]): number | undefined {
  let earliest: number | undefined;
  for (const taint of taints) {
    if (taint.effect !== 'NoExecute') continue;
    const since = taint.timeAdded ? Date.parse(taint.timeAdded) : 0;
    const matching = (pod.spec?.tolerations ?? []).filter(
      ({ key, operator, value, effect }) =>
        (!effect || effect === 'NoExecute') &&
        (key ? key === taint.key : operator === 'Exists') &&
        (operator === 'Exists' || (value ?? '') === (taint.value ?? '')),
    );
    if (matching.some(({ tolerationSeconds }) => tolerationSeconds === undefined)) continue;
    const seconds =
      matching.length > 0
        ? Math.max(0, Math.min(...matching.map(({ tolerationSeconds }) => tolerationSeconds as number)))
        : OWN_NO_EXECUTE.has(taint.key)
          ? DEFAULT_TOLERATION_S
          : 0;
    earliest = Math.min(earliest ?? Infinity, since + seconds * 1000);
  }
  return earliest;
}
