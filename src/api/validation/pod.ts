// Pods and pod templates (pkg/apis/core/validation ValidatePodSpec), and what of a running pod may change.
import { cloneJson, jsonEqual } from '../../lib/json.ts';
import { checkDns1123Label, checkDns1123Subdomain, checkLabelValue, checkQualifiedName } from '../names.ts';
import type { Container, Pod, PodSpec, PodTemplateSpec, Toleration, Volume } from '../types.ts';
import { validateContainers } from './container.ts';
import type { FieldPath } from './field.ts';
import { validateAnnotations, validateLabels } from './metadata.ts';

const RESTART_POLICIES = ['Always', 'OnFailure', 'Never'];
const DNS_POLICIES = ['ClusterFirstWithHostNet', 'ClusterFirst', 'Default', 'None'];
const TAINT_EFFECTS = ['NoSchedule', 'PreferNoSchedule', 'NoExecute'];
const TOLERATION_OPERATORS = ['Equal', 'Exists'];

export function validatePod(pod: Pod, old: Pod | undefined, path: FieldPath, subresource: string): void {
  if (!pod.spec) {
    path.child('spec', 'containers').required();
    return;
  }
  if (old && subresource !== '') return;
  validatePodSpec(pod.spec, path.child('spec'));
  if (old?.spec) validatePodUpdate(pod.spec, old.spec, path.child('spec'));
}

export function validatePodTemplate(template: PodTemplateSpec | undefined, path: FieldPath): void {
  validateLabels(template?.metadata?.labels, path.child('metadata', 'labels'));
  validateAnnotations(template?.metadata?.annotations, path.child('metadata', 'annotations'));
  validatePodSpec(template?.spec ?? ({} as PodSpec), path.child('spec'));
}

export function validatePodSpec(spec: PodSpec, path: FieldPath): void {
  const volumes = validateVolumes(spec.volumes ?? [], path.child('volumes'));
  const names = new Set<string>();
  if (!spec.containers?.length) path.child('containers').required();
  validateContainers(spec.containers ?? [], volumes, names, path.child('containers'));
  validateContainers(spec.initContainers ?? [], volumes, names, path.child('initContainers'));
  validateContainers(
    (spec.ephemeralContainers ?? []) as Container[],
    volumes,
    names,
    path.child('ephemeralContainers'),
  );
  path.child('restartPolicy').oneOf(spec.restartPolicy ?? 'Always', RESTART_POLICIES);
  path.child('dnsPolicy').oneOf(spec.dnsPolicy ?? 'ClusterFirst', DNS_POLICIES);
  if (spec.dnsPolicy === 'None' && !spec.dnsConfig?.nameservers?.length)
    path
      .child('dnsConfig', 'nameservers')
      .required('must provide at least one DNS nameserver when `dnsPolicy` is None');
  path.child('terminationGracePeriodSeconds').nonNegative(spec.terminationGracePeriodSeconds);
  if (spec.activeDeadlineSeconds !== undefined && spec.activeDeadlineSeconds < 1)
    path
      .child('activeDeadlineSeconds')
      .invalid(spec.activeDeadlineSeconds, 'must be between 1 and 2147483647, inclusive');
  for (const name of ['hostname', 'subdomain'] as const) {
    const value = spec[name];
    if (value) path.child(name).check(value, checkDns1123Label(value));
  }
  for (const name of ['nodeName', 'serviceAccountName', 'priorityClassName', 'runtimeClassName'] as const) {
    const value = spec[name];
    if (value) path.child(name).check(value, checkDns1123Subdomain(value));
  }
  for (const [key, value] of Object.entries(spec.nodeSelector ?? {})) {
    path.child('nodeSelector').check(key, checkQualifiedName(key));
    path.child('nodeSelector').check(value, checkLabelValue(value));
  }
  for (const [index, toleration] of (spec.tolerations ?? []).entries())
    validateToleration(toleration, path.child('tolerations').index(index));
  for (const [index, secret] of (spec.imagePullSecrets ?? []).entries())
    if (!secret.name) path.child('imagePullSecrets').index(index).child('name').required();
}

