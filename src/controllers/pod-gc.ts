// Pods nobody else will ever remove: on nodes that are gone, deleted before they got a node, or ended long ago.
// Source: k8s.io/kubernetes pkg/controller/podgc.
import type { Node, Pod, Stored } from '../api/types.ts';
import type { Informer } from '../client/informer.ts';
import { keyOf, RESOURCE } from '../client/resources.ts';
import { isNotFound } from '../client/status.ts';
import { WorkQueue } from '../client/work-queue.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { isPodFinished } from './pod-state.ts';

/** A node may be deleted and register again: its pods wait this long. */
const QUARANTINE_MS = 40_000;
const MAX_FINISHED = 12_500;
const BY_NODE = 'node';
const FINISHED_KEY = 'finished pods';

export class PodGcController implements Controller {
  readonly name = 'pod-garbage-collector';
  readonly workers = 1;
  readonly queue: WorkQueue;
  readonly #context: ControllerContext;
  readonly #pods: Informer<Pod>;
  readonly #nodes: Informer<Node>;
  readonly #quarantineMs: number;
  /** Pod uid → since when its node has been missing. */
  readonly #orphanedSince = new Map<string, number>();
  #finished = 0;

  constructor(context: ControllerContext, options: { quarantineMs?: number } = {}) {
    this.#context = context;
    this.#quarantineMs = options.quarantineMs ?? QUARANTINE_MS;
    this.queue = new WorkQueue({ name: this.name, log: context.log, clock: context.clock });
    this.#pods = context.informers.of(RESOURCE.pods);
    this.#nodes = context.informers.of(RESOURCE.nodes);
    this.#pods.addIndex(BY_NODE, pod => (pod.spec?.nodeName ? [pod.spec.nodeName] : []));
    this.#pods.onChange(({ type, object, previous }) => {
      const before = previous !== undefined && isPodFinished(previous);
      const after = type !== 'deleted' && isPodFinished(object);
      this.#finished += Number(after) - Number(before);
      if (this.#finished > MAX_FINISHED) this.queue.add(FINISHED_KEY);
      if (type === 'deleted') this.#orphanedSince.delete(object.metadata.uid);
      else if (this.#suspect(object)) this.queue.add(keyOf(object));
    });
    this.#nodes.onChange(({ type, object }) => {
      if (type !== 'deleted') return;
      for (const pod of this.#pods.byIndex(BY_NODE, object.metadata.name)) this.queue.add(keyOf(pod));
    });
  }

  begin(): void {
    // While the lists were coming in, every node looked missing: now it is known which are.
    for (const pod of this.#pods.list()) if (this.#suspect(pod)) this.queue.add(keyOf(pod));
  }

  #suspect(pod: Stored<Pod>): boolean {
    const { nodeName } = pod.spec ?? {};
    return nodeName ? this.#nodes.get(nodeName) === undefined : pod.metadata.deletionTimestamp !== undefined;
  }

  readonly reconcile = async (key: string): Promise<{ requeueAfterMs: number } | undefined> => {
    if (key === FINISHED_KEY) return this.#trimFinished();
    const pod = this.#pods.getByKey(key);
    if (!pod) return undefined;
    if (!this.#suspect(pod)) {
      this.#orphanedSince.delete(pod.metadata.uid);
      return undefined;
    }
    const { nodeName } = pod.spec ?? {};
    if (!nodeName) {
      await this.#remove(pod);
      return undefined;
    }
    const nowMs = this.#context.clock.now();
    const sinceMs = this.#orphanedSince.get(pod.metadata.uid) ?? nowMs;
    this.#orphanedSince.set(pod.metadata.uid, sinceMs);
    const leftMs = sinceMs + this.#quarantineMs - nowMs;
    if (leftMs > 0) return { requeueAfterMs: leftMs };
    // The copy may lag behind a node that has just come back.
    const alive = await this.#context.client.get(RESOURCE.nodes, nodeName).catch(error => {
      if (isNotFound(error)) return undefined;
      throw error;
    });
    if (!alive) await this.#remove(pod);
    return undefined;
  };

  async #trimFinished(): Promise<undefined> {
    const finished = this.#pods.list().filter(isPodFinished);
    const surplus = finished.length - MAX_FINISHED;
    if (surplus <= 0) return undefined;
    const age = (pod: Stored<Pod>): number => Date.parse(pod.metadata.creationTimestamp ?? '');
    finished.sort((a, b) => age(a) - age(b));
    for (const pod of finished.slice(0, surplus)) await this.#remove(pod);
    return undefined;
  }

  async #remove(pod: Stored<Pod>): Promise<void> {
    const { name, namespace, uid } = pod.metadata;
    this.#context.log.info(
      { pod: keyOf(pod), node: pod.spec?.nodeName },
      'removing a pod that has no keeper',
    );
    try {
      await this.#context.client.delete(RESOURCE.pods, name, {
        namespace,
        gracePeriodSeconds: 0,
        preconditions: { uid },
      });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}
