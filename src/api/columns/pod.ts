// `kubectl get pods`: the status column sums up phase, container states, init progress and deletion
// (pkg/printers/internalversion printPod).
import { ageOf } from '../duration.ts';
import type { TableColumn } from '../resource-definition.ts';
import type { ContainerState, ContainerStatus, Pod } from '../types.ts';
import { AGE, column, NAME, NONE } from './column.ts';

export interface PodSummary {
  ready: number;
  total: number;
  restarts: number;
  /** RFC 3339 of the last restart, empty when there was none. */
  lastRestart: string;
  reason: string;
}

type Terminated = NonNullable<ContainerState['terminated']>;

function terminatedReason(terminated: Terminated): string {
  if (terminated.reason) return terminated.reason;
  return terminated.signal ? `Signal:${terminated.signal}` : `ExitCode:${terminated.exitCode}`;
}

function isRestartable(pod: Pod, name: string): boolean {
  return (pod.spec?.initContainers ?? []).some(
    container => container.name === name && container.restartPolicy === 'Always',
  );
}

function restartOf(status: ContainerStatus): string {
  return status.lastState?.terminated?.finishedAt ?? '';
}

export function podSummary(pod: Pod): PodSummary {
  const status = pod.status ?? {};
  const summary: PodSummary = {
    ready: 0,
    total: pod.spec?.containers?.length ?? 0,
    restarts: 0,
    lastRestart: '',
    reason: status.reason || status.phase || 'Unknown',
  };
  if ((status.conditions ?? []).some(c => c.type === 'PodScheduled' && c.reason === 'SchedulingGated'))
    summary.reason = 'SchedulingGated';
  const initializing = summarizeInit(pod, summary);
  if (!initializing) summarizeContainers(pod, summary);
  if (pod.metadata?.deletionTimestamp)
    summary.reason =
      status.reason === 'NodeLost' ? 'Unknown' : isFinished(status.phase) ? summary.reason : 'Terminating';
  return summary;
}

function isFinished(phase: string | undefined): boolean {
  return phase === 'Succeeded' || phase === 'Failed';
}

function noteRestart(summary: PodSummary, status: ContainerStatus): void {
  summary.restarts += status.restartCount ?? 0;
  if (restartOf(status) > summary.lastRestart) summary.lastRestart = restartOf(status);
}

/** True while init containers are not done: they are what the status speaks of. */
function summarizeInit(pod: Pod, summary: PodSummary): boolean {
  const statuses = pod.status?.initContainerStatuses ?? [];
  const count = pod.spec?.initContainers?.length ?? 0;
  for (const status of statuses)
    if (isRestartable(pod, status.name)) {
      summary.total++;
      if (status.ready) summary.ready++;
    }
  for (const [index, status] of statuses.entries()) {
    noteRestart(summary, status);
    const { terminated, waiting } = status.state ?? {};
    if (terminated?.exitCode === 0) continue;
    if (isRestartable(pod, status.name) && status.started) continue;
    if (terminated) summary.reason = `Init:${terminatedReason(terminated)}`;
    else if (waiting?.reason && waiting.reason !== 'PodInitializing')
      summary.reason = `Init:${waiting.reason}`;
    else summary.reason = `Init:${index}/${count}`;
    return true;
  }
  // Done: only the restarts of what still runs count.
  summary.restarts = 0;
  summary.lastRestart = '';
  for (const status of statuses) if (isRestartable(pod, status.name)) noteRestart(summary, status);
  return false;
}

function summarizeContainers(pod: Pod, summary: PodSummary): void {
  const statuses = pod.status?.containerStatuses ?? [];
  let running = false;
  for (const status of [...statuses].reverse()) {
    noteRestart(summary, status);
    const { waiting, terminated, running: runs } = status.state ?? {};
    if (waiting?.reason) summary.reason = waiting.reason;
    else if (terminated) summary.reason = terminatedReason(terminated);
    else if (status.ready && runs) {
      running = true;
      summary.ready++;
    }
  }
  if (summary.reason !== 'Completed' || !running) return;
  const ready = (pod.status?.conditions ?? []).some(c => c.type === 'Ready' && c.status === 'True');
  summary.reason = ready ? 'Running' : 'NotReady';
}

function readinessGates(pod: Pod): string {
  const gates = pod.spec?.readinessGates ?? [];
  if (gates.length === 0) return NONE;
  const met = gates.filter(gate =>
    (pod.status?.conditions ?? []).some(c => c.type === gate.conditionType && c.status === 'True'),
  );
  return `${met.length}/${gates.length}`;
}

export const POD_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<Pod>('Ready', 'Ready containers of all containers.', pod => {
    const { ready, total } = podSummary(pod);
    return `${ready}/${total}`;
  }),
  column<Pod>('Status', "The aggregate state of the pod's containers.", pod => podSummary(pod).reason),
  column<Pod>('Restarts', 'How often containers were restarted, and when last.', (pod, now) => {
    const { restarts, lastRestart } = podSummary(pod);
    return restarts > 0 && lastRestart !== ''
      ? `${restarts} (${ageOf(lastRestart, now)} ago)`
      : String(restarts);
  }),
  AGE,
  column<Pod>('IP', "The pod's address.", pod => pod.status?.podIP || pod.status?.podIPs?.[0]?.ip || NONE, {
    wide: true,
  }),
  column<Pod>('Node', 'The node the pod is bound to.', pod => pod.spec?.nodeName || NONE, { wide: true }),
  column<Pod>(
    'Nominated Node',
    'The node room is being made on.',
    pod => pod.status?.nominatedNodeName || NONE,
    {
      wide: true,
    },
  ),
  column<Pod>('Readiness Gates', 'Readiness gates that are met, of all.', readinessGates, { wide: true }),
];
