// Columns of what runs pods.
import type { HorizontalPodAutoscaler } from 'kubernetes-types/autoscaling/v2.js';
import type { PodDisruptionBudget } from 'kubernetes-types/policy/v1.js';
import { ageOf, humanDuration } from '../duration.ts';
import type { TableColumn } from '../resource-definition.ts';
import { formatLabelSelector, labelSelectorFromMap, labelSelectorFromObject } from '../selectors.ts';
import type {
  CronJob,
  DaemonSet,
  Deployment,
  Job,
  LabelSelector,
  PodTemplateSpec,
  ReplicaSet,
  ReplicationController,
  StatefulSet,
} from '../types.ts';
import { AGE, column, count, joined, labelsText, NAME, NONE, UNKNOWN } from './column.ts';

interface WithTemplate {
  metadata?: Deployment['metadata'];
  spec?: { template?: PodTemplateSpec };
}

function containers(template: PodTemplateSpec | undefined): { names: string; images: string } {
  const list = template?.spec?.containers ?? [];
  return { names: joined(list.map(c => c.name)), images: joined(list.map(c => c.image ?? '')) };
}

function selectorText(selector: LabelSelector | undefined): string {
  if (!selector) return NONE;
  return formatLabelSelector(labelSelectorFromObject(selector)) || NONE;
}

const CONTAINERS = column<WithTemplate>(
  'Containers',
  'Names of the containers in the template.',
  object => containers(object.spec?.template).names,
  { wide: true },
);
const IMAGES = column<WithTemplate>(
  'Images',
  'Images of the containers in the template.',
  object => containers(object.spec?.template).images,
  { wide: true },
);
const SELECTOR = column<ReplicaSet>(
  'Selector',
  'Which pods belong.',
  object => selectorText(object.spec?.selector),
  {
    wide: true,
  },
);
const integer = { type: 'integer' } as const;

export const DEPLOYMENT_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<Deployment>(
    'Ready',
    'Ready pods of desired pods.',
    d => `${count(d.status?.readyReplicas)}/${d.spec?.replicas ?? 0}`,
  ),
  column<Deployment>('Up-to-date', 'Pods that have the desired template.', d =>
    count(d.status?.updatedReplicas),
  ),
  column<Deployment>('Available', 'Pods ready for at least minReadySeconds.', d =>
    count(d.status?.availableReplicas),
  ),
  AGE,
  CONTAINERS,
  IMAGES,
  SELECTOR,
];

export const REPLICA_SET_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<ReplicaSet>('Desired', 'Desired pods.', r => count(r.spec?.replicas), integer),
  column<ReplicaSet>('Current', 'Pods there are.', r => count(r.status?.replicas), integer),
  column<ReplicaSet>('Ready', 'Pods that are ready.', r => count(r.status?.readyReplicas), integer),
  AGE,
  CONTAINERS,
  IMAGES,
  SELECTOR,
];

export const REPLICATION_CONTROLLER_COLUMNS: readonly TableColumn[] = [
  ...REPLICA_SET_COLUMNS.slice(0, -1),
  column<ReplicationController>(
    'Selector',
    'Which pods belong.',
    r => formatLabelSelector(labelSelectorFromMap(r.spec?.selector)) || NONE,
    { wide: true },
  ),
];

export const DAEMON_SET_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<DaemonSet>(
    'Desired',
    'Nodes that should run the pod.',
    d => count(d.status?.desiredNumberScheduled),
    integer,
  ),
  column<DaemonSet>('Current', 'Nodes that run it.', d => count(d.status?.currentNumberScheduled), integer),
  column<DaemonSet>('Ready', 'Nodes where it is ready.', d => count(d.status?.numberReady), integer),
  column<DaemonSet>(
    'Up-to-date',
    'Nodes with the desired template.',
    d => count(d.status?.updatedNumberScheduled),
    integer,
  ),
  column<DaemonSet>(
    'Available',
    'Nodes where it is available.',
    d => count(d.status?.numberAvailable),
    integer,
  ),
  column<DaemonSet>('Node Selector', 'Which nodes.', d => labelsText(d.spec?.template?.spec?.nodeSelector)),
  AGE,
  CONTAINERS,
  IMAGES,
  SELECTOR,
];

export const STATEFUL_SET_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<StatefulSet>(
    'Ready',
    'Ready pods of desired pods.',
    s => `${count(s.status?.readyReplicas)}/${s.spec?.replicas ?? 0}`,
  ),
  AGE,
  CONTAINERS,
  IMAGES,
];

