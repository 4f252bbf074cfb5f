// Columns of nodes, namespaces, configuration, events, leases, storage and rights.
import type { CustomResourceDefinition } from 'kubernetes-types/apiextensions/v1.js';
import type { RuntimeClass } from 'kubernetes-types/node/v1.js';
import type { RoleBinding } from 'kubernetes-types/rbac/v1.js';
import type { PriorityClass } from 'kubernetes-types/scheduling/v1.js';
import type { StorageClass, VolumeAttachment } from 'kubernetes-types/storage/v1.js';
import { ageOf } from '../duration.ts';
import type { TableColumn } from '../resource-definition.ts';
import type {
  ConfigMap,
  CoreEvent,
  KubeObject,
  Lease,
  Namespace,
  Node,
  PersistentVolume,
  PersistentVolumeClaim,
  ResourceQuota,
  Secret,
  ServiceAccount,
} from '../types.ts';
import { AGE, column, count, joined, NAME, NONE, UNKNOWN } from './column.ts';

const integer = { type: 'integer' } as const;
const ROLE_LABEL = 'node-role.kubernetes.io/';

function nodeStatus({ spec, status }: Node): string {
  const ready = (status?.conditions ?? []).find(c => c.type === 'Ready');
  const state = ready ? (ready.status === 'True' ? 'Ready' : 'NotReady') : 'Unknown';
  return spec?.unschedulable ? `${state},SchedulingDisabled` : state;
}

function nodeRoles({ metadata }: Node): string {
  const roles = Object.entries(metadata?.labels ?? {}).flatMap(([key, value]) =>
    key.startsWith(ROLE_LABEL) ? [key.slice(ROLE_LABEL.length)] : key === 'kubernetes.io/role' ? [value] : [],
  );
  return joined(roles.filter(Boolean).sort());
}

function nodeAddress(type: string): (node: Node) => string {
  return node => (node.status?.addresses ?? []).find(a => a.type === type)?.address ?? NONE;
}

function nodeInfo(
  name: 'kubeletVersion' | 'osImage' | 'kernelVersion' | 'containerRuntimeVersion',
): (node: Node) => string {
  return node => node.status?.nodeInfo?.[name] || UNKNOWN;
}

export const NODE_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<Node>('Status', 'Whether the node is ready, and takes pods.', nodeStatus),
  column<Node>('Roles', 'Roles by label.', nodeRoles),
  AGE,
  column<Node>('Version', "The kubelet's version.", node => node.status?.nodeInfo?.kubeletVersion ?? ''),
  column<Node>('Internal-IP', 'Address inside the cluster.', nodeAddress('InternalIP'), { wide: true }),
  column<Node>('External-IP', 'Address outside.', nodeAddress('ExternalIP'), { wide: true }),
  column<Node>('OS-Image', 'Operating system.', nodeInfo('osImage'), { wide: true }),
  column<Node>('Kernel-Version', 'Kernel.', nodeInfo('kernelVersion'), { wide: true }),
  column<Node>('Container-Runtime', 'Container runtime.', nodeInfo('containerRuntimeVersion'), {
    wide: true,
  }),
];

export const NAMESPACE_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<Namespace>('Status', 'Active, or Terminating.', n => n.status?.phase),
  AGE,
];

export const CONFIG_MAP_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<ConfigMap>(
    'Data',
    'Number of entries.',
    m => Object.keys({ ...m.data, ...m.binaryData }).length,
    integer,
  ),
  AGE,
];

export const SECRET_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<Secret>('Type', 'What the data is for.', s => s.type),
  column<Secret>('Data', 'Number of entries.', s => Object.keys(s.data ?? {}).length, integer),
  AGE,
];

export const SERVICE_ACCOUNT_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<ServiceAccount>('Secrets', 'Number of secrets.', a => (a.secrets ?? []).length, integer),
  AGE,
];

/** One form for both kinds of Event. */
interface AnyEvent extends KubeObject {
  type?: string;
  reason?: string;
  message?: string;
  note?: string;
  involvedObject?: CoreEvent['involvedObject'];
  regarding?: CoreEvent['involvedObject'];
  source?: CoreEvent['source'];
  deprecatedSource?: CoreEvent['source'];
  reportingController?: string;
  reportingComponent?: string;
  reportingInstance?: string;
  firstTimestamp?: string;
  deprecatedFirstTimestamp?: string;
  lastTimestamp?: string;
  deprecatedLastTimestamp?: string;
  eventTime?: string;
  count?: number;
  deprecatedCount?: number;
  series?: { count?: number; lastObservedTime?: string };
}

