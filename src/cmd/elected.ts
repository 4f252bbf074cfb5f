// A part of the control plane of which only one instance may work: it starts when it has the lead, and the process ends
// when the lead is lost, as Kubernetes' own do, so that nothing half-stopped goes on.
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { KubeClient } from '../client/client.ts';
import { LeaderElection } from '../client/leader-election.ts';
import type { Logger } from '../observe/log.ts';

export interface Part {
  start(signal: AbortSignal): Promise<void>;
  stop(): Promise<void>;
}

export interface ElectionTimes {
  readonly leaseDurationMs: number;
  readonly renewDeadlineMs: number;
  readonly retryPeriodMs: number;
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise(resolve => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });

/** Runs the part until the signal aborts. `onLost` is called when the lead went to somebody else before. */
export async function runElected(
  part: Part,
  options: {
    readonly client: KubeClient;
    /** Of the Lease in kube-system, as Kubernetes calls it: `kube-scheduler`. */
    readonly lease: string;
    readonly times: ElectionTimes;
    readonly log: Logger;
    readonly signal: AbortSignal;
    readonly onLost: () => void;
  },
): Promise<void> {
  const { client, lease, times, log, signal, onLost } = options;
  const identity = `${hostname()}_${randomUUID()}`;
  const election = new LeaderElection({ client, name: lease, identity, log, ...times });
  await election.run(async leading => {
    await part.start(leading);
    await aborted(leading);
    await part.stop();
  }, signal);
  if (!signal.aborted) onLost();
}
