// Deployment: moves from one version of a pod template to the next by sizing ReplicaSets, one per version.
// Undo is kubectl's: it writes an old template back, and the old ReplicaSet becomes the new one.
// Source: k8s.io/kubernetes pkg/controller/deployment.
import { labelSelectorFromObject } from '../api/selectors.ts';
import type { Deployment, Pod, ReplicaSet, Stored } from '../api/types.ts';
import type { EventSink } from '../client/event-recorder.ts';
import type { Informer } from '../client/informer.ts';
import { keyOf, RESOURCE } from '../client/resources.ts';
import { isAlreadyExists, isNotFound } from '../client/status.ts';
import { WorkQueue } from '../client/work-queue.ts';
import { jsonEqual } from '../lib/json.ts';
import { type Controller, type ControllerContext, recorderFor } from './controller.ts';
import {
  findNewReplicaSet,
  HASH_LABEL,
  isRolling,
  isScaling,
  newSetReplicas,
  proportionalSizes,
  REVISION,
  replicaSetAnnotations,
  revisionOf,
  scaleAnnotations,
  setsToCleanUp,
  shrinkOldSets,
  specReplicas,
  templateHash,
  totalReplicas,
} from './deployment-plan.ts';
import { deploymentStatus, isComplete } from './deployment-status.ts';
import { claim, controlledBy, controllerOf, controllerReference, indexByController } from './ownership.ts';
import { isPodFinished } from './pod-state.ts';
import { sameStatus } from './replica-plan.ts';

interface Versions {
  newSet: Stored<ReplicaSet> | undefined;
  old: Stored<ReplicaSet>[];
  created: boolean;
}