function about(event: AnyEvent): string {
  const object = event.involvedObject ?? event.regarding ?? {};
  return object.name
    ? `${(object.kind ?? '').toLowerCase()}/${object.name}`
    : (object.kind ?? '').toLowerCase();
}

function source(event: AnyEvent): string {
  const from = event.source ?? event.deprecatedSource ?? {};
  const component = from.component || event.reportingController || event.reportingComponent || '';
  const host = from.host || event.reportingInstance || '';
  return joined([component, host].filter(Boolean), ', ');
}

function firstSeen(event: AnyEvent): string | undefined {
  return (
    event.firstTimestamp ??
    event.deprecatedFirstTimestamp ??
    event.eventTime ??
    event.metadata?.creationTimestamp
  );
}

function lastSeen(event: AnyEvent): string | undefined {
  return (
    event.series?.lastObservedTime ?? event.lastTimestamp ?? event.deprecatedLastTimestamp ?? firstSeen(event)
  );
}

export const EVENT_COLUMNS: readonly TableColumn[] = [
  column<AnyEvent>('Last Seen', 'Time since it happened last.', (e, now) => ageOf(lastSeen(e), now)),
  column<AnyEvent>('Type', 'Normal or Warning.', e => e.type),
  column<AnyEvent>('Reason', 'Why, in one word.', e => e.reason),
  column<AnyEvent>('Object', 'What it is about.', about),
  column<AnyEvent>('Subobject', 'Which part of it.', e => (e.involvedObject ?? e.regarding)?.fieldPath, {
    wide: true,
  }),
  column<AnyEvent>('Source', 'Who reports it.', source, { wide: true }),
  column<AnyEvent>('Message', 'What happened.', e => (e.message ?? e.note ?? '').trim()),
  column<AnyEvent>('First Seen', 'Time since it happened first.', (e, now) => ageOf(firstSeen(e), now), {
    wide: true,
  }),
  column<AnyEvent>('Count', 'How often.', e => String(e.series?.count ?? e.count ?? e.deprecatedCount ?? 1), {
    wide: true,
  }),
  { ...NAME, priority: 1 },
];

export const LEASE_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<Lease>('Holder', 'Who holds it.', l => l.spec?.holderIdentity),
  AGE,
];

const ACCESS_MODE_NAMES: Record<string, string> = {
  ReadWriteOnce: 'RWO',
  ReadOnlyMany: 'ROX',
  ReadWriteMany: 'RWX',
  ReadWriteOncePod: 'RWOP',
};

function accessModes(modes: readonly string[] | undefined): string {
  return (modes ?? []).map(mode => ACCESS_MODE_NAMES[mode] ?? mode).join(',');
}

export const PERSISTENT_VOLUME_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<PersistentVolume>('Capacity', 'Size.', v => v.spec?.capacity?.storage),
  column<PersistentVolume>('Access Modes', 'How it may be mounted.', v => accessModes(v.spec?.accessModes)),
  column<PersistentVolume>(
    'Reclaim Policy',
    'What happens when released.',
    v => v.spec?.persistentVolumeReclaimPolicy,
  ),
  column<PersistentVolume>('Status', 'Phase.', v =>
    v.metadata?.deletionTimestamp ? 'Terminating' : v.status?.phase,
  ),
  column<PersistentVolume>('Claim', 'Who has it.', v => {
    const claim = v.spec?.claimRef;
    return claim ? `${claim.namespace}/${claim.name}` : '';
  }),
  column<PersistentVolume>('StorageClass', 'Its class.', v => v.spec?.storageClassName),
  column<PersistentVolume>(
    'VolumeAttributesClass',
    'Its attributes class.',
    v => v.spec?.volumeAttributesClassName ?? '<unset>',
  ),
  column<PersistentVolume>('Reason', 'Why it is so.', v => v.status?.reason),
  AGE,
  column<PersistentVolume>(
    'VolumeMode',
    'File system or block device.',
    v => v.spec?.volumeMode ?? '<unset>',
    { wide: true },
  ),
];

export const PERSISTENT_VOLUME_CLAIM_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<PersistentVolumeClaim>('Status', 'Phase.', c =>
    c.metadata?.deletionTimestamp ? 'Terminating' : c.status?.phase,
  ),
  column<PersistentVolumeClaim>('Volume', 'Which volume.', c => c.spec?.volumeName),
  column<PersistentVolumeClaim>('Capacity', 'Size.', c =>
    c.spec?.volumeName ? c.status?.capacity?.storage : '',
  ),
  column<PersistentVolumeClaim>('Access Modes', 'How it may be mounted.', c =>
    c.spec?.volumeName ? accessModes(c.status?.accessModes) : '',
  ),
  column<PersistentVolumeClaim>('StorageClass', 'Its class.', c => c.spec?.storageClassName),
  column<PersistentVolumeClaim>(
    'VolumeAttributesClass',
    'Its attributes class.',
    c => c.spec?.volumeAttributesClassName ?? '<unset>',
  ),
  AGE,
  column<PersistentVolumeClaim>(
    'VolumeMode',
    'File system or block device.',
    c => c.spec?.volumeMode ?? '<unset>',
    { wide: true },
  ),
];

