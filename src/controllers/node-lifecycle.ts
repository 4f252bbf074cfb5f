// Nodes that fall silent: their conditions become Unknown, taints keep pods away, their pods stop being ready (so that
// Services drop them), and after their tolerations end the pods are evicted.
// A node is silent when neither its Lease nor its status moved for the grace period, by our own clock, while the watch
// was healthy: an API server that was away says nothing about nodes.
import type { Lease, Node, Pod, PodCondition, Stored } from '../api/types.ts';
import type { EventSink } from '../client/event-recorder.ts';
import type { Informer } from '../client/informer.ts';
import { RESOURCE } from '../client/resources.ts';
import { isNotFound } from '../client/status.ts';
import { WorkQueue } from '../client/work-queue.ts';
import { formatTime } from '../lib/clock.ts';
import { jsonEqual } from '../lib/json.ts';
import { type Controller, type ControllerContext, recorderFor } from './controller.ts';
import { desiredTaints, evictionTimeMs, nodeCondition, unknownConditions } from './node-health.ts';
import { isPodFinished, podCondition } from './pod-state.ts';

const LEASE_NAMESPACE = 'kube-node-lease';
const GRACE_MS = 40_000;
const BY_NODE = 'node';

export class NodeLifecycleController implements Controller {
  readonly name = 'node-lifecycle-controller';
  readonly workers = 4;
  readonly queue: WorkQueue;
  readonly #context: ControllerContext;
  readonly #nodes: Informer<Node>;
  readonly #leases: Informer<Lease>;
  readonly #pods: Informer<Pod>;
  readonly #events: EventSink;
  readonly #graceMs: number;
  /** Node → the last sign of life, and when it was seen here. */
  readonly #signs = new Map<string, { sign: string; seenAtMs: number }>();

