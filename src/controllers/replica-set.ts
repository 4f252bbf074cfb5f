// ReplicaSet: as many pods of its template as it says. Source: k8s.io/kubernetes pkg/controller/replicaset.
import { labelSelectorFromObject, matchesLabelSelector } from '../api/selectors.ts';
import type { Pod, ReplicaSet, Stored } from '../api/types.ts';
import type { EventSink } from '../client/event-recorder.ts';
import type { Change, Informer } from '../client/informer.ts';
import { keyOf, RESOURCE } from '../client/resources.ts';
import { isNamespaceTerminating, isNotFound } from '../client/status.ts';
import { WorkQueue } from '../client/work-queue.ts';
import { formatTime } from '../lib/clock.ts';
import { errorMessage } from '../lib/errors.ts';
import { type Controller, type ControllerContext, recorderFor } from './controller.ts';
import { Expectations } from './expectations.ts';
import { claim, controlledBy, controllerOf, controllerReference, indexByController } from './ownership.ts';
import { isPodActive } from './pod-state.ts';
import { rankForDeletion, replicaSetStatus, sameStatus } from './replica-plan.ts';

/** Creations in one go; the rest follows when these are seen. */
const BURST = 500;
const KIND = 'ReplicaSet';

export class ReplicaSetController implements Controller {
  readonly name = 'replicaset-controller';
  readonly workers = 8;
  readonly queue: WorkQueue;
  readonly #context: ControllerContext;
  readonly #sets: Informer<ReplicaSet>;
  readonly #pods: Informer<Pod>;
  readonly #expectations: Expectations;
  readonly #events: EventSink;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.queue = new WorkQueue({ name: this.name, log: context.log, clock: context.clock });
    this.#expectations = new Expectations(context.clock);
    this.#events = recorderFor(context, this.name);
    this.#sets = context.informers.of(RESOURCE.replicaSets);
    this.#pods = context.informers.of(RESOURCE.pods);
    indexByController(this.#sets);
    indexByController(this.#pods);
    this.#sets.onChange(({ object }) => this.queue.add(keyOf(object)));
    this.#pods.onChange(change => this.#onPod(change));
  }

  #onPod({ type, object: pod, previous }: Change<Pod>): void {
    const before = previous && controllerOf(previous);
    const owner = controllerOf(pod);
    if (before?.kind === KIND && before.uid !== owner?.uid)
      this.queue.add(`${pod.metadata.namespace}/${before.name}`);
    if (!owner) {
      if (type !== 'deleted') this.#wakeAdopters(pod);
      return;
    }
    if (owner.kind !== KIND) return;
    const key = `${pod.metadata.namespace}/${owner.name}`;
    if (type === 'added') this.#expectations.created(key);
    // A pod that begins to terminate no longer counts: for us that is the deletion.
    if (type === 'deleted' || pod.metadata.deletionTimestamp)
      this.#expectations.deleted(key, pod.metadata.uid);
    this.queue.add(key);
  }

  #wakeAdopters(pod: Stored<Pod>): void {
    for (const set of this.#sets.list())
      if (
        set.metadata.namespace === pod.metadata.namespace &&
        matchesLabelSelector(labelSelectorFromObject(set.spec?.selector), pod.metadata.labels)
      )
        this.queue.add(keyOf(set));
  }

  readonly reconcile = async (key: string): Promise<{ requeueAfterMs: number } | undefined> => {
    const set = this.#sets.getByKey(key);
    if (!set) {
      this.#expectations.forget(key);
      return undefined;
    }
    const mayAct = this.#expectations.met(key);
    const pods = await claim({
      client: this.#context.client,
      ref: RESOURCE.pods,
      ownerRef: RESOURCE.replicaSets,
      owner: set,
      selector: labelSelectorFromObject(set.spec?.selector),
      informer: this.#pods,
    });
    const active = pods.filter(isPodActive);
    let failure: unknown;
    if (mayAct && !set.metadata.deletionTimestamp) {
      try {
        await this.#manage(key, set, active);
      } catch (error) {
        failure = error;
      }
    }
    const after = await this.#writeStatus(set, active, failure);
    if (failure !== undefined && !isNamespaceTerminating(failure)) throw failure;
    return after;
  };

