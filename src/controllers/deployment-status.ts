// The status and the conditions of a Deployment, as `kubectl rollout status` reads them. Pure.
// Source: k8s.io/kubernetes pkg/controller/deployment/progress.go, sync.go calculateStatus.
import type { Deployment, DeploymentStatus, ReplicaSet, Stored } from '../api/types.ts';
import { formatTime } from '../lib/clock.ts';
import { desiredReplicas, rollingBounds, totalAvailable } from './deployment-plan.ts';

type Condition = NonNullable<DeploymentStatus['conditions']>[number];

const DEFAULT_PROGRESS_DEADLINE_S = 600;
/** progressDeadlineSeconds of this value means: no deadline. */
const NO_DEADLINE_S = 2147483647;

export interface StatusInput {
  deployment: Stored<Deployment>;
  newSet: Stored<ReplicaSet> | undefined;
  /** All, the new one included. */
  all: readonly Stored<ReplicaSet>[];
  nowMs: number;
  collisionCount: number | undefined;
  /** The new ReplicaSet was made in this very reconcile. */
  created: boolean;
}

/** The status, and when the progress deadline must be looked at again. */
export function deploymentStatus(input: StatusInput): { status: DeploymentStatus; recheckAtMs?: number } {
  const { deployment, newSet, all, nowMs, collisionCount } = input;
  const available = totalAvailable(all);
  const sum = (of: (set: ReplicaSet) => number | undefined): number =>
    all.reduce((total, set) => total + (of(set) ?? 0), 0);
  const desired = desiredReplicas(deployment);
  const replicas = sum(set => set.status?.replicas);
  const counts = {
    observedGeneration: deployment.metadata.generation,
    replicas,
    updatedReplicas: newSet?.status?.replicas ?? 0,
    readyReplicas: sum(set => set.status?.readyReplicas),
    availableReplicas: available,
    unavailableReplicas: Math.max(0, sum(set => set.spec?.replicas) - available),
    ...(collisionCount === undefined ? {} : { collisionCount }),
  };
  const conditions = new Map((deployment.status?.conditions ?? []).map(entry => [entry.type, entry]));
  const now = formatTime(nowMs);
  const set = (type: string, status: 'True' | 'False' | 'Unknown', reason: string, message: string): void => {
    const before = conditions.get(type);
    if (before?.status === status && before.reason === reason) return;
    conditions.set(type, {
      type,
      status,
      reason,
      message,
      lastUpdateTime: now,
      lastTransitionTime: before?.status === status ? before.lastTransitionTime : now,
    });
  };
  const minAvailable = desired - rollingBounds(deployment).maxUnavailable;
  if (available >= minAvailable)
    set('Available', 'True', 'MinimumReplicasAvailable', 'Deployment has minimum availability.');
  else
    set('Available', 'False', 'MinimumReplicasUnavailable', 'Deployment does not have minimum availability.');
  replicaFailure(all, conditions);
  const recheckAtMs = progress(input, counts, conditions, set);
  return { status: { ...counts, conditions: [...conditions.values()] }, recheckAtMs };
}

function replicaFailure(all: readonly ReplicaSet[], conditions: Map<string, Condition>): void {
  const failure = all
    .flatMap(set => set.status?.conditions ?? [])
    .find(({ type }) => type === 'ReplicaFailure');
  if (!failure) conditions.delete('ReplicaFailure');
  else if (conditions.get('ReplicaFailure')?.message !== failure.message)
    conditions.set('ReplicaFailure', { ...failure, lastUpdateTime: failure.lastTransitionTime });
}

function progress(
  input: StatusInput,
  counts: { replicas: number; updatedReplicas: number; readyReplicas: number; availableReplicas: number },
  conditions: Map<string, Condition>,
  set: (type: string, status: 'True' | 'False' | 'Unknown', reason: string, message: string) => void,
): number | undefined {
  const { deployment, newSet, nowMs, created } = input;
  const deadlineS = deployment.spec?.progressDeadlineSeconds ?? DEFAULT_PROGRESS_DEADLINE_S;
  if (deadlineS === NO_DEADLINE_S) {
    conditions.delete('Progressing');
    return undefined;
  }
  const before = conditions.get('Progressing');
  const name = deployment.metadata.name;
  const subject = newSet ? `ReplicaSet "${newSet.metadata.name}"` : `Deployment "${name}"`;
  if (deployment.spec?.paused) {
    if (before?.reason !== 'DeploymentPaused')
      set('Progressing', 'Unknown', 'DeploymentPaused', 'Deployment is paused');
    return undefined;
  }
  if (before?.reason === 'DeploymentPaused')
    set('Progressing', 'Unknown', 'DeploymentResumed', 'Deployment is resumed');
  if (created)
    set('Progressing', 'True', 'NewReplicaSetCreated', `Created new replica set "${newSet?.metadata.name}"`);
  if (isComplete(deployment, counts)) {
    set('Progressing', 'True', 'NewReplicaSetAvailable', `${subject} has successfully progressed.`);
    return undefined;
  }
  const old = deployment.status;
  const progressed =
    counts.updatedReplicas > (old?.updatedReplicas ?? 0) ||
    counts.replicas - counts.updatedReplicas < (old?.replicas ?? 0) - (old?.updatedReplicas ?? 0) ||
    counts.readyReplicas > (old?.readyReplicas ?? 0) ||
    counts.availableReplicas > (old?.availableReplicas ?? 0);
  const current = conditions.get('Progressing');
  if (progressed || !current || (current.reason === 'NewReplicaSetAvailable' && current.status === 'True')) {
    conditions.set('Progressing', {
      type: 'Progressing',
      status: 'True',
      reason: 'ReplicaSetUpdated',
      message: `${subject} is progressing.`,
      lastUpdateTime: formatTime(nowMs),
      lastTransitionTime: current?.status === 'True' ? current.lastTransitionTime : formatTime(nowMs),
    });
    return nowMs + deadlineS * 1000;
  }
  if (current.reason === 'ProgressDeadlineExceeded') return undefined;
  const deadlineMs = Date.parse(current.lastUpdateTime ?? '') + deadlineS * 1000;
  if (nowMs < deadlineMs) return deadlineMs;
  set('Progressing', 'False', 'ProgressDeadlineExceeded', `${subject} has timed out progressing.`);
  return undefined;
}

/** All pods are of the new template, all are available, none of the old is left. */
export function isComplete(
  deployment: Deployment,
  counts: { replicas: number; updatedReplicas: number; availableReplicas: number },
): boolean {
  const desired = desiredReplicas(deployment);
  return (
    counts.updatedReplicas === desired && counts.replicas === desired && counts.availableReplicas === desired
  );
}
