// Deletes what has lost its owners, and sees the three ways of deleting an owner through: background (dependents after
// the owner), foreground (dependents first), orphan (dependents stay). It watches every kind the server has.
// Source: k8s.io/kubernetes pkg/controller/garbagecollector.
import type { KubeObject, OwnerReference, Stored } from '../api/types.ts';
import { type DiscoveredResource, discoverResources } from '../client/discovery.ts';
import { groupVersionOf, type TypedRef } from '../client/resources.ts';
import { isConflict, isNotFound } from '../client/status.ts';
import { WorkQueue } from '../client/work-queue.ts';
import { sleep } from '../lib/clock.ts';
import { errorMessage } from '../lib/errors.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { type GraphNode, OwnerGraph } from './owner-graph.ts';

const FOREGROUND = 'foregroundDeletion';
const ORPHAN = 'orphan';
/** New kinds (custom resources) are found this soon. */
const DISCOVERY_MS = 30_000;
/** A cluster that starts has better things to do first; nothing can have lost its owner yet. */
const START_DELAY_MS = 3_000;
/** Kinds that never have owners that matter, and many of them. */
const IGNORED = new Set(['events', 'leases', 'componentstatuses', 'bindings']);

type Owners = { solid: OwnerReference[]; dangling: OwnerReference[]; waiting: OwnerReference[] };

export class GarbageCollector implements Controller {
  readonly name = 'garbage-collector';
  readonly workers = 8;
  readonly queue: WorkQueue;
  readonly #context: ControllerContext;
  readonly #startDelayMs: number;
  readonly #graph = new OwnerGraph();
  readonly #watched = new Set<string>();
  /** `apps/v1 Deployment` → where such objects live. */
  readonly #byKind = new Map<string, TypedRef<KubeObject>>();
  /** Owners the server has said are not there: uids never come back. */
  readonly #absent = new Set<string>();

  constructor(context: ControllerContext, options: { startDelayMs?: number } = {}) {
    this.#context = context;
    this.#startDelayMs = options.startDelayMs ?? START_DELAY_MS;
    this.queue = new WorkQueue({ name: this.name, log: context.log, clock: context.clock });
  }

  begin(signal: AbortSignal): void {
    void this.#discoverForever(signal);
  }

  async #discoverForever(signal: AbortSignal): Promise<void> {
    await sleep(this.#startDelayMs, signal, this.#context.clock);
    while (!signal.aborted) {
      try {
        const { resources } = await discoverResources(this.#context.client, signal);
        for (const resource of resources) this.#watch(resource);
      } catch (error) {
        if (!signal.aborted) this.#context.log.debug({ error: errorMessage(error) }, 'discovery failed');
      }
      await sleep(DISCOVERY_MS, signal, this.#context.clock);
    }
  }

  #watch({ ref, kind, verbs }: DiscoveredResource): void {
    this.#byKind.set(`${groupVersionOf(ref)} ${kind}`, ref);
    const key = `${groupVersionOf(ref)} ${ref.plural}`;
    if (this.#watched.has(key) || IGNORED.has(ref.plural)) return;
    if (!['list', 'watch', 'delete'].every(verb => verbs.includes(verb))) return;
    this.#watched.add(key);
    this.#context.informers.of(ref).onChange(({ type, object }) => this.#onChange(type, ref, object));
  }

  #onChange(type: string, ref: TypedRef<KubeObject>, object: Stored<KubeObject>): void {
    if (type === 'deleted') {
      this.#absent.add(object.metadata.uid);
      if (this.#absent.size > 10_000) this.#absent.delete(this.#absent.values().next().value as string);
      for (const { uid } of object.metadata.ownerReferences ?? []) this.#wakeIfForeground(uid);
      for (const dependent of this.#graph.remove(object.metadata.uid)) this.queue.add(dependent.uid);
      return;
    }
    const node = this.#graph.put(ref, object);
    if (node.owners.length > 0 || node.deleting) this.queue.add(node.uid);
    for (const { uid } of node.owners) this.#wakeIfForeground(uid);
  }

  #wakeIfForeground(uid: string): void {
    const owner = this.#graph.get(uid);
    if (owner?.deleting && owner.finalizers.includes(FOREGROUND)) this.queue.add(uid);
  }

  readonly reconcile = async (uid: string): Promise<{ requeueAfterMs: number } | undefined> => {
    const node = this.#graph.get(uid);
    if (!node) return undefined;
    if (node.deleting && node.finalizers.includes(ORPHAN)) {
      await this.#orphanDependents(node);
      return undefined;
    }
    if (node.deleting && node.finalizers.includes(FOREGROUND)) {
      await this.#deleteDependentsFirst(node);
      return undefined;
    }
    if (node.deleting || node.owners.length === 0) return undefined;
    const owners = await this.#classify(node);
    if (owners === undefined) return { requeueAfterMs: DISCOVERY_MS };
    await this.#settle(node, owners);
    return undefined;
  };

  /** Undefined when an owner's kind is not known (yet): then nothing may be concluded. */
  async #classify(node: GraphNode): Promise<Owners | undefined> {
    const owners: Owners = { solid: [], dangling: [], waiting: [] };
    for (const owner of node.owners) {
      const known = this.#graph.get(owner.uid);
      if (known) {
        const waits = known.deleting && known.finalizers.includes(FOREGROUND);
        owners[waits ? 'waiting' : 'solid'].push(owner);
        continue;
      }
      if (this.#absent.has(owner.uid)) {
        owners.dangling.push(owner);
        continue;
      }
      const ref = this.#byKind.get(`${owner.apiVersion} ${owner.kind}`);
      if (!ref) return undefined;
      // An owner in another namespace cannot exist: cross-namespace references are not allowed.
      const live = await this.#read(ref, owner.name, ref.namespaced ? node.namespace : undefined);
      if (live?.metadata.uid === owner.uid) {
        owners.solid.push(owner);
      } else {
        this.#absent.add(owner.uid);
        owners.dangling.push(owner);
      }
    }
    return owners;
  }

  async #settle(node: GraphNode, { solid, dangling, waiting }: Owners): Promise<void> {
    if (solid.length > 0) {
      // It has another owner: only the lost references go.
      if (dangling.length + waiting.length > 0) await this.#writeOwners(node, solid);
      return;
    }
    if (waiting.length > 0 && node.dependents.size > 0) {
      await this.#delete(node, 'Foreground');
      return;
    }
    if (node.finalizers.includes(ORPHAN)) await this.#delete(node, 'Orphan');
    else if (node.finalizers.includes(FOREGROUND)) await this.#delete(node, 'Foreground');
    else await this.#delete(node, 'Background');
  }