function jobStatus({ metadata, status }: Job): string {
  const conditions = status?.conditions ?? [];
  const has = (type: string): boolean => conditions.some(c => c.type === type && c.status === 'True');
  if (has('Complete')) return 'Complete';
  if (has('Failed')) return 'Failed';
  if (metadata?.deletionTimestamp) return 'Terminating';
  if (has('Suspended')) return 'Suspended';
  if (has('FailureTarget')) return 'FailureTarget';
  return has('SuccessCriteriaMet') ? 'SuccessCriteriaMet' : 'Running';
}

function completions({ spec, status }: Job): string {
  const done = status?.succeeded ?? 0;
  if (spec?.completions !== undefined) return `${done}/${spec.completions}`;
  const parallelism = spec?.parallelism ?? 0;
  return parallelism > 1 ? `${done}/1 of ${parallelism}` : `${done}/1`;
}

function jobDuration({ status }: Job, now: number): string {
  if (!status?.startTime) return '';
  const end = status.completionTime ? Date.parse(status.completionTime) : now;
  return humanDuration(end - Date.parse(status.startTime));
}

export const JOB_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<Job>('Status', 'What the conditions say.', jobStatus),
  column<Job>('Completions', 'Pods that succeeded of those wanted.', completions),
  column<Job>('Duration', 'Time needed so far, or in all.', jobDuration),
  AGE,
  CONTAINERS,
  IMAGES,
  SELECTOR,
];

export const CRON_JOB_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<CronJob>('Schedule', 'When jobs are made.', c => c.spec?.schedule),
  column<CronJob>('Timezone', "The schedule's time zone.", c => c.spec?.timeZone ?? NONE),
  column<CronJob>('Suspend', 'No jobs are made for now.', c => (c.spec?.suspend === true ? 'True' : 'False')),
  column<CronJob>('Active', 'Jobs that run.', c => (c.status?.active ?? []).length, integer),
  column<CronJob>('Last Schedule', 'Time since a job was made.', (c, now) =>
    c.status?.lastScheduleTime ? ageOf(c.status.lastScheduleTime, now) : NONE,
  ),
  AGE,
  column<CronJob>(
    'Containers',
    'Names of the containers.',
    c => containers(c.spec?.jobTemplate?.spec?.template).names,
    {
      wide: true,
    },
  ),
  column<CronJob>(
    'Images',
    'Images of the containers.',
    c => containers(c.spec?.jobTemplate?.spec?.template).images,
    {
      wide: true,
    },
  ),
  column<CronJob>('Selector', 'Which pods belong.', c => selectorText(c.spec?.jobTemplate?.spec?.selector), {
    wide: true,
  }),
];

type HpaMetric = NonNullable<NonNullable<HorizontalPodAutoscaler['spec']>['metrics']>[number];

function metricText(metric: HpaMetric, autoscaler: HorizontalPodAutoscaler): string {
  const { resource } = metric;
  if (!resource) return `${UNKNOWN}/${metric.type}`;
  const now = (autoscaler.status?.currentMetrics ?? []).find(m => m.resource?.name === resource.name)
    ?.resource?.current;
  if (resource.target.averageUtilization !== undefined)
    return `${resource.name}: ${now?.averageUtilization === undefined ? UNKNOWN : `${now.averageUtilization}%`}/${resource.target.averageUtilization}%`;
  return `${resource.name}: ${now?.averageValue ?? UNKNOWN}/${resource.target.averageValue ?? UNKNOWN}`;
}

export const HPA_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<HorizontalPodAutoscaler>(
    'Reference',
    'What is scaled.',
    h => `${h.spec?.scaleTargetRef?.kind ?? ''}/${h.spec?.scaleTargetRef?.name ?? ''}`,
  ),
  column<HorizontalPodAutoscaler>('Targets', 'Measured and wanted.', h =>
    joined(
      (h.spec?.metrics ?? []).map(m => metricText(m, h)),
      ', ',
    ),
  ),
  column<HorizontalPodAutoscaler>('MinPods', 'Fewest pods.', h => String(h.spec?.minReplicas ?? '<unset>')),
  column<HorizontalPodAutoscaler>('MaxPods', 'Most pods.', h => count(h.spec?.maxReplicas), integer),
  column<HorizontalPodAutoscaler>('Replicas', 'Pods now.', h => count(h.status?.currentReplicas), integer),
  AGE,
];

function orNotAvailable(value: number | string | undefined): string {
  return value === undefined ? 'N/A' : String(value);
}

export const PDB_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<PodDisruptionBudget>('Min Available', 'Pods that must stay.', p =>
    orNotAvailable(p.spec?.minAvailable),
  ),
  column<PodDisruptionBudget>('Max Unavailable', 'Pods that may go.', p =>
    orNotAvailable(p.spec?.maxUnavailable),
  ),
  column<PodDisruptionBudget>(
    'Allowed Disruptions',
    'Pods that may go now.',
    p => count(p.status?.disruptionsAllowed),
    integer,
  ),
  AGE,
];
