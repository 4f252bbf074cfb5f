// What every controller is made of: shared informers whose changes put keys into a queue, and a reconciler that brings
// one key in order. Handlers only enqueue; all writing happens in reconcile, so that a burst of changes is one write.
import type { KubeClient } from '../client/client.ts';
import { EventRecorder, type EventSink } from '../client/event-recorder.ts';
import type { SharedInformers } from '../client/shared-informers.ts';
import type { Reconcile, WorkQueue } from '../client/work-queue.ts';
import type { Clock } from '../lib/clock.ts';
import type { Logger } from '../observe/log.ts';

export interface ControllerContext {
  client: KubeClient;
  informers: SharedInformers;
  log: Logger;
  clock: Clock;
  /** Pod networks of the cluster, at most one a family. */
  clusterCidrs: readonly string[];
  nodeCidrMaskSizes: { ipv4: number; ipv6: number };
}

export interface Controller {
  readonly name: string;
  readonly queue: WorkQueue;
  readonly workers: number;
  readonly reconcile: Reconcile;
  /** Called once when the informers are in sync, before the first key is worked on. */
  begin?(signal: AbortSignal): void;
}

/** Events in the name of one controller. */
export function recorderFor(context: ControllerContext, component: string): EventSink {
  return new EventRecorder({ client: context.client, component, log: context.log, clock: context.clock });
}