  async #manage(key: string, set: Stored<ReplicaSet>, active: Stored<Pod>[]): Promise<void> {
    const missing = (set.spec?.replicas ?? 1) - active.length;
    if (missing > 0) await this.#create(key, set, Math.min(missing, BURST));
    else if (missing < 0) await this.#delete(key, set, active, Math.min(-missing, BURST));
  }

  /** In batches of 1, 2, 4, …: a quota or a bad template is found out with one request, not with hundreds. */
  async #create(key: string, set: Stored<ReplicaSet>, count: number): Promise<void> {
    this.#expectations.expect(key, count, []);
    let done = 0;
    for (let batch = 1; done < count; batch *= 2) {
      const size = Math.min(batch, count - done);
      const results = await Promise.allSettled(Array.from({ length: size }, () => this.#createPod(set)));
      const failed = results.filter(result => result.status === 'rejected');
      done += size;
      if (failed.length === 0) continue;
      this.#expectations.created(key, failed.length + (count - done));
      const { reason } = failed[0] as PromiseRejectedResult;
      if (!isNamespaceTerminating(reason))
        this.#events.event(set, 'Warning', 'FailedCreate', `Error creating: ${errorMessage(reason)}`);
      throw reason;
    }
  }

  async #createPod(set: Stored<ReplicaSet>): Promise<void> {
    const { metadata, spec } = set.spec?.template ?? {};
    const pod = await this.#context.client.create(RESOURCE.pods, {
      metadata: {
        generateName: `${set.metadata.name}-`,
        namespace: set.metadata.namespace,
        labels: metadata?.labels,
        annotations: metadata?.annotations,
        finalizers: metadata?.finalizers,
        ownerReferences: [controllerReference(set)],
      },
      spec,
    });
    this.#events.event(set, 'Normal', 'SuccessfulCreate', `Created pod: ${pod.metadata.name}`);
  }

  async #delete(key: string, set: Stored<ReplicaSet>, active: Stored<Pod>[], count: number): Promise<void> {
    const victims = rankForDeletion(active, this.#relatedPods(set, active)).slice(0, count);
    this.#expectations.expect(
      key,
      0,
      victims.map(pod => pod.metadata.uid),
    );
    const results = await Promise.allSettled(victims.map(pod => this.#deletePod(key, set, pod)));
    const failed = results.find(result => result.status === 'rejected');
    if (failed) throw failed.reason;
  }

  async #deletePod(key: string, set: Stored<ReplicaSet>, pod: Stored<Pod>): Promise<void> {
    const { name, namespace, uid } = pod.metadata;
    try {
      await this.#context.client.delete(RESOURCE.pods, name, { namespace, preconditions: { uid } });
      this.#events.event(set, 'Normal', 'SuccessfulDelete', `Deleted pod: ${name}`);
    } catch (error) {
      this.#expectations.deleted(key, uid);
      if (isNotFound(error)) return;
      this.#events.event(set, 'Warning', 'FailedDelete', `Error deleting ${name}: ${errorMessage(error)}`);
      throw error;
    }
  }

  /** Active pods of all sets with the same owner: two versions of one Deployment share the nodes. */
  #relatedPods(set: Stored<ReplicaSet>, own: Stored<Pod>[]): Stored<Pod>[] {
    const owner = controllerOf(set);
    if (!owner) return own;
    return controlledBy(this.#sets, owner.uid)
      .flatMap(other => controlledBy(this.#pods, other.metadata.uid))
      .filter(isPodActive);
  }

  async #writeStatus(
    set: Stored<ReplicaSet>,
    active: Stored<Pod>[],
    failure: unknown,
  ): Promise<{ requeueAfterMs: number } | undefined> {
    const nowMs = this.#context.clock.now();
    const missing = (set.spec?.replicas ?? 1) - active.length;
    const { status, nextAvailableMs } = replicaSetStatus(
      set,
      active,
      nowMs,
      failure === undefined
        ? undefined
        : {
            reason: missing > 0 ? 'FailedCreate' : 'FailedDelete',
            message: errorMessage(failure),
            time: formatTime(nowMs),
          },
    );
    if (!sameStatus(set.status, status)) {
      try {
        await this.#context.client.update(
          RESOURCE.replicaSets,
          { ...set, status },
          { subresource: 'status' },
        );
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
    }
    return nextAvailableMs === undefined
      ? undefined
      : { requeueAfterMs: Math.max(1, nextAvailableMs - nowMs) };
  }
}
