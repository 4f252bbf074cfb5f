// The arithmetic of a Deployment: how far each ReplicaSet may go up or down, hashes, revisions, proportions. Pure.
// Source: k8s.io/kubernetes pkg/controller/deployment (rolling.go, sync.go, util/deployment_util.go).

import { safeEncode } from '../api/names.ts';
import type { Deployment, PodTemplateSpec, ReplicaSet, Stored } from '../api/types.ts';
import { jsonEqual } from '../lib/json.ts';

export const HASH_LABEL = 'pod-template-hash';
export const REVISION = 'deployment.kubernetes.io/revision';
export const DESIRED_REPLICAS = 'deployment.kubernetes.io/desired-replicas';
export const MAX_REPLICAS = 'deployment.kubernetes.io/max-replicas';
/** Annotations of a Deployment that its ReplicaSets do not get. */
const OWN_ANNOTATIONS = new Set([
  'kubectl.kubernetes.io/last-applied-configuration',
  REVISION,
  'deployment.kubernetes.io/revision-history',
  DESIRED_REPLICAS,
  MAX_REPLICAS,
  'deprecated.deployment.rollback.to',
]);

export function desiredReplicas(deployment: Deployment): number {
  return deployment.spec?.replicas ?? 1;
}

export function isRolling(deployment: Deployment): boolean {
  return deployment.spec?.strategy?.type !== 'Recreate';
}

/** `25%` of `total`, or the number itself. */
export function scaledValue(value: number | string | undefined, total: number, roundUp: boolean): number {
  if (value === undefined) return 0;
  const percent = /^(\d+)%$/.exec(String(value));
  if (!percent) return Number(value);
  const exact = (Number(percent[1]) * total) / 100;
  return roundUp ? Math.ceil(exact) : Math.floor(exact);
}

/** maxSurge rounds up, maxUnavailable down; not both may come out as zero, or nothing could ever move. */
export function rollingBounds(deployment: Deployment): { maxSurge: number; maxUnavailable: number } {
  if (!isRolling(deployment)) return { maxSurge: 0, maxUnavailable: 0 };
  const desired = desiredReplicas(deployment);
  const rolling = deployment.spec?.strategy?.rollingUpdate;
  const maxSurge = scaledValue(rolling?.maxSurge ?? '25%', desired, true);
  const maxUnavailable = scaledValue(rolling?.maxUnavailable ?? '25%', desired, false);
  if (maxSurge === 0 && maxUnavailable === 0) return { maxSurge, maxUnavailable: Math.min(1, desired) };
  return { maxSurge, maxUnavailable: Math.min(maxUnavailable, desired) };
}

/** FNV-1a, 32 bits, over the template's JSON with sorted members, then Kubernetes' safe alphabet. */
export function templateHash(
  template: PodTemplateSpec | undefined,
  collisionCount: number | undefined,
): string {
  let hash = 0x811c9dc5;
  const text = canonicalJson(template) + (collisionCount === undefined ? '' : `#${collisionCount}`);
  for (const byte of Buffer.from(text, 'utf8')) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return safeEncode(String(hash));
}

function canonicalJson(value: unknown): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member)}`).join(',')}}`;
}

/** The template without the label that tells the versions apart. */
function withoutHash(template: PodTemplateSpec | undefined): unknown {
  const { [HASH_LABEL]: _, ...labels } = template?.metadata?.labels ?? {};
  return { ...template, metadata: { ...template?.metadata, labels } };
}

/** The ReplicaSet that has the Deployment's template; of several the oldest. */
export function findNewReplicaSet(
  deployment: Deployment,
  sets: readonly Stored<ReplicaSet>[],
): Stored<ReplicaSet> | undefined {
  const wanted = withoutHash(deployment.spec?.template);
  return byAge(sets).find(set => jsonEqual(withoutHash(set.spec?.template), wanted));
}

export function byAge(sets: readonly Stored<ReplicaSet>[]): Stored<ReplicaSet>[] {
  return [...sets].sort((a, b) => {
    const difference =
      Date.parse(a.metadata.creationTimestamp ?? '') - Date.parse(b.metadata.creationTimestamp ?? '');
    return difference || (a.metadata.name < b.metadata.name ? -1 : 1);
  });
}

export function revisionOf(object: ReplicaSet | Deployment): number {
  return Number(object.metadata?.annotations?.[REVISION] ?? 0) || 0;
}

export function specReplicas(set: ReplicaSet): number {
  return set.spec?.replicas ?? 1;
}

export function totalReplicas(sets: readonly ReplicaSet[]): number {
  return sets.reduce((sum, set) => sum + specReplicas(set), 0);
}

export function totalAvailable(sets: readonly ReplicaSet[]): number {
  return sets.reduce((sum, set) => sum + (set.status?.availableReplicas ?? 0), 0);
}

/** Annotations a ReplicaSet takes over from its Deployment, with its place in the roll-out. */
export function replicaSetAnnotations(
  deployment: Deployment,
  present: Record<string, string> | undefined,
  revision: number,
): Record<string, string> {
  const inherited = Object.entries(deployment.metadata?.annotations ?? {}).filter(
    ([key]) => !OWN_ANNOTATIONS.has(key),
  );
  return {
    ...present,
    ...Object.fromEntries(inherited),
    [REVISION]: String(revision),
    ...scaleAnnotations(deployment),
  };
}

