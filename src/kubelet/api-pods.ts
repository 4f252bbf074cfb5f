// The kubelet's writes about pods: statuses (the latest wins, one request a pod at a time), final deletion, Events.
import type { Pod, PodStatus, Stored } from '../api/types.ts';
import type { KubeClient } from '../client/client.ts';
import type { EventSink } from '../client/event-recorder.ts';
import { RESOURCE } from '../client/resources.ts';
import { backoffMs } from '../lib/backoff.ts';
import { sleep } from '../lib/clock.ts';
import { ApiError, errorMessage } from '../lib/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { PodApi } from './node-context.ts';

const RETRY = { baseMs: 200, maxMs: 10_000, factor: 2, jitter: 0.3 };

/** Fields that a merge patch must name to take away. */
const REMOVABLE = ['podIP', 'podIPs', 'reason', 'message', 'initContainerStatuses'] as const;

interface Pending {
  pod: Stored<Pod>;
  status: PodStatus;
  text: string;
}

export interface ApiPodsOptions {
  client: KubeClient;
  events: EventSink;
  log: Logger;
  signal: AbortSignal;
}

export class ApiPods implements PodApi {
  readonly #options: ApiPodsOptions;
  readonly #sent = new Map<string, string>();
  readonly #pending = new Map<string, Pending>();
  readonly #sending = new Map<string, Promise<void>>();

  constructor(options: ApiPodsOptions) {
    this.#options = options;
  }

  publishStatus(pod: Stored<Pod>, status: PodStatus): void {
    const { uid } = pod.metadata;
    const text = JSON.stringify(status);
    const last = this.#pending.get(uid)?.text ?? this.#sent.get(uid);
    if (last === text) return;
    this.#pending.set(uid, { pod, status, text });
    if (!this.#sending.has(uid)) this.#sending.set(uid, this.#send(uid));
  }

  async flushStatus(uid: string): Promise<void> {
    await this.#sending.get(uid);
  }

  async #send(uid: string): Promise<void> {
    try {
      for (let failures = 0; !this.#options.signal.aborted; ) {
        const next = this.#pending.get(uid);
        if (!next) return;
        this.#pending.delete(uid);
        try {
          await this.#patch(next);
          this.#sent.set(uid, next.text);
          failures = 0;
        } catch (thrown) {
          // The pod is gone, or another one has its name: nobody wants this status.
          if (thrown instanceof ApiError && (thrown.status === 404 || thrown.status === 409)) return;
          if (!this.#pending.has(uid)) this.#pending.set(uid, next);
          this.#options.log.warn(
            { pod: `${next.pod.metadata.namespace}/${next.pod.metadata.name}`, error: thrown },
            `pod status not written: ${errorMessage(thrown)}`,
          );
          await sleep(backoffMs(RETRY, failures++), this.#options.signal);
        }
      }
    } finally {
      this.#sending.delete(uid);
    }
  }

  async #patch({ pod, status }: Pending): Promise<void> {
    const { namespace, name, uid } = pod.metadata;
    const body: Record<string, unknown> = { ...status };
    for (const field of REMOVABLE) if (body[field] === undefined) body[field] = null;
    const patch = { metadata: { uid }, status: body };
    await this.#options.client.patch(RESOURCE.pods, name, patch, {
      namespace,
      type: 'merge',
      subresource: 'status',
      fieldManager: 'kubelet',
    });
  }

  async finishPod(pod: Stored<Pod>): Promise<void> {
    const { namespace, name, uid } = pod.metadata;
    this.#sent.delete(uid);
    this.#pending.delete(uid);
    try {
      await this.#options.client.delete(RESOURCE.pods, name, {
        namespace,
        gracePeriodSeconds: 0,
        preconditions: { uid },
      });
    } catch (thrown) {
      if (!(thrown instanceof ApiError && (thrown.status === 404 || thrown.status === 409))) throw thrown;
    }
  }

  event(pod: Pod, type: 'Normal' | 'Warning', reason: string, message: string): void {
    this.#options.events.event({ apiVersion: 'v1', kind: 'Pod', ...pod }, type, reason, message);
  }
}