function validateVolumes(volumes: readonly Volume[], path: FieldPath): readonly Volume[] {
  const names = new Set<string>();
  for (const [index, volume] of volumes.entries()) {
    const at = path.index(index);
    if (!volume.name) at.child('name').required();
    else at.child('name').check(volume.name, checkDns1123Label(volume.name));
    if (names.has(volume.name)) at.child('name').duplicate(volume.name);
    names.add(volume.name);
    const sources = Object.keys(volume).filter(key => key !== 'name');
    for (const source of sources.slice(1))
      at.child(source).forbidden('may not specify more than 1 volume type');
    if (sources.length === 0) at.required('must specify a volume type');
    if (volume.configMap && !volume.configMap.name) at.child('configMap', 'name').required();
    if (volume.secret && !volume.secret.secretName) at.child('secret', 'secretName').required();
    if (volume.hostPath) validateHostPath(volume.hostPath.path, at.child('hostPath', 'path'));
    if (volume.persistentVolumeClaim && !volume.persistentVolumeClaim.claimName)
      at.child('persistentVolumeClaim', 'claimName').required();
  }
  return volumes;
}

function validateHostPath(hostPath: string, path: FieldPath): void {
  if (!hostPath) path.required();
  else if (hostPath.split('/').includes('..')) path.invalid(hostPath, "must not contain '..'");
}

function validateToleration(toleration: Toleration, path: FieldPath): void {
  const { key, operator = 'Equal', value, effect, tolerationSeconds } = toleration;
  if (key) path.child('key').check(key, checkQualifiedName(key));
  if (!key && operator !== 'Exists')
    path
      .child('operator')
      .invalid(
        operator,
        'operator must be Exists when `key` is empty, which means "match all values and all keys"',
      );
  if (tolerationSeconds !== undefined && effect !== 'NoExecute')
    path.child('effect').invalid(effect ?? '', "effect must be 'NoExecute' when `tolerationSeconds` is set");
  if (!TOLERATION_OPERATORS.includes(operator))
    path.child('operator').unsupported(operator, TOLERATION_OPERATORS);
  if (operator === 'Exists' && value)
    path.child('operator').invalid(toleration, "value must be empty when `operator` is 'Exists'");
  if (effect && !TAINT_EFFECTS.includes(effect)) path.child('effect').unsupported(effect, TAINT_EFFECTS);
}

const UPDATE_RULE =
  'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)';

/** The old spec with everything that may change put to its new value must be the new spec. */
function validatePodUpdate(spec: PodSpec, old: PodSpec, path: FieldPath): void {
  for (const list of ['containers', 'initContainers'] as const)
    if ((spec[list] ?? []).length !== (old[list] ?? []).length) {
      path.child(list).forbidden('pod updates may not add or remove containers');
      return;
    }
  const allowed = cloneJson(old);
  for (const list of ['containers', 'initContainers'] as const)
    for (const [index, container] of (spec[list] ?? []).entries()) {
      const target = allowed[list]?.[index];
      if (target) target.image = container.image;
    }
  if (spec.activeDeadlineSeconds !== undefined) allowed.activeDeadlineSeconds = spec.activeDeadlineSeconds;
  const kept = (old.tolerations ?? []).every(known =>
    (spec.tolerations ?? []).some(now => sameToleration(known, now)),
  );
  if (!kept)
    path
      .child('tolerations')
      .forbidden('existing toleration can not be modified except its tolerationSeconds');
  allowed.tolerations = spec.tolerations;
  if (old.schedulingGates) allowed.schedulingGates = spec.schedulingGates;
  if (!jsonEqual(allowed, spec)) {
    const changed = Object.keys({ ...allowed, ...spec }).filter(
      name => !jsonEqual(allowed[name as keyof PodSpec], spec[name as keyof PodSpec]),
    );
    path.forbidden(`${UPDATE_RULE}\n  changed: ${changed.map(name => `spec.${name}`).join(', ')}`);
  }
}

function sameToleration(a: Toleration, b: Toleration): boolean {
  return a.key === b.key && a.operator === b.operator && a.value === b.value && a.effect === b.effect;
}
