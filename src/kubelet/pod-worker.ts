// One pod's life: a serial loop that reads the runtime, plans, acts and publishes, whenever something about the pod may
// have changed. Starting, finishing and ending a pod all go through it, so that they never overlap.
//
//   update/markGone/wake ─▶ sync ─┬▶ running:  plan → kill/sandbox/containers → status
//                                 ├▶ finished: stop what is left, keep containers for their logs
//                                 └▶ ending:   kill with grace → final status → remove → API delete
import { readFileSync } from 'node:fs';
import type { Pod, Stored } from '../api/types.ts';
import { Backoff } from '../lib/backoff.ts';
import { sleep } from '../lib/clock.ts';
import { errorMessage, hasCode } from '../lib/errors.ts';
import type { NodeContext } from './node-context.ts';
import { planPod } from './plan.ts';
import { killContainer, killPod, removePod } from './pod-killer.ts';
import type { PodIdentity } from './pod-paths.ts';
import { startPod } from './pod-starter.ts';
import { podStatus, type WaitReason } from './pod-status.ts';
import type { RuntimeContainer, RuntimePod } from './runtime-pod.ts';

const RETRY = { baseMs: 100, maxMs: 10_000, factor: 2, jitter: 0.2 };
/** Volumes from ConfigMaps and Secrets are refreshed, and everything is looked at again, this often. */
const RESYNC_MS = 60_000;
const ORPHAN_GRACE_SECONDS = 1;
const MAX_TERMINATION_MESSAGE_BYTES = 4096;

export class PodWorker {
  readonly identity: PodIdentity;
  readonly #context: NodeContext;
  readonly #onFinished: (worker: PodWorker) => void;
  readonly #hurry = new AbortController();
  readonly #backoff = new Backoff(RETRY);
  #pod: Stored<Pod> | undefined;
  /** The API has no such pod (any more): end it at once, tell nobody. */
  #gone = false;
  #waiting = new Map<string, WaitReason>();
  #dirty = false;
  #running: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  #finished = false;

  /** `pod` undefined: sandboxes and containers the runtime has for a pod that the API does not know. */
  constructor(
    context: NodeContext,
    identity: PodIdentity,
    pod: Stored<Pod> | undefined,
    onFinished: (worker: PodWorker) => void,
  ) {
    this.#context = context;
    this.identity = identity;
    this.#pod = pod;
    this.#gone = pod === undefined;
    this.#onFinished = onFinished;
  }

  get pod(): Stored<Pod> | undefined {
    return this.#pod;
  }

  update(pod: Stored<Pod>): void {
    const before = this.#pod?.metadata.deletionGracePeriodSeconds;
    const now = pod.metadata.deletionGracePeriodSeconds;
    const same = this.#pod !== undefined && syncKey(this.#pod) === syncKey(pod);
    this.#pod = pod;
    if (same) return;
    if (now !== undefined && (now === 0 || (before !== undefined && now < before))) this.#hurry.abort();
    this.wake();
  }

  markGone(): void {
    if (this.#gone) return;
    this.#gone = true;
    // An object removed without waiting for us (force) leaves no reason to wait for its containers.
    this.#hurry.abort();
    this.wake();
  }

  wake(): void {
    this.#dirty = true;
    if (this.#stopped || this.#finished || this.#running) return;
    clearTimeout(this.#timer);
    this.#running = this.#loop().finally(() => {
      this.#running = undefined;
      if (this.#dirty) this.wake();
    });
  }

  /** The loop ends after what it is doing; containers stay as they are. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  async #loop(): Promise<void> {
    while (this.#dirty && !this.#stopped && !this.#finished) {
      this.#dirty = false;
      let againMs: number | undefined;
      try {
        againMs = await this.#sync();
        this.#backoff.reset();
      } catch (thrown) {
        againMs = this.#backoff.nextMs();
        this.#context.log.warn(
          { pod: this.#name(), error: thrown, againMs },
          `pod sync failed: ${errorMessage(thrown)}`,
        );
      }
      if (this.#dirty || this.#finished || this.#stopped) continue;
      this.#timer = setTimeout(() => this.wake(), againMs ?? RESYNC_MS);
      this.#timer.unref();
    }
  }

  #name(): string {
    return `${this.identity.namespace}/${this.identity.name}`;
  }

  #read(): Promise<RuntimePod> {
    const { uid, namespace, name } = this.identity;
    return this.#context.runtime.get(uid, namespace, name);
  }

  /** Returns the milliseconds after which to sync again, if nothing else asks for it. */
  async #sync(): Promise<number | undefined> {
    const pod = this.#pod;
    if (!pod || this.#gone || pod.metadata.deletionTimestamp !== undefined) {
      await this.#end(pod);
      return undefined;
    }
    const runtime = await this.#read();
    const phase = pod.status?.phase;
    if (phase === 'Succeeded' || phase === 'Failed') {
      await this.#settle(pod, runtime);
      return undefined;
    }
    return this.#run(pod, runtime);
  }

  async #run(pod: Stored<Pod>, runtime: RuntimePod): Promise<number | undefined> {
    const context = this.#context;
    const actions = planPod(pod, runtime, context.prober);
    const idle =
      !actions.killPod &&
      actions.kill.length === 0 &&
      !actions.initContainerToStart &&
      actions.containersToStart.length === 0;
    if (idle) {
      this.#waiting.clear();
      context.prober.sync(pod, runtime);
      this.#publish(pod, runtime, false);
      return undefined;
    }
    // Nothing to start: what the pod is for is done (or failed for good).
    const final = actions.killPod && !actions.createSandbox;
    if (!final && pod.status?.startTime === undefined) this.#publish(pod, runtime, false);
    if (actions.killPod && (runtime.sandboxes.length > 0 || runtime.containers.length > 0))
      await this.#stopAll(
        pod,
        runtime,
        actions.createSandbox ? 'the pod sandbox changed' : 'the pod has finished',
      );
    for (const { container, message } of actions.kill) {
      context.api.event(pod, 'Normal', 'Killing', message);
      await killContainer(context, pod, runtime, container, { message, hurry: this.#hurry.signal });
    }
    const known = actions.kill.length > 0 || actions.killPod ? await this.#read() : runtime;
    const started = await startPod(context, pod, known, actions);
    this.#waiting = started.waiting;
    const after = await this.#read();
    await this.#removeDeadSandboxes(after);
    context.prober.sync(pod, after);
    this.#publish(this.#pod ?? pod, after, false);
    // An init container that is done already makes the next one due.
    return started.retryAfterMs ?? (actions.initContainerToStart ? 100 : undefined);
  }

  /** Stops what still runs of a pod that has finished, without touching what its logs come from. */
  async #settle(pod: Stored<Pod>, runtime: RuntimePod): Promise<void> {
    const alive = runtime.containers.some(container => container.phase === 'running');
    if (alive || runtime.sandboxes.some(sandbox => sandbox.ready))
      await this.#stopAll(pod, runtime, 'the pod has finished');
    this.#context.prober.stopPod(this.identity.uid);
  }

