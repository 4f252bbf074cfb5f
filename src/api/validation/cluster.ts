// Nodes, configuration, storage claims, leases, events, policies: everything with a rule or two of its own.

import type { HorizontalPodAutoscaler } from 'kubernetes-types/autoscaling/v2.js';
import type { IngressClass } from 'kubernetes-types/networking/v1.js';
import type { PodDisruptionBudget } from 'kubernetes-types/policy/v1.js';
import type { RoleBinding } from 'kubernetes-types/rbac/v1.js';
import type { PriorityClass } from 'kubernetes-types/scheduling/v1.js';
import { hasHostBits, parseCidr } from '../../lib/cidr.ts';
import { jsonEqual } from '../../lib/json.ts';
import { checkConfigKey, checkLabelValue, checkQualifiedName } from '../names.ts';
import { isQuantity } from '../quantity.ts';
import type {
  ConfigMap,
  CoreEvent,
  Lease,
  Node,
  PersistentVolume,
  PersistentVolumeClaim,
  ResourceQuota,
  Secret,
} from '../types.ts';
import type { FieldPath } from './field.ts';
import { validateLabelSelector } from './workload.ts';

/** Of a ConfigMap's or Secret's data together. */
const MAX_DATA_BYTES = 1024 * 1024;
const TAINT_EFFECTS = ['NoSchedule', 'PreferNoSchedule', 'NoExecute'];
const ACCESS_MODES = ['ReadWriteOnce', 'ReadOnlyMany', 'ReadWriteMany', 'ReadWriteOncePod'];

/** Keys that a Secret of a type must have. */
const SECRET_KEYS: Record<string, readonly string[]> = {
  'kubernetes.io/dockercfg': ['.dockercfg'],
  'kubernetes.io/dockerconfigjson': ['.dockerconfigjson'],
  'kubernetes.io/ssh-auth': ['ssh-privatekey'],
  'kubernetes.io/tls': ['tls.crt', 'tls.key'],
};

export function validateNode({ spec }: Node, old: Node | undefined, root: FieldPath): void {
  const path = root.child('spec');
  const cidrs = spec?.podCIDRs ?? [];
  for (const [index, text] of cidrs.entries()) {
    const cidr = parseCidr(text);
    if (!cidr || hasHostBits(cidr))
      path
        .child('podCIDRs')
        .index(index)
        .invalid(text, 'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)');
  }
  if (cidrs.length > 2)
    path.child('podCIDRs').invalid(cidrs, 'may specify no more than one CIDR for each IP family');
  const before = old?.spec?.podCIDRs ?? [];
  if (before.length > 0 && !jsonEqual(cidrs, before))
    path.child('podCIDRs').forbidden('node updates may not change podCIDR except from "" to valid');
  const taints = new Set<string>();
  for (const [index, taint] of (spec?.taints ?? []).entries()) {
    const at = path.child('taints').index(index);
    if (!taint.key) at.child('key').required();
    else at.child('key').check(taint.key, checkQualifiedName(taint.key));
    if (taint.value) at.child('value').check(taint.value, checkLabelValue(taint.value));
    at.child('effect').oneOf(taint.effect, TAINT_EFFECTS);
    const key = `${taint.key}:${taint.effect}`;
    if (taints.has(key)) at.duplicate(taint);
    taints.add(key);
  }
}

export function validateConfigMap(map: ConfigMap, old: ConfigMap | undefined, root: FieldPath): void {
  let bytes = 0;
  for (const [key, value] of Object.entries(map.data ?? {})) {
    root.child('data').key(key).check(key, checkConfigKey(key));
    if (map.binaryData?.[key] !== undefined)
      root.child('data').key(key).invalid(key, 'duplicate of key present in binaryData');
    bytes += Buffer.byteLength(value);
  }
  for (const [key, value] of Object.entries(map.binaryData ?? {})) {
    root.child('binaryData').key(key).check(key, checkConfigKey(key));
    bytes += Math.floor((value.length * 3) / 4);
  }
  if (bytes > MAX_DATA_BYTES) root.tooLong(MAX_DATA_BYTES);
  if (!old?.immutable) return;
  if (map.immutable !== true) root.child('immutable').forbidden('field is immutable when `immutable` is set');
  for (const name of ['data', 'binaryData'] as const)
    if (!jsonEqual(map[name], old[name]))
      root.child(name).forbidden('field is immutable when `immutable` is set');
}

