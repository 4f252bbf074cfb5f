// kube-scheduler's work: pods without a node get one. The informer path keeps the cache and the queue; the scheduling
// path takes the first pod, decides (framework.ts), assumes it on the node and binds it in the background.
//
//   Pods, Nodes ──informers──▶ ClusterCache ──┐
//        └─▶ SchedulingQueue ──pop──▶ decide ─┴─▶ assume ──▶ POST pods/binding
//                  ▲                    └─ no node fits: unschedulable, condition PodScheduled=False, Event
//                  └── cluster events bring refused pods back
import type { Node, Pod, PodCondition, Stored } from '../api/types.ts';
import type { KubeClient } from '../client/client.ts';
import { EventRecorder } from '../client/event-recorder.ts';
import { type Change, Informer } from '../client/informer.ts';
import { RESOURCE } from '../client/resources.ts';
import { isNotFound } from '../client/status.ts';
import { type Clock, formatTime, systemClock } from '../lib/clock.ts';
import { errorMessage } from '../lib/errors.ts';
import { jsonEqual } from '../lib/json.ts';
import type { Logger } from '../observe/log.ts';
import { ClusterCache, isFinished } from './cluster-cache.ts';
import { type ClusterEvent, decide } from './framework.ts';
import { PLUGINS } from './plugin-table.ts';
import { viewPod } from './pod-view.ts';
import type { SchedulerMetrics } from './scheduler-metrics.ts';
import { type QueuedPod, SchedulingQueue } from './scheduling-queue.ts';

export interface SchedulerOptions {
  client: KubeClient;
  log: Logger;
  /** Pods with this spec.schedulerName are ours; default `default-scheduler`. */
  name?: string;
  metrics?: SchedulerMetrics;
  clock?: Clock;
  random?: () => number;
}

const DEFAULT_NAME = 'default-scheduler';
const MAX_PARALLEL_BINDINGS = 64;
/** A long queue is worked off in slices, so that watches are read meanwhile. */
const SLICE_MS = 20;