  async #deleteDependentsFirst(node: GraphNode): Promise<void> {
    const dependents = this.#graph.dependentsOf(node.uid);
    const blocking = dependents.filter(dependent =>
      dependent.owners.some(owner => owner.uid === node.uid && owner.blockOwnerDeletion === true),
    );
    for (const dependent of dependents) if (!dependent.deleting) this.queue.add(dependent.uid);
    if (blocking.length === 0) await this.#removeFinalizer(node, FOREGROUND);
  }

  async #orphanDependents(node: GraphNode): Promise<void> {
    for (const dependent of this.#graph.dependentsOf(node.uid)) {
      const rest = dependent.owners.filter(owner => owner.uid !== node.uid);
      await this.#writeOwners(dependent, rest);
    }
    await this.#removeFinalizer(node, ORPHAN);
  }

  async #writeOwners(node: GraphNode, owners: readonly OwnerReference[]): Promise<void> {
    const { client } = this.#context;
    const patch = { metadata: { uid: node.uid, ownerReferences: owners.length > 0 ? owners : null } };
    try {
      await client.patch(node.ref, node.name, patch, { type: 'merge', namespace: node.namespace });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  async #removeFinalizer(node: GraphNode, finalizer: string): Promise<void> {
    const { client } = this.#context;
    const live = await this.#read(node.ref, node.name, node.namespace);
    if (!live || live.metadata.uid !== node.uid) return;
    const finalizers = (live.metadata.finalizers ?? []).filter(present => present !== finalizer);
    const { resourceVersion } = live.metadata;
    const patch = { metadata: { resourceVersion, finalizers: finalizers.length > 0 ? finalizers : null } };
    try {
      await client.patch(node.ref, node.name, patch, { type: 'merge', namespace: node.namespace });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  async #delete(node: GraphNode, propagationPolicy: 'Background' | 'Foreground' | 'Orphan'): Promise<void> {
    // Once more by the server's own word: what was read from the copy may have a new owner meanwhile.
    const live = await this.#read(node.ref, node.name, node.namespace);
    if (!live || live.metadata.uid !== node.uid || live.metadata.deletionTimestamp) return;
    const { uid, resourceVersion } = live.metadata;
    const same = (live.metadata.ownerReferences ?? [])
      .map(owner => owner.uid)
      .sort()
      .join();
    if (
      same !==
      node.owners
        .map(owner => owner.uid)
        .sort()
        .join()
    )
      return;
    try {
      await this.#context.client.delete(node.ref, node.name, {
        namespace: node.namespace,
        propagationPolicy,
        preconditions: { uid, resourceVersion },
      });
      this.#context.log.info(
        { resource: node.ref.plural, name: node.name, namespace: node.namespace, propagationPolicy },
        'garbage collected',
      );
    } catch (error) {
      if (isConflict(error)) this.queue.addRateLimited(node.uid);
      else if (!isNotFound(error)) throw error;
    }
  }

  async #read(
    ref: TypedRef<KubeObject>,
    name: string,
    namespace: string | undefined,
  ): Promise<Stored<KubeObject> | undefined> {
    try {
      return await this.#context.client.get(ref, name, namespace);
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }
}