export function validateSecret(secret: Secret, old: Secret | undefined, root: FieldPath): void {
  let bytes = 0;
  for (const [key, value] of Object.entries(secret.data ?? {})) {
    root.child('data').key(key).check(key, checkConfigKey(key));
    bytes += Math.floor((value.length * 3) / 4);
  }
  if (bytes > MAX_DATA_BYTES) root.child('data').tooLong(MAX_DATA_BYTES);
  for (const key of SECRET_KEYS[secret.type ?? ''] ?? [])
    if (secret.data?.[key] === undefined) root.child('data').key(key).required();
  if (!old) return;
  root.child('type').unchanged(secret.type, old.type);
  if (!old.immutable) return;
  if (secret.immutable !== true)
    root.child('immutable').forbidden('field is immutable when `immutable` is set');
  if (!jsonEqual(secret.data, old.data))
    root.child('data').forbidden('field is immutable when `immutable` is set');
}

export function validateLease({ spec }: Lease, root: FieldPath): void {
  const path = root.child('spec');
  const seconds = spec?.leaseDurationSeconds;
  if (seconds !== undefined && seconds <= 0)
    path.child('leaseDurationSeconds').invalid(seconds, 'must be greater than 0');
  path.child('leaseTransitions').nonNegative(spec?.leaseTransitions);
}

export function validateCoreEvent(event: CoreEvent, root: FieldPath): void {
  const about = event.involvedObject?.namespace ?? '';
  const namespace = event.metadata?.namespace ?? '';
  const wanted = about === '' ? 'default' : about;
  if (namespace !== wanted && !(about === '' && namespace === 'kube-system'))
    root.child('involvedObject', 'namespace').invalid(about, 'does not match event.namespace');
}

export function validatePersistentVolumeClaim(
  { spec }: PersistentVolumeClaim,
  old: PersistentVolumeClaim | undefined,
  root: FieldPath,
): void {
  const path = root.child('spec');
  if (!spec?.accessModes?.length) path.child('accessModes').required('at least 1 access mode is required');
  for (const mode of spec?.accessModes ?? [])
    if (!ACCESS_MODES.includes(mode)) path.child('accessModes').unsupported(mode, ACCESS_MODES);
  const storage = spec?.resources?.requests?.storage;
  if (storage === undefined) path.child('resources').key('storage').required();
  else if (!isQuantity(storage))
    path.child('resources').key('storage').invalid(storage, 'must be a quantity');
  if (!old?.spec || !spec) return;
  const fixed = ['accessModes', 'storageClassName', 'volumeMode', 'selector', 'dataSource'] as const;
  const rebound = old.spec.volumeName && spec.volumeName !== old.spec.volumeName;
  if (rebound || fixed.some(name => old.spec?.[name] !== undefined && !jsonEqual(spec[name], old.spec[name])))
    path.forbidden(
      'spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims',
    );
}

/** Fields of a PersistentVolumeSpec that are no volume source. */
const NO_SOURCES = new Set([
  'accessModes',
  'capacity',
  'claimRef',
  'mountOptions',
  'nodeAffinity',
  'persistentVolumeReclaimPolicy',
  'storageClassName',
  'volumeAttributesClassName',
  'volumeMode',
]);

export function validatePersistentVolume({ spec }: PersistentVolume, root: FieldPath): void {
  const path = root.child('spec');
  if (!spec?.accessModes?.length) path.child('accessModes').required();
  for (const mode of spec?.accessModes ?? [])
    if (!ACCESS_MODES.includes(mode)) path.child('accessModes').unsupported(mode, ACCESS_MODES);
  if (!spec?.capacity?.storage) path.child('capacity').required();
  const sources = Object.keys(spec ?? {}).filter(name => !NO_SOURCES.has(name));
  if (sources.length === 0) path.required('must specify a volume type');
  for (const source of sources.slice(1))
    path.child(source).forbidden('may not specify more than 1 volume type');
}