  async #stopAll(pod: Stored<Pod>, runtime: RuntimePod, message: string): Promise<void> {
    await killPod(this.#context, pod, runtime, { message, hurry: this.#hurry.signal });
  }

  async #end(pod: Stored<Pod> | undefined): Promise<void> {
    const context = this.#context;
    context.prober.stopPod(this.identity.uid);
    const runtime = await this.#read();
    if (pod && !this.#gone) this.#publish(pod, runtime, true);
    // Nobody waits for a pod that the API does not have.
    const grace = this.#gone ? ORPHAN_GRACE_SECONDS : pod?.metadata.deletionGracePeriodSeconds;
    await killPod(context, pod, runtime, {
      gracePeriodSeconds: grace,
      hurry: this.#hurry.signal,
      message: this.#gone ? 'the pod is not in the API' : 'the pod was deleted',
    });
    const stopped = await this.#read();
    if (pod && !this.#gone) {
      this.#publish(this.#pod ?? pod, stopped, true);
      await context.api.flushStatus(this.identity.uid);
    }
    await removePod(context, stopped);
    context.restarts.forget(this.identity.uid);
    context.images.forgetPod(this.identity.uid);
    if (pod && !this.#gone) await context.api.finishPod(pod);
    context.log.info({ pod: this.#name() }, 'pod is gone');
    this.#finished = true;
    this.#onFinished(this);
  }

  /** Sandboxes that died and hold no container whose last state is still shown. */
  async #removeDeadSandboxes(runtime: RuntimePod): Promise<void> {
    for (const sandbox of runtime.sandboxes.slice(1)) {
      if (sandbox.ready || runtime.containers.some(container => container.sandboxId === sandbox.id)) continue;
      await this.#context.cri.removePodSandbox(sandbox.id);
    }
  }

  #publish(pod: Stored<Pod>, runtime: RuntimePod, terminating: boolean): void {
    const context = this.#context;
    const status = podStatus({
      pod,
      runtime,
      nodeIps: context.node.nodeIps,
      nowMs: Date.now(),
      waiting: this.#waiting,
      probes: context.prober,
      terminationMessage,
      terminating,
      runtimeName: context.runtimeName,
    });
    context.api.publishStatus(pod, status);
  }

  /** For tests and shutdown: waits until nothing is going on. */
  async idle(): Promise<void> {
    while (this.#running) {
      await this.#running;
      await sleep(0);
    }
  }
}

/** What of the object a sync acts on. Our own status comes back by the watch and asks for nothing. */
function syncKey({ metadata, spec, status }: Stored<Pod>): string {
  const gated = (spec?.readinessGates ?? []).length > 0;
  return JSON.stringify([
    spec,
    metadata.labels,
    metadata.annotations,
    metadata.deletionTimestamp,
    metadata.deletionGracePeriodSeconds,
    status?.phase === 'Failed' || status?.phase === 'Succeeded',
    gated ? status?.conditions?.map(condition => [condition.type, condition.status]) : [],
  ]);
}

function terminationMessage(container: RuntimeContainer): string {
  const path = container.terminationMessageHostPath;
  if (path === undefined || path === '') return '';
  try {
    return readFileSync(path).subarray(0, MAX_TERMINATION_MESSAGE_BYTES).toString('utf8').trimEnd();
  } catch (thrown) {
    if (hasCode(thrown, 'ENOENT') || hasCode(thrown, 'ENOTDIR')) return '';
    throw thrown;
  }
}