export class DeploymentController implements Controller {
  readonly name = 'deployment-controller';
  readonly workers = 8;
  readonly queue: WorkQueue;
  readonly #context: ControllerContext;
  readonly #deployments: Informer<Deployment>;
  readonly #sets: Informer<ReplicaSet>;
  readonly #pods: Informer<Pod>;
  readonly #events: EventSink;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.queue = new WorkQueue({ name: this.name, log: context.log, clock: context.clock });
    this.#events = recorderFor(context, this.name);
    this.#deployments = context.informers.of(RESOURCE.deployments);
    this.#sets = context.informers.of(RESOURCE.replicaSets);
    this.#pods = context.informers.of(RESOURCE.pods);
    indexByController(this.#sets);
    indexByController(this.#pods);
    this.#deployments.onChange(({ object }) => this.queue.add(keyOf(object)));
    this.#sets.onChange(({ object, previous }) => {
      for (const set of [object, previous]) if (set) this.#wakeOwner(set);
    });
    // Recreate waits for the last old pod to be gone, which no ReplicaSet's status tells.
    this.#pods.onChange(({ type, object }) => {
      if (type === 'deleted') this.#wakeRecreate(object);
    });
  }

  #wakeOwner(set: Stored<ReplicaSet>): void {
    const owner = controllerOf(set);
    if (owner?.kind === 'Deployment') this.queue.add(`${set.metadata.namespace}/${owner.name}`);
    else if (!owner)
      for (const deployment of this.#deployments.list())
        if (deployment.metadata.namespace === set.metadata.namespace) this.queue.add(keyOf(deployment));
  }

  #wakeRecreate(pod: Stored<Pod>): void {
    const owner = controllerOf(pod);
    if (owner?.kind !== 'ReplicaSet') return;
    const set = this.#sets.get(owner.name, pod.metadata.namespace);
    const above = set && controllerOf(set);
    if (above?.kind !== 'Deployment') return;
    const deployment = this.#deployments.get(above.name, pod.metadata.namespace);
    if (deployment && !isRolling(deployment)) this.queue.add(keyOf(deployment));
  }

  readonly reconcile = async (key: string): Promise<{ requeueAfterMs: number } | undefined> => {
    const cached = this.#deployments.getByKey(key);
    if (!cached) return undefined;
    // A copy of the first level: #writeRevision moves its metadata on, and the informer's object is not ours to change.
    const deployment = { ...cached };
    const sets = await claim({
      client: this.#context.client,
      ref: RESOURCE.replicaSets,
      ownerRef: RESOURCE.deployments,
      owner: deployment,
      selector: labelSelectorFromObject(deployment.spec?.selector),
      informer: this.#sets,
    });
    if (deployment.metadata.deletionTimestamp)
      return this.#writeStatus(deployment, this.#split(deployment, sets));
    if (deployment.spec?.paused || isScaling(deployment, sets)) {
      const versions = this.#split(deployment, sets);
      await this.#scale(deployment, versions);
      return this.#writeStatus(deployment, versions);
    }
    const versions = isRolling(deployment)
      ? await this.#rollingUpdate(deployment, sets)
      : await this.#recreate(deployment, sets);
    return this.#writeStatus(deployment, versions);
  };

  #split(deployment: Stored<Deployment>, sets: Stored<ReplicaSet>[]): Versions {
    const newSet = findNewReplicaSet(deployment, sets);
    return { newSet, old: sets.filter(set => set !== newSet), created: false };
  }

  async #rollingUpdate(deployment: Stored<Deployment>, sets: Stored<ReplicaSet>[]): Promise<Versions> {
    const versions = await this.#ensureNewSet(deployment, sets);
    const { newSet, old } = versions;
    if (!newSet) return versions;
    const wanted = newSetReplicas(deployment, newSet, [newSet, ...old]);
    if (wanted !== specReplicas(newSet)) {
      versions.newSet = await this.#resize(deployment, newSet, wanted);
      return versions;
    }
    const shrunk = shrinkOldSets(
      deployment,
      newSet,
      old.filter(set => specReplicas(set) > 0),
    );
    for (const { set, replicas } of shrunk) await this.#resize(deployment, set, replicas);
    if (shrunk.length === 0) await this.#cleanUp(deployment, versions);
    return versions;
  }

  async #recreate(deployment: Stored<Deployment>, sets: Stored<ReplicaSet>[]): Promise<Versions> {
    const versions = this.#split(deployment, sets);
    const running = versions.old.filter(set => specReplicas(set) > 0);
    for (const set of running) await this.#resize(deployment, set, 0);
    const oldPods = versions.old.flatMap(set => controlledBy(this.#pods, set.metadata.uid));
    if (running.length > 0 || oldPods.some(pod => !isPodFinished(pod))) return versions;
    const ensured = await this.#ensureNewSet(deployment, sets);
    const { newSet } = ensured;
    if (!newSet) return ensured;
    const wanted = newSetReplicas(deployment, newSet, [newSet]);
    if (wanted !== specReplicas(newSet)) ensured.newSet = await this.#resize(deployment, newSet, wanted);
    else await this.#cleanUp(deployment, ensured);
    return ensured;
  }

  /** Scales without rolling: the only active set takes it all; several share it. */
  async #scale(deployment: Stored<Deployment>, { newSet, old }: Versions): Promise<void> {
    const all = newSet ? [newSet, ...old] : old;
    const active = all.filter(set => specReplicas(set) > 0);
    const only = active.length === 0 ? newSet : active[0];
    if (active.length <= 1) {
      if (only) await this.#resize(deployment, only, deployment.spec?.replicas ?? 1);
      return;
    }
    if (!isRolling(deployment)) return;
    for (const { set, replicas } of proportionalSizes(deployment, active))
      await this.#resize(deployment, set, replicas);
  }

  /** The ReplicaSet of the present template: found, or made with as many replicas as may run at once. */
  async #ensureNewSet(deployment: Stored<Deployment>, sets: Stored<ReplicaSet>[]): Promise<Versions> {
    const versions = this.#split(deployment, sets);
    const revision = Math.max(0, ...versions.old.map(revisionOf)) + 1;
    if (versions.newSet) {
      const present = revisionOf(versions.newSet);
      const annotations = replicaSetAnnotations(
        deployment,
        versions.newSet.metadata.annotations,
        Math.max(revision, present),
      );
      const minReadySeconds = deployment.spec?.minReadySeconds;
      if (
        !jsonEqual(annotations, versions.newSet.metadata.annotations) ||
        (minReadySeconds ?? 0) !== (versions.newSet.spec?.minReadySeconds ?? 0)
      ) {
        const { newSet } = versions;
        versions.newSet = await this.#context.client.update(RESOURCE.replicaSets, {
          ...newSet,
          metadata: { ...newSet.metadata, annotations },
          spec: { ...newSet.spec, selector: newSet.spec?.selector ?? {}, minReadySeconds },
        });
      }
      await this.#writeRevision(deployment, annotations[REVISION] as string);
      return versions;
    }
    const created = await this.#createSet(deployment, versions.old, revision);
    if (created) await this.#writeRevision(deployment, String(revision));
    return { newSet: created, old: versions.old, created: created !== undefined };
  }

  async #createSet(
    deployment: Stored<Deployment>,
    old: Stored<ReplicaSet>[],
    revision: number,
  ): Promise<Stored<ReplicaSet> | undefined> {
    const { template, selector, minReadySeconds } = deployment.spec ?? {};
    const hash = templateHash(template, deployment.status?.collisionCount);
    const labels = { ...template?.metadata?.labels, [HASH_LABEL]: hash };
    const { name, namespace } = deployment.metadata;
    const replicas = newSetReplicas(deployment, undefined, old);
    const set: ReplicaSet = {
      metadata: {
        name: `${name}-${hash}`,
        namespace,
        labels,
        annotations: replicaSetAnnotations(deployment, undefined, revision),
        ownerReferences: [controllerReference(deployment)],
      },
      spec: {
        replicas,
        minReadySeconds,
        selector: { ...selector, matchLabels: { ...selector?.matchLabels, [HASH_LABEL]: hash } },
        template: { ...template, metadata: { ...template?.metadata, labels } },
      },
    };
    try {
      const created = await this.#context.client.create(RESOURCE.replicaSets, set);
      this.#events.event(
        deployment,
        'Normal',
        'ScalingReplicaSet',
        `Scaled up replica set ${created.metadata.name} from 0 to ${replicas}`,
      );
      return created;
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      return this.#resolveCollision(deployment, `${name}-${hash}`);
    }
  }

  /** Ours from a reconcile whose answer we missed, or another object with the same hash: then count up and hash again. */
  async #resolveCollision(
    deployment: Stored<Deployment>,
    name: string,
  ): Promise<Stored<ReplicaSet> | undefined> {
    const { client } = this.#context;
    const present = await client.get(RESOURCE.replicaSets, name, deployment.metadata.namespace);
    const ours = controllerOf(present)?.uid === deployment.metadata.uid;
    if (ours && findNewReplicaSet(deployment, [present])) return present;
    const collisionCount = (deployment.status?.collisionCount ?? 0) + 1;
    await client.update(
      RESOURCE.deployments,
      { ...deployment, status: { ...deployment.status, collisionCount } },
      { subresource: 'status' },
    );
    return undefined;
  }

  async #writeRevision(deployment: Stored<Deployment>, revision: string): Promise<void> {
    if (deployment.metadata.annotations?.[REVISION] === revision) return;
    const { name, namespace } = deployment.metadata;
    const patch = { metadata: { annotations: { [REVISION]: revision } } };
    const written = await this.#context.client.patch(RESOURCE.deployments, name, patch, {
      type: 'merge',
      namespace,
    });
    // What follows in this reconcile writes the status, and must not trip over our own patch.
    deployment.metadata = { ...deployment.metadata, ...written.metadata };
  }

  async #resize(
    deployment: Stored<Deployment>,
    set: Stored<ReplicaSet>,
    replicas: number,
  ): Promise<Stored<ReplicaSet>> {
    const annotations = { ...set.metadata.annotations, ...scaleAnnotations(deployment) };
    const present = specReplicas(set);
    if (present === replicas && jsonEqual(annotations, set.metadata.annotations)) return set;
    const updated = await this.#context.client.update(RESOURCE.replicaSets, {
      ...set,
      metadata: { ...set.metadata, annotations },
      spec: { ...set.spec, selector: set.spec?.selector ?? {}, replicas },
    });
    if (present !== replicas) {
      const direction = replicas > present ? 'up' : 'down';
      const message = `Scaled ${direction} replica set ${set.metadata.name} from ${present} to ${replicas}`;
      this.#events.event(deployment, 'Normal', 'ScalingReplicaSet', message);
    }
    return updated;
  }

  async #cleanUp(deployment: Stored<Deployment>, { newSet, old }: Versions): Promise<void> {
    const counts = {
      replicas: totalReplicas(newSet ? [newSet, ...old] : old),
      updatedReplicas: newSet?.status?.replicas ?? 0,
      availableReplicas: newSet?.status?.availableReplicas ?? 0,
    };
    if (!isComplete(deployment, counts)) return;
    for (const set of setsToCleanUp(deployment, old)) {
      const { name, namespace, uid } = set.metadata;
      try {
        await this.#context.client.delete(RESOURCE.replicaSets, name, { namespace, preconditions: { uid } });
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
    }
  }

  async #writeStatus(
    deployment: Stored<Deployment>,
    { newSet, old, created }: Versions,
  ): Promise<{ requeueAfterMs: number } | undefined> {
    const nowMs = this.#context.clock.now();
    const { status, recheckAtMs } = deploymentStatus({
      deployment,
      newSet,
      all: newSet ? [newSet, ...old] : old,
      nowMs,
      collisionCount: deployment.status?.collisionCount,
      created,
    });
    if (!sameStatus(deployment.status, status))
      await this.#context.client.update(
        RESOURCE.deployments,
        { ...deployment, status },
        { subresource: 'status' },
      );
    return recheckAtMs === undefined ? undefined : { requeueAfterMs: Math.max(1_000, recheckAtMs - nowMs) };
  }
}