/** By these a later reconcile sees that the Deployment was scaled in the middle of a roll-out. */
export function scaleAnnotations(deployment: Deployment): Record<string, string> {
  const desired = desiredReplicas(deployment);
  return {
    [DESIRED_REPLICAS]: String(desired),
    [MAX_REPLICAS]: String(desired + rollingBounds(deployment).maxSurge),
  };
}

/** How many replicas the new ReplicaSet may have now. */
export function newSetReplicas(
  deployment: Deployment,
  newSet: ReplicaSet | undefined,
  all: readonly ReplicaSet[],
): number {
  const desired = desiredReplicas(deployment);
  const present = newSet ? specReplicas(newSet) : 0;
  if (!isRolling(deployment) || present >= desired) return desired;
  const limit = desired + rollingBounds(deployment).maxSurge;
  const room = limit - totalReplicas(all);
  return room <= 0 ? present : present + Math.min(room, desired - present);
}

/** New sizes of the old ReplicaSets (only those that change): unhealthy pods go first, then as availability allows. */
export function shrinkOldSets(
  deployment: Deployment,
  newSet: ReplicaSet,
  old: readonly Stored<ReplicaSet>[],
): { set: Stored<ReplicaSet>; replicas: number }[] {
  const minAvailable = desiredReplicas(deployment) - rollingBounds(deployment).maxUnavailable;
  const newUnavailable = specReplicas(newSet) - (newSet.status?.availableReplicas ?? 0);
  let mayGo = totalReplicas([newSet, ...old]) - minAvailable - newUnavailable;
  const sizes = new Map(old.map(set => [set, specReplicas(set)]));
  if (mayGo <= 0) return [];
  for (const set of byAge(old)) {
    const size = sizes.get(set) as number;
    const unhealthy = Math.min(mayGo, Math.max(0, size - (set.status?.availableReplicas ?? 0)));
    sizes.set(set, size - unhealthy);
    mayGo -= unhealthy;
  }
  let surplus = totalAvailable([newSet, ...old]) - minAvailable;
  for (const set of byAge(old)) {
    const size = sizes.get(set) as number;
    const going = Math.min(Math.max(0, surplus), size);
    sizes.set(set, size - going);
    surplus -= going;
  }
  return old
    .map(set => ({ set, replicas: sizes.get(set) as number }))
    .filter(({ set, replicas }) => replicas !== specReplicas(set));
}

/** Old ReplicaSets beyond revisionHistoryLimit that nothing uses any more. */
export function setsToCleanUp(
  deployment: Deployment,
  old: readonly Stored<ReplicaSet>[],
): Stored<ReplicaSet>[] {
  const limit = deployment.spec?.revisionHistoryLimit ?? 10;
  const surplus = old.length - limit;
  if (surplus <= 0) return [];
  return [...old]
    .sort((a, b) => revisionOf(a) - revisionOf(b))
    .slice(0, surplus)
    .filter(
      set =>
        !set.metadata.deletionTimestamp &&
        (set.status?.replicas ?? 0) === 0 &&
        specReplicas(set) === 0 &&
        (set.status?.observedGeneration ?? 0) >= (set.metadata.generation ?? 0),
    );
}

/** True when the Deployment was scaled since its ReplicaSets were last sized. */
export function isScaling(deployment: Deployment, sets: readonly ReplicaSet[]): boolean {
  return sets.some(
    set =>
      specReplicas(set) > 0 &&
      set.metadata?.annotations?.[DESIRED_REPLICAS] !== undefined &&
      set.metadata.annotations[DESIRED_REPLICAS] !== String(desiredReplicas(deployment)),
  );
}

/** Sizes after scaling in the middle of a roll-out: each ReplicaSet keeps its share, the largest takes what is left. */
export function proportionalSizes(
  deployment: Deployment,
  sets: readonly Stored<ReplicaSet>[],
): { set: Stored<ReplicaSet>; replicas: number }[] {
  const desired = desiredReplicas(deployment);
  const active = sets.filter(set => specReplicas(set) > 0);
  const allowed =
    desired === 0 ? 0 : desired + (isRolling(deployment) ? rollingBounds(deployment).maxSurge : 0);
  const toAdd = allowed - totalReplicas(active);
  const ordered = byAge(active).sort((a, b) => specReplicas(b) - specReplicas(a));
  if (toAdd > 0) ordered.sort((a, b) => specReplicas(b) - specReplicas(a) || byCreation(b, a));
  let added = 0;
  const sizes = ordered.map(set => {
    const size = specReplicas(set);
    if (toAdd === 0) return size;
    const before = Number(set.metadata.annotations?.[MAX_REPLICAS] ?? 0) || totalReplicas(active);
    const share = Math.round((size * allowed) / before) - size;
    const left = toAdd - added;
    const change = toAdd > 0 ? Math.min(share, left) : Math.max(share, left);
    added += change;
    return size + change;
  });
  if (sizes.length > 0) sizes[0] = Math.max(0, (sizes[0] as number) + (toAdd - added));
  return ordered.map((set, index) => ({ set, replicas: Math.max(0, sizes[index] as number) }));
}

function byCreation(a: Stored<ReplicaSet>, b: Stored<ReplicaSet>): number {
  return Date.parse(a.metadata.creationTimestamp ?? '') - Date.parse(b.metadata.creationTimestamp ?? '');
}