  constructor(context: ControllerContext, options: { graceMs?: number } = {}) {
    this.#context = context;
    this.#graceMs = options.graceMs ?? GRACE_MS;
    this.queue = new WorkQueue({ name: this.name, log: context.log, clock: context.clock });
    this.#events = recorderFor(context, 'node-controller');
    this.#nodes = context.informers.of(RESOURCE.nodes);
    this.#leases = context.informers.of(RESOURCE.leases);
    this.#pods = context.informers.of(RESOURCE.pods);
    this.#pods.addIndex(BY_NODE, pod => (pod.spec?.nodeName ? [pod.spec.nodeName] : []));
    this.#nodes.onChange(({ type, object }) => {
      if (type === 'deleted') this.#signs.delete(object.metadata.name);
      this.queue.add(object.metadata.name);
    });
    this.#leases.onChange(({ object }) => {
      if (object.metadata.namespace === LEASE_NAMESPACE) this.#hear(object.metadata.name);
    });
    this.#pods.onChange(({ type, object, previous }) => {
      const { nodeName } = object.spec ?? {};
      if (nodeName && type !== 'deleted' && previous?.spec?.nodeName !== nodeName)
        this.#wakeIfTainted(nodeName);
    });
  }

  #wakeIfTainted(nodeName: string): void {
    if ((this.#nodes.get(nodeName)?.spec?.taints ?? []).some(({ effect }) => effect === 'NoExecute'))
      this.queue.add(nodeName);
  }

  /** Notes a sign of life; answers when the node was last heard. */
  #hear(name: string): number {
    const lease = this.#leases.get(name, LEASE_NAMESPACE)?.spec?.renewTime ?? '';
    const ready = nodeOrUndefined(this.#nodes.get(name));
    const sign = `${lease} ${ready?.lastHeartbeatTime ?? ''} ${ready?.status === 'Unknown' ? '' : (ready?.status ?? '')}`;
    const known = this.#signs.get(name);
    if (known && known.sign === sign) return known.seenAtMs;
    const seenAtMs = this.#context.clock.now();
    this.#signs.set(name, { sign, seenAtMs });
    return seenAtMs;
  }

  readonly reconcile = async (name: string): Promise<{ requeueAfterMs: number } | undefined> => {
    let node = this.#nodes.get(name);
    if (!node) return undefined;
    const nowMs = this.#context.clock.now();
    const deadlineMs = this.#deadline(name, nowMs);
    let ready = nodeCondition(node, 'Ready');
    if (nowMs >= deadlineMs) {
      node = await this.#declareUnknown(node, nowMs);
      ready = nodeCondition(node, 'Ready');
    }
    const taints = desiredTaints(node, nowMs);
    if (!jsonEqual(node.spec?.taints ?? [], taints)) {
      const { resourceVersion } = node.metadata;
      const patch = { metadata: { resourceVersion }, spec: { taints: taints.length > 0 ? taints : null } };
      await this.#context.client.patch(RESOURCE.nodes, name, patch, { type: 'merge' });
    }
    if (ready && ready.status !== 'True') await this.#markPodsNotReady(name, nowMs);
    const evictAtMs = await this.#evict(node, taints, nowMs);
    const nextMs = Math.min(evictAtMs ?? Infinity, nowMs >= deadlineMs ? nowMs + this.#graceMs : deadlineMs);
    return { requeueAfterMs: Math.max(100, nextMs - nowMs) };
  };

  /** When silence becomes a verdict. */
  #deadline(name: string, nowMs: number): number {
    const heardMs = this.#hear(name);
    const listening = [this.#leases.healthySinceMs, this.#nodes.healthySinceMs];
    const listeningSinceMs = Math.max(...listening.map(since => since ?? nowMs));
    return Math.max(heardMs, listeningSinceMs) + this.#graceMs;
  }

  async #declareUnknown(node: Stored<Node>, nowMs: number): Promise<Stored<Node>> {
    const conditions = unknownConditions(node, nowMs);
    if (conditions.length === 0) return node;
    const { name } = node.metadata;
    this.#context.log.warn({ node: name }, 'node has fallen silent');
    const patch = { status: { conditions } };
    const updated = await this.#context.client.patch(RESOURCE.nodes, name, patch, {
      type: 'strategic',
      subresource: 'status',
    });
    this.#events.event(node, 'Normal', 'NodeNotReady', `Node ${name} status is now: NodeNotReady`);
    return updated;
  }

  async #markPodsNotReady(nodeName: string, nowMs: number): Promise<void> {
    for (const pod of this.#pods.byIndex(BY_NODE, nodeName)) {
      if (podCondition(pod, 'Ready')?.status !== 'True') continue;
      const condition: PodCondition = {
        type: 'Ready',
        status: 'False',
        reason: 'NodeNotReady',
        message: `node ${nodeName} is not ready`,
        lastTransitionTime: formatTime(nowMs),
      };
      const { name, namespace } = pod.metadata;
      try {
        await this.#context.client.patch(
          RESOURCE.pods,
          name,
          { status: { conditions: [condition] } },
          { type: 'strategic', namespace, subresource: 'status' },
        );
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
    }
  }

  /** Deletes the pods whose time is up; answers when the next one's is. */
  async #evict(
    node: Stored<Node>,
    taints: ReturnType<typeof desiredTaints>,
    nowMs: number,
  ): Promise<number | undefined> {
    let next: number | undefined;
    for (const pod of this.#pods.byIndex(BY_NODE, node.metadata.name)) {
      if (pod.metadata.deletionTimestamp || isPodFinished(pod)) continue;
      const atMs = evictionTimeMs(pod, taints);
      if (atMs === undefined) continue;
      if (atMs > nowMs) {
        next = Math.min(next ?? Infinity, atMs);
        continue;
      }
      const { name, namespace, uid } = pod.metadata;
      this.#events.event(
        pod,
        'Normal',
        'TaintManagerEviction',
        `Marking for deletion Pod ${namespace}/${name}`,
      );
      try {
        await this.#context.client.delete(RESOURCE.pods, name, { namespace, preconditions: { uid } });
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
    }
    return next;
  }
}

function nodeOrUndefined(node: Stored<Node> | undefined): ReturnType<typeof nodeCondition> {
  return node && nodeCondition(node, 'Ready');
}
