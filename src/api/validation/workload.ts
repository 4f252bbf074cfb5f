// What runs pods: selectors that select the template, strategies, counts (pkg/apis/{apps,batch,autoscaling}/validation).
import { checkQualifiedName } from '../names.ts';
import { labelSelectorFromMap, labelSelectorFromObject, matchesLabelSelector } from '../selectors.ts';
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
import { scheduleProblem } from './cron.ts';
import type { FieldPath } from './field.ts';
import { validateLabels } from './metadata.ts';
import { validatePodTemplate } from './pod.ts';

const OPERATORS = ['In', 'NotIn', 'Exists', 'DoesNotExist'];

export function validateLabelSelector(selector: LabelSelector, path: FieldPath): void {
  validateLabels(selector.matchLabels, path.child('matchLabels'));
  for (const [index, { key, operator, values }] of (selector.matchExpressions ?? []).entries()) {
    const at = path.child('matchExpressions').index(index);
    at.child('key').check(key ?? '', checkQualifiedName(key ?? ''));
    if (!OPERATORS.includes(operator))
      at.child('operator').invalid(operator ?? '', 'not a valid selector operator');
    else if (operator === 'In' || operator === 'NotIn') {
      if (!values?.length)
        at.child('values').required("must be specified when `operator` is 'In' or 'NotIn'");
    } else if (values?.length)
      at.child('values').forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
  }
}

interface Selecting {
  selector?: LabelSelector;
  template?: PodTemplateSpec;
}

/** A selector that is there, not empty, right, and selects the template's own labels. */
function validateSelection(spec: Selecting, kind: string, path: FieldPath): void {
  const before = path.causes.length;
  const selector = path.child('selector');
  if (!spec.selector) selector.required();
  else {
    validateLabelSelector(spec.selector, selector);
    const { matchLabels, matchExpressions } = spec.selector;
    if (Object.keys(matchLabels ?? {}).length === 0 && !matchExpressions?.length)
      selector.invalid(spec.selector, `empty selector is invalid for ${kind}`);
  }
  if (path.causes.length === before) {
    const labels = spec.template?.metadata?.labels;
    if (!matchesLabelSelector(labelSelectorFromObject(spec.selector), labels))
      path
        .child('template', 'metadata', 'labels')
        .invalid(labels ?? {}, '`selector` does not match template `labels`');
  }
  validatePodTemplate(spec.template, path.child('template'));
}

/** Only pods that are restarted for ever make sense here. */
function validateAlwaysRestarts(template: PodTemplateSpec | undefined, path: FieldPath): void {
  const policy = template?.spec?.restartPolicy;
  if (policy !== undefined && policy !== 'Always')
    path.child('template', 'spec', 'restartPolicy').unsupported(policy, ['Always']);
}

/** A whole number, or a percentage up to 100 %. */
function validateCountOrPercent(value: number | string | undefined, path: FieldPath): void {
  if (value === undefined) return;
  if (typeof value === 'number') path.nonNegative(value);
  else if (!/^\d+%$/.test(value)) path.invalid(value, "must be an integer or percentage (e.g '5%')");
}

function isZero(value: number | string | undefined): boolean {
  return value === 0 || value === '0%';
}

export function validateDeployment({ spec }: Deployment, old: Deployment | undefined, root: FieldPath): void {
  const path = root.child('spec');
  if (!spec) {
    path.child('selector').required();
    return;
  }
  path.child('replicas').nonNegative(spec.replicas);
  validateSelection(spec, 'deployment', path);
  validateAlwaysRestarts(spec.template, path);
  path.child('minReadySeconds').nonNegative(spec.minReadySeconds);
  path.child('revisionHistoryLimit').nonNegative(spec.revisionHistoryLimit);
  if (
    spec.progressDeadlineSeconds !== undefined &&
    spec.progressDeadlineSeconds <= (spec.minReadySeconds ?? 0)
  )
    path
      .child('progressDeadlineSeconds')
      .invalid(spec.progressDeadlineSeconds, 'must be greater than minReadySeconds');
  const { type, rollingUpdate } = spec.strategy ?? {};
  const strategy = path.child('strategy');
  if (type === 'Recreate' && rollingUpdate)
    strategy.child('rollingUpdate').forbidden("may not be specified when strategy `type` is 'Recreate'");
  else if (type !== 'Recreate' && type !== 'RollingUpdate')
    strategy.child('type').unsupported(type ?? '', ['Recreate', 'RollingUpdate']);
  else if (type === 'RollingUpdate') {
    const rolling = strategy.child('rollingUpdate');
    validateCountOrPercent(rollingUpdate?.maxUnavailable, rolling.child('maxUnavailable'));
    validateCountOrPercent(rollingUpdate?.maxSurge, rolling.child('maxSurge'));
    if (isZero(rollingUpdate?.maxUnavailable) && isZero(rollingUpdate?.maxSurge))
      rolling
        .child('maxUnavailable')
        .invalid(rollingUpdate?.maxUnavailable, 'may not be 0 when `maxSurge` is 0');
  }
  if (old?.spec) path.child('selector').unchanged(spec.selector, old.spec.selector);
}

export function validateReplicaSet({ spec }: ReplicaSet, old: ReplicaSet | undefined, root: FieldPath): void {
  const path = root.child('spec');
  if (!spec) {
    path.child('selector').required();
    return;
  }
  path.child('replicas').nonNegative(spec.replicas);
  path.child('minReadySeconds').nonNegative(spec.minReadySeconds);
  validateSelection(spec, 'replicaset', path);
  validateAlwaysRestarts(spec.template, path);
  if (old?.spec) path.child('selector').unchanged(spec.selector, old.spec.selector);
}