export function validateResourceQuota({ spec }: ResourceQuota, root: FieldPath): void {
  for (const [name, value] of Object.entries(spec?.hard ?? {}))
    if (!isQuantity(value)) root.child('spec', 'hard').key(name).invalid(value, 'must be a quantity');
}

export function validateRoleBinding(
  binding: RoleBinding,
  old: RoleBinding | undefined,
  root: FieldPath,
): void {
  if (!binding.roleRef?.name) root.child('roleRef', 'name').required();
  const kinds = binding.metadata?.namespace ? ['Role', 'ClusterRole'] : ['ClusterRole'];
  root.child('roleRef', 'kind').oneOf(binding.roleRef?.kind, kinds);
  for (const [index, subject] of (binding.subjects ?? []).entries()) {
    const at = root.child('subjects').index(index);
    if (!subject.name) at.child('name').required();
    at.child('kind').oneOf(subject.kind, ['ServiceAccount', 'User', 'Group']);
    if (subject.kind === 'ServiceAccount' && !subject.namespace && !binding.metadata?.namespace)
      at.child('namespace').required();
  }
  if (old && !jsonEqual(binding.roleRef, old.roleRef))
    root.child('roleRef').invalid(binding.roleRef, 'cannot change roleRef');
}

interface PolicyRule {
  verbs?: string[];
  apiGroups?: string[];
  resources?: string[];
  nonResourceURLs?: string[];
}

export function validateRole(role: { rules?: PolicyRule[] }, root: FieldPath): void {
  for (const [index, rule] of (role.rules ?? []).entries()) {
    const at = root.child('rules').index(index);
    if (!rule.verbs?.length) at.child('verbs').required('verbs must contain at least one value');
    if (rule.nonResourceURLs?.length) continue;
    if (!rule.apiGroups?.length)
      at.child('apiGroups').required('resource rules must supply at least one api group');
    if (!rule.resources?.length)
      at.child('resources').required('resource rules must supply at least one resource');
  }
}

export function validatePriorityClass(
  priority: PriorityClass,
  old: PriorityClass | undefined,
  root: FieldPath,
): void {
  if (old && old.value !== priority.value) root.child('value').forbidden('may not be changed in an update.');
  const name = priority.metadata?.name ?? '';
  if (
    !old &&
    name.startsWith('system-') &&
    !['system-node-critical', 'system-cluster-critical'].includes(name)
  )
    root
      .child('metadata', 'name')
      .forbidden("priority class names with 'system-' prefix are reserved for system use only");
}

export function validatePodDisruptionBudget({ spec }: PodDisruptionBudget, root: FieldPath): void {
  const path = root.child('spec');
  if (spec?.minAvailable !== undefined && spec.maxUnavailable !== undefined)
    path.invalid(spec, 'minAvailable and maxUnavailable cannot be both set');
  if (spec?.selector) validateLabelSelector(spec.selector, path.child('selector'));
}

export function validateHorizontalPodAutoscaler({ spec }: HorizontalPodAutoscaler, root: FieldPath): void {
  const path = root.child('spec');
  if (!spec?.scaleTargetRef?.kind) path.child('scaleTargetRef', 'kind').required();
  if (!spec?.scaleTargetRef?.name) path.child('scaleTargetRef', 'name').required();
  if (!spec?.maxReplicas || spec.maxReplicas < 1)
    path.child('maxReplicas').invalid(spec?.maxReplicas ?? 0, 'must be greater than 0');
  else if (spec.minReplicas !== undefined && spec.maxReplicas < spec.minReplicas)
    path.child('maxReplicas').invalid(spec.maxReplicas, 'must be greater than or equal to `minReplicas`');
  if (spec?.minReplicas !== undefined && spec.minReplicas < 1)
    path.child('minReplicas').invalid(spec.minReplicas, 'must be greater than or equal to 1');
}

export function validateIngressClass(
  { spec }: IngressClass,
  old: IngressClass | undefined,
  root: FieldPath,
): void {
  if (!spec?.controller) root.child('spec', 'controller').required();
  if (old?.spec?.controller)
    root.child('spec', 'controller').unchanged(spec?.controller, old.spec.controller);
}
