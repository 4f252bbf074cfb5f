// Which pods a ReplicaSet gives up first, and its status. Pure.
// Source: k8s.io/kubernetes pkg/controller ActivePodsWithRanks; pkg/controller/replicaset calculateStatus.

import type { Pod, ReplicaSet, Stored } from '../api/types.ts';
import { jsonEqual } from '../lib/json.ts';
import { availableAtMs, isPodReady, podCondition } from './pod-state.ts';

type ReplicaSetStatus = NonNullable<ReplicaSet['status']>;

const PHASE_RANK: Record<string, number> = { Pending: 0, Unknown: 1, Running: 2 };
const DELETION_COST = 'controller.kubernetes.io/pod-deletion-cost';

function deletionCost(pod: Pod): number {
  const text = pod.metadata?.annotations?.[DELETION_COST];
  return text !== undefined && /^(0|-?[1-9]\d*)$/.test(text) ? Number(text) : 0;
}

function restarts(pod: Pod): number {
  return Math.max(0, ...(pod.status?.containerStatuses ?? []).map(status => status.restartCount));
}

function time(text: string | undefined): number {
  return text ? Date.parse(text) : 0;
}

/**
 * Sorts so that the pods to delete come first: not placed, not running, not ready, cheap, doubled up on a node
 * (`related` are the active pods of all ReplicaSets of the same owner), ready for a shorter time, restarted, younger.
 */
export function rankForDeletion(pods: readonly Stored<Pod>[], related: readonly Pod[]): Stored<Pod>[] {
  const perNode = new Map<string, number>();
  for (const pod of related) {
    const node = pod.spec?.nodeName;
    if (node) perNode.set(node, (perNode.get(node) ?? 0) + 1);
  }
  const rank = (pod: Pod): number[] => [
    pod.spec?.nodeName ? 1 : 0,
    PHASE_RANK[pod.status?.phase ?? 'Pending'] ?? 0,
    isPodReady(pod) ? 1 : 0,
    deletionCost(pod),
    -(perNode.get(pod.spec?.nodeName ?? '') ?? 0),
    isPodReady(pod) ? -time(podCondition(pod, 'Ready')?.lastTransitionTime) : 0,
    -restarts(pod),
    -time(pod.metadata?.creationTimestamp),
  ];
  return pods
    .map(pod => ({ pod, rank: rank(pod) }))
    .sort((a, b) => {
      for (const [index, value] of a.rank.entries()) {
        const difference = value - (b.rank[index] as number);
        if (difference !== 0) return difference;
      }
      return 0;
    })
    .map(({ pod }) => pod);
}

/** The status that `active` pods give, and when the next of them becomes available. */
export function replicaSetStatus(
  replicaSet: Stored<ReplicaSet>,
  active: readonly Stored<Pod>[],
  nowMs: number,
  failure: { reason: string; message: string; time: string } | undefined,
): { status: ReplicaSetStatus; nextAvailableMs: number | undefined } {
  const template = Object.entries(replicaSet.spec?.template?.metadata?.labels ?? {});
  const minReadySeconds = replicaSet.spec?.minReadySeconds ?? 0;
  let fullyLabeled = 0;
  let ready = 0;
  let available = 0;
  let nextAvailableMs: number | undefined;
  for (const pod of active) {
    const labels = pod.metadata.labels ?? {};
    if (template.every(([key, value]) => labels[key] === value)) fullyLabeled++;
    const atMs = availableAtMs(pod, minReadySeconds);
    if (atMs === undefined) continue;
    ready++;
    if (atMs <= nowMs) available++;
    else nextAvailableMs = Math.min(nextAvailableMs ?? Infinity, atMs);
  }
  const others = (replicaSet.status?.conditions ?? []).filter(({ type }) => type !== 'ReplicaFailure');
  const before = replicaSet.status?.conditions?.find(({ type }) => type === 'ReplicaFailure');
  const conditions = failure
    ? [
        ...others,
        {
          type: 'ReplicaFailure',
          status: 'True',
          reason: failure.reason,
          message: failure.message,
          lastTransitionTime: before?.lastTransitionTime ?? failure.time,
        },
      ]
    : others;
  const status: ReplicaSetStatus = {
    replicas: active.length,
    fullyLabeledReplicas: fullyLabeled,
    readyReplicas: ready,
    availableReplicas: available,
    observedGeneration: replicaSet.metadata.generation,
    ...(conditions.length > 0 ? { conditions } : {}),
  };
  return { status, nextAvailableMs };
}

/** Equal apart from zeros that a server may leave out. */
export function sameStatus(a: object | undefined, b: object): boolean {
  const withoutZeros = (status: object | undefined): object =>
    Object.fromEntries(
      Object.entries(status ?? {}).filter(([, value]) => value !== 0 && value !== undefined),
    );
  return jsonEqual(withoutZeros(a), withoutZeros(b));
}
