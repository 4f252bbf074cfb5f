// All pods of the node: a worker each, the relist that notices what the runtime did by itself (PLEG), and the clean-up
// of what runs for pods the API does not have.
import { status } from '@grpc/grpc-js';
import type { Pod, Stored } from '../api/types.ts';
import { sleep } from '../lib/clock.ts';
import { errorMessage, hasCode } from '../lib/errors.ts';
import { followContainerdEvents } from './containerd-events.ts';
import type { NodeContext } from './node-context.ts';
import { podsOnDisk } from './pod-paths.ts';
import { PodWorker } from './pod-worker.ts';
import type { PodSummary } from './runtime-state.ts';

const RELIST_MS = 1_000;
const STOP_TIMEOUT_MS = 2_000;
/** Waits between the looks that an event of containerd's causes. */
const EVENT_LOOKS_MS = [15, 35, 70, 150];

export class PodManager {
  readonly #context: NodeContext;
  readonly #workers = new Map<string, PodWorker>();
  #seen = new Map<string, string>();
  #complete = false;
  #relistError: string | undefined;

  constructor(context: NodeContext) {
    this.#context = context;
  }

  /** A pod of this node as the API has it now. */
  setPod(pod: Stored<Pod>): void {
    const { uid, namespace = 'default', name } = pod.metadata;
    const known = this.#workers.get(uid);
    if (known) {
      known.update(pod);
      return;
    }
    this.#addWorker(new PodWorker(this.#context, { uid, namespace, name }, pod, this.#finished));
  }

  /** The API has deleted the pod. */
  removePod(uid: string): void {
    this.#workers.get(uid)?.markGone();
  }

  /** From now on pods the API has not named are orphans. */
  setComplete(): void {
    this.#complete = true;
  }

  /** Ends what is left on disk of pods that neither the API nor the runtime knows (a machine that was switched off). */
  async sweep(): Promise<void> {
    for (const identity of await podsOnDisk(this.#context))
      if (!this.#workers.has(identity.uid))
        this.#addWorker(new PodWorker(this.#context, identity, undefined, this.#finished));
  }

  wake(uid: string): void {
    this.#workers.get(uid)?.wake();
  }

  pods(): Stored<Pod>[] {
    return [...this.#workers.values()].map(worker => worker.pod).filter(pod => pod !== undefined);
  }

  findPod(namespace: string, name: string): Stored<Pod> | undefined {
    return this.pods().find(pod => pod.metadata.namespace === namespace && pod.metadata.name === name);
  }

  /** undefined: the last relist worked. */
  get relistError(): string | undefined {
    return this.#relistError;
  }

  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#relistLoop(signal), this.#eventLoop(signal)]);
  }

  /** Ends the loops of all workers; what runs goes on running. */
  async stop(): Promise<void> {
    const stopped = Promise.all([...this.#workers.values()].map(worker => worker.stop()));
    // A worker may be in the middle of a grace period; the next kubelet goes on from there.
    const enough = new AbortController();
    await Promise.race([stopped, sleep(STOP_TIMEOUT_MS, enough.signal)]);
    enough.abort();
  }

  readonly #finished = (worker: PodWorker): void => {
    this.#workers.delete(worker.identity.uid);
  };

  #addWorker(worker: PodWorker): void {
    this.#workers.set(worker.identity.uid, worker);
    worker.wake();
  }

  async #relistLoop(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.relist();
        if (this.#relistError !== undefined) this.#context.log.info('the container runtime answers again');
        this.#relistError = undefined;
      } catch (thrown) {
        if (this.#relistError === undefined)
          this.#context.log.error(
            { error: thrown },
            `the container runtime does not answer: ${errorMessage(thrown)}`,
          );
        this.#relistError = errorMessage(thrown);
      }
      await sleep(RELIST_MS, signal);
    }
  }

  /** One look at the runtime: wakes the workers of pods that changed, and ends pods that are nobody's. */
  async relist(): Promise<void> {
    const pods = await this.#context.runtime.list();
    const seen = new Map<string, string>();
    for (const [uid, summary] of pods) {
      seen.set(uid, summary.fingerprint);
      const orphan = this.#complete && !this.#workers.has(uid);
      if (orphan || this.#seen.get(uid) !== summary.fingerprint) {
        this.#changed(summary);
      }
    }
    for (const uid of this.#seen.keys()) {
      if (pods.has(uid)) continue;
      this.wake(uid);
    }
    this.#seen = seen;
  }

  #changed(summary: PodSummary): void {
    const worker = this.#workers.get(summary.uid);
    if (worker) {
      worker.wake();
    } else if (this.#complete) {
      this.#context.log.info(
        { pod: `${summary.namespace}/${summary.name}` },
        'ending a pod that the API does not have',
      );
      this.#addWorker(new PodWorker(this.#context, summary, undefined, this.#finished));
    }
  }

  /** Runtimes that tell of events make the relist a safety net. */
  async #eventLoop(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        for await (const event of this.#context.cri.containerEvents(signal)) {
          const uid = event.podSandboxStatus?.metadata?.uid;
          if (uid) this.wake(uid);
        }
      } catch (thrown) {
        if (hasCode(thrown, 'CRI_UNIMPLEMENTED')) return this.#containerdLoop(signal);
      }
      await sleep(RELIST_MS, signal);
    }
  }

  /** containerd before 1.7 has no CRI events, but events of its own. */
  async #containerdLoop(signal: AbortSignal): Promise<void> {
    let looking = false;
    let step = 0;
    // The CRI side shows an exit only when the dead task is cleared away, some 50 ms after its event.
    const look = async () => {
      step = 0;
      if (looking) return;
      looking = true;
      try {
        while (step < EVENT_LOOKS_MS.length) {
          await sleep(EVENT_LOOKS_MS[step++]!, signal);
          if (signal.aborted) return;
          await this.relist();
        }
      } catch (thrown) {
        this.#context.log.debug({ error: thrown }, 'relist after an event');
      } finally {
        looking = false;
      }
    };
    while (!signal.aborted) {
      try {
        await followContainerdEvents(this.#context.cri.socketPath, () => void look(), signal);
      } catch (thrown) {
        if ((thrown as { code?: unknown }).code === status.UNIMPLEMENTED) return;
      }
      await sleep(RELIST_MS, signal);
    }
  }
}