export function validateReplicationController({ spec }: ReplicationController, root: FieldPath): void {
  const path = root.child('spec');
  path.child('replicas').nonNegative(spec?.replicas);
  if (!spec?.selector || Object.keys(spec.selector).length === 0) path.child('selector').required();
  if (!spec?.template) path.child('template').required();
  else {
    const labels = spec.template.metadata?.labels;
    if (spec.selector && !matchesLabelSelector(labelSelectorFromMap(spec.selector), labels))
      path
        .child('template', 'metadata', 'labels')
        .invalid(labels ?? {}, '`selector` does not match template `labels`');
    validatePodTemplate(spec.template, path.child('template'));
    validateAlwaysRestarts(spec.template, path);
  }
}

export function validateDaemonSet({ spec }: DaemonSet, old: DaemonSet | undefined, root: FieldPath): void {
  const path = root.child('spec');
  if (!spec) {
    path.child('selector').required();
    return;
  }
  validateSelection(spec, 'daemonset', path);
  validateAlwaysRestarts(spec.template, path);
  const { type, rollingUpdate } = spec.updateStrategy ?? {};
  if (type !== 'OnDelete' && type !== 'RollingUpdate')
    path.child('updateStrategy', 'type').unsupported(type ?? '', ['OnDelete', 'RollingUpdate']);
  const rolling = path.child('updateStrategy', 'rollingUpdate');
  validateCountOrPercent(rollingUpdate?.maxUnavailable, rolling.child('maxUnavailable'));
  validateCountOrPercent(rollingUpdate?.maxSurge, rolling.child('maxSurge'));
  if (type === 'RollingUpdate' && isZero(rollingUpdate?.maxUnavailable) && isZero(rollingUpdate?.maxSurge))
    rolling.child('maxUnavailable').required('cannot be 0 when maxSurge is 0');
  if (old?.spec) path.child('selector').unchanged(spec.selector, old.spec.selector);
}

const STATEFUL_SET_RULE =
  "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

export function validateStatefulSet(
  { spec }: StatefulSet,
  old: StatefulSet | undefined,
  root: FieldPath,
): void {
  const path = root.child('spec');
  if (!spec) {
    path.child('selector').required();
    return;
  }
  path.child('replicas').nonNegative(spec.replicas);
  validateSelection(spec, 'statefulset', path);
  validateAlwaysRestarts(spec.template, path);
  path.child('podManagementPolicy').oneOf(spec.podManagementPolicy, ['OrderedReady', 'Parallel']);
  path.child('updateStrategy', 'type').oneOf(spec.updateStrategy?.type, ['OnDelete', 'RollingUpdate']);
  if (!old?.spec) return;
  const fixed = ['serviceName', 'selector', 'podManagementPolicy', 'volumeClaimTemplates'] as const;
  if (fixed.some(name => JSON.stringify(spec[name]) !== JSON.stringify(old.spec?.[name])))
    path.forbidden(STATEFUL_SET_RULE);
}

export function validateJob({ spec }: Job, old: Job | undefined, root: FieldPath): void {
  validateJobSpec(spec, root.child('spec'));
  if (!old?.spec || !spec) return;
  const path = root.child('spec');
  path.child('selector').unchanged(spec.selector, old.spec.selector);
  path.child('completionMode').unchanged(spec.completionMode, old.spec.completionMode);
  if (old.spec.suspend !== true || spec.completions !== old.spec.completions) {
    if (spec.completionMode !== 'Indexed')
      path.child('completions').unchanged(spec.completions, old.spec.completions);
    if (old.spec.suspend !== true) path.child('template').unchanged(spec.template, old.spec.template);
  }
}

function validateJobSpec(spec: Job['spec'], path: FieldPath): void {
  for (const name of [
    'parallelism',
    'completions',
    'backoffLimit',
    'activeDeadlineSeconds',
    'ttlSecondsAfterFinished',
  ] as const)
    path.child(name).nonNegative(spec?.[name]);
  if (spec?.completionMode === 'Indexed' && spec.completions === undefined)
    path.child('completions').required('when completion mode is Indexed');
  validatePodTemplate(spec?.template, path.child('template'));
  const policy = spec?.template?.spec?.restartPolicy;
  if (policy === undefined || policy === '' || policy === 'Always')
    path.child('template', 'spec', 'restartPolicy').required('valid values: "OnFailure", "Never"');
}

export function validateCronJob({ spec }: CronJob, root: FieldPath): void {
  const path = root.child('spec');
  if (!spec?.schedule) path.child('schedule').required();
  else {
    const problem = scheduleProblem(spec.schedule);
    if (problem) path.child('schedule').invalid(spec.schedule, problem);
  }
  path.child('concurrencyPolicy').oneOf(spec?.concurrencyPolicy, ['Allow', 'Forbid', 'Replace']);
  path.child('startingDeadlineSeconds').nonNegative(spec?.startingDeadlineSeconds);
  path.child('successfulJobsHistoryLimit').nonNegative(spec?.successfulJobsHistoryLimit);
  path.child('failedJobsHistoryLimit').nonNegative(spec?.failedJobsHistoryLimit);
  validateJobSpec(spec?.jobTemplate?.spec, path.child('jobTemplate', 'spec'));
}