function quotaText(quota: ResourceQuota, prefix: 'requests' | 'limits'): string {
  return Object.entries(quota.status?.hard ?? quota.spec?.hard ?? {})
    .filter(([name]) => name.startsWith('limits') === (prefix === 'limits'))
    .map(([name, hard]) => `${name}: ${quota.status?.used?.[name] ?? '0'}/${hard}`)
    .sort()
    .join(', ');
}

export const RESOURCE_QUOTA_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<ResourceQuota>('Request', 'Used of allowed.', q => quotaText(q, 'requests')),
  column<ResourceQuota>('Limit', 'Limits used of allowed.', q => quotaText(q, 'limits')),
  AGE,
];

const CREATED_AT = column<KubeObject>(
  'Created At',
  'When the object was created.',
  object => object.metadata?.creationTimestamp,
  { type: 'date' },
);

export const ROLE_COLUMNS: readonly TableColumn[] = [NAME, CREATED_AT];

function subjects(kind: string): (binding: RoleBinding) => string {
  return binding =>
    (binding.subjects ?? [])
      .filter(subject => subject.kind === kind)
      .map(subject => (kind === 'ServiceAccount' ? `${subject.namespace}/${subject.name}` : subject.name))
      .join(', ');
}

export const ROLE_BINDING_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<RoleBinding>('Role', 'What is granted.', b => `${b.roleRef?.kind}/${b.roleRef?.name}`),
  AGE,
  column<RoleBinding>('Users', 'To whom.', subjects('User'), { wide: true }),
  column<RoleBinding>('Groups', 'To whom.', subjects('Group'), { wide: true }),
  column<RoleBinding>('ServiceAccounts', 'To whom.', subjects('ServiceAccount'), { wide: true }),
];

export const PRIORITY_CLASS_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<PriorityClass>('Value', 'The higher goes first.', p => count(p.value), integer),
  column<PriorityClass>('Global-Default', 'For pods that name none.', p => p.globalDefault === true, {
    type: 'boolean',
  }),
  AGE,
  column<PriorityClass>('PreemptionPolicy', 'Whether others are evicted.', p => p.preemptionPolicy),
];

export const RUNTIME_CLASS_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<RuntimeClass>('Handler', "The runtime's name for it.", r => r.handler),
  AGE,
];

export const STORAGE_CLASS_COLUMNS: readonly TableColumn[] = [
  {
    ...NAME,
    cell: object => {
      const annotations = object.metadata?.annotations ?? {};
      const isDefault = annotations['storageclass.kubernetes.io/is-default-class'] === 'true';
      return `${object.metadata?.name ?? ''}${isDefault ? ' (default)' : ''}`;
    },
  },
  column<StorageClass>('Provisioner', 'Who makes volumes.', s => s.provisioner),
  column<StorageClass>('ReclaimPolicy', 'What happens when released.', s => s.reclaimPolicy ?? 'Delete'),
  column<StorageClass>(
    'VolumeBindingMode',
    'When volumes are bound.',
    s => s.volumeBindingMode ?? 'Immediate',
  ),
  column<StorageClass>(
    'AllowVolumeExpansion',
    'Whether volumes may grow.',
    s => s.allowVolumeExpansion === true,
    {
      type: 'boolean',
    },
  ),
  AGE,
];

export const VOLUME_ATTACHMENT_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<VolumeAttachment>('Attacher', 'Who attaches.', a => a.spec?.attacher),
  column<VolumeAttachment>('PV', 'Which volume.', a => a.spec?.source?.persistentVolumeName),
  column<VolumeAttachment>('Node', 'To which node.', a => a.spec?.nodeName),
  column<VolumeAttachment>('Attached', 'Whether it is.', a => a.status?.attached === true, {
    type: 'boolean',
  }),
  AGE,
];

export const CRD_COLUMNS: readonly TableColumn[] = [
  NAME,
  column<CustomResourceDefinition>('Created At', 'When it was created.', c => c.metadata?.creationTimestamp, {
    type: 'date',
  }),
];