export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #name: string;
  readonly #clock: Clock;
  readonly #pods: Informer<Pod>;
  readonly #nodes: Informer<Node>;
  readonly #cache = new ClusterCache();
  readonly #queue: SchedulingQueue;
  readonly #recorder: EventRecorder;
  readonly #pending = new Set<Promise<void>>();
  #bindings = 0;
  #running = false;
  #planned = false;
  #cycle = 0;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#name = options.name ?? DEFAULT_NAME;
    this.#clock = options.clock ?? systemClock;
    const { client, log } = options;
    this.#pods = new Informer(client, RESOURCE.pods, { log });
    this.#nodes = new Informer(client, RESOURCE.nodes, { log });
    this.#queue = new SchedulingQueue(PLUGINS, this.#clock, () => this.#plan());
    this.#recorder = new EventRecorder({ client, component: this.#name, log });
  }

  /** Resolves when both copies are there and scheduling has begun. */
  async start(signal?: AbortSignal): Promise<void> {
    this.#nodes.onChange(change => this.#onNode(change));
    this.#pods.onChange(change => this.#onPod(change));
    this.#nodes.start(signal);
    this.#pods.start(signal);
    await Promise.all([this.#nodes.synced(signal), this.#pods.synced(signal)]);
    this.#running = true;
    this.#plan();
  }

  /** Waits for the bindings under way. */
  async stop(): Promise<void> {
    this.#running = false;
    this.#queue.close();
    await Promise.all([this.#nodes.stop(), this.#pods.stop()]);
    await Promise.allSettled([...this.#pending]);
    await this.#recorder.flush();
  }

  #onNode(change: Change<Node>): void {
    const { object: node, previous } = change;
    if (change.type === 'deleted') {
      this.#cache.removeNode(node.metadata.name);
      return;
    }
    this.#cache.setNode(node);
    for (const event of nodeEvents(node, previous)) this.#queue.moveOn(event);
  }

  #onPod({ type, object: pod, previous }: Change<Pod>): void {
    const { uid } = pod.metadata;
    const gone = type === 'deleted' || isFinished(pod);
    if (gone || pod.spec?.nodeName) {
      this.#queue.remove(uid);
      const wasPlaced = this.#cache.isPlaced(uid);
      if (gone) this.#cache.removePod(uid);
      else this.#cache.setPod(pod);
      if (gone && wasPlaced) this.#queue.moveOn('pod-removed');
      else if (!gone && !wasPlaced) this.#queue.moveOn('pod-added');
      return;
    }
    if (!this.#isOurs(pod)) {
      this.#queue.remove(uid);
      return;
    }
    // Our own assumed pod whose binding has not come back yet.
    if (this.#cache.isPlaced(uid)) return;
    const changed = !previous || !jsonEqual(schedulingInput(previous), schedulingInput(pod));
    if (changed) this.#queue.add(viewPod(pod));
    else this.#queue.refresh(viewPod(pod));
  }

  #isOurs(pod: Pod): boolean {
    return (
      (pod.spec?.schedulerName ?? DEFAULT_NAME) === this.#name &&
      !pod.metadata?.deletionTimestamp &&
      (pod.spec?.schedulingGates ?? []).length === 0
    );
  }

  /** Works the queue off soon: after the events that have already been read. */
  #plan(): void {
    if (this.#planned || !this.#running) return;
    this.#planned = true;
    setImmediate(() => {
      this.#planned = false;
      this.#workOff();
    });
  }

  #workOff(): void {
    const until = performance.now() + SLICE_MS;
    while (this.#running && this.#bindings < MAX_PARALLEL_BINDINGS) {
      const entry = this.#queue.pop();
      if (!entry) return;
      this.#scheduleOne(entry);
      if (performance.now() > until) {
        this.#plan();
        return;
      }
    }
  }

  #scheduleOne(entry: QueuedPod): void {
    const startedAt = performance.now();
    const nodes = this.#cache.nodes();
    const startAt = nodes.length === 0 ? 0 : this.#cycle++ % nodes.length;
    const decision = decide(entry.view, nodes, PLUGINS, { startAt, random: this.#options.random });
    const seconds = (performance.now() - startedAt) / 1000;
    this.#options.metrics?.attempt(decision.nodeName === undefined ? 'unschedulable' : 'scheduled', seconds);
    if (decision.nodeName === undefined) {
      // Without any node there was nothing to try.
      if (nodes.length === 0) entry.attempts--;
      this.#queue.putUnschedulable(entry, decision.rejectedBy);
      this.#track(this.#reportUnschedulable(entry.view.pod, decision.message));
      return;
    }
    this.#cache.assume(entry.view, decision.nodeName);
    this.#bindings++;
    this.#track(this.#bind(entry, decision.nodeName));
  }

  async #bind(entry: QueuedPod, nodeName: string): Promise<void> {
    const { pod, uid, key } = entry.view;
    const { client, log, metrics } = this.#options;
    try {
      await client.createBinding(pod, nodeName);
      metrics?.bound((this.#clock.now() - entry.addedMs) / 1000, entry.attempts);
      log.debug({ pod: key, node: nodeName }, 'bound');
      this.#recorder.event(pod, 'Normal', 'Scheduled', `Successfully assigned ${key} to ${nodeName}`);
    } catch (error) {
      this.#cache.forget(uid);
      if (isNotFound(error) || !this.#pods.getByKey(key)) return;
      // Somebody else placed it: the informer will tell. Anything else is tried again.
      log.warn({ pod: key, node: nodeName, error: errorMessage(error) }, 'binding failed');
      if (this.#running && !this.#pods.getByKey(key)?.spec?.nodeName) this.#queue.putBackoff(entry);
    } finally {
      this.#bindings--;
      this.#plan();
    }
  }

  async #reportUnschedulable(pod: Stored<Pod>, message: string): Promise<void> {
    this.#recorder.event(pod, 'Warning', 'FailedScheduling', message);
    const present = pod.status?.conditions?.find(condition => condition.type === 'PodScheduled');
    if (present?.status === 'False' && present.message === message) return;
    const condition: PodCondition = {
      type: 'PodScheduled',
      status: 'False',
      reason: 'Unschedulable',
      message,
      lastTransitionTime:
        present?.status === 'False' ? present.lastTransitionTime : formatTime(this.#clock.now()),
    };
    const { namespace, name } = pod.metadata;
    const options = { type: 'strategic', namespace, subresource: 'status' } as const;
    try {
      await this.#options.client.patch(RESOURCE.pods, name, { status: { conditions: [condition] } }, options);
    } catch (error) {
      if (!isNotFound(error))
        this.#options.log.warn(
          { pod: `${namespace}/${name}`, error: errorMessage(error) },
          'status not written',
        );
    }
  }

  #track(work: Promise<void>): void {
    this.#pending.add(work);
    void work.finally(() => this.#pending.delete(work));
  }
}

/** The part of a pod a decision depends on: a change of status alone is no reason to try again. */
function schedulingInput(pod: Stored<Pod>): unknown {
  return { spec: pod.spec, labels: pod.metadata.labels, owners: pod.metadata.ownerReferences };
}

/** What a change of a node may make possible. A heartbeat is nothing. */
function nodeEvents(node: Stored<Node>, previous: Stored<Node> | undefined): ClusterEvent[] {
  if (!previous) return ['node-added'];
  const events: ClusterEvent[] = [];
  if (!jsonEqual(node.status?.allocatable, previous.status?.allocatable)) events.push('node-allocatable');
  if (!jsonEqual(node.metadata.labels, previous.metadata.labels)) events.push('node-labels');
  const taints = (of: Node): unknown => [of.spec?.taints ?? [], of.spec?.unschedulable ?? false];
  if (!jsonEqual(taints(node), taints(previous))) events.push('node-taints');
  return events;
}
