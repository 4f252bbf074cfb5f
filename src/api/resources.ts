// The registry: every kind the API server serves, as a ResourceDefinition made from its table row and from what the
// tables of columns, defaults, validation and selectable fields say about its type. Pure data and functions.
import { columnsOf } from './columns.ts';
import { conversionOf } from './conversion.ts';
import { applyDefaults } from './defaults.ts';
import { checkFields } from './field-validation.ts';
import type { ResourceDefinition, SubresourceDefinition, Verb } from './resource-definition.ts';
import { RESOURCE_ROWS, type ResourceRow } from './resource-rows.ts';
import { apiVersionOf, splitApiVersion, typeName, typeSchema } from './schema.ts';
import { selectableFieldsOf } from './selectable-fields.ts';
import { prepareForCreate, prepareForUpdate } from './strategy.ts';
import type { KubeObject, ResourceRef } from './types.ts';
import { validateObject } from './validation.ts';

export type { ResourceDefinition, SubresourceDefinition, TableColumn, Verb } from './resource-definition.ts';

const ALL_VERBS: readonly Verb[] = [
  'create',
  'delete',
  'deletecollection',
  'get',
  'list',
  'patch',
  'update',
  'watch',
];
const CONNECT = ['create', 'get'];
const PROXY = ['create', 'delete', 'get', 'patch', 'update'];
const CHANGE = ['get', 'patch', 'update'];

/** Subresources by name; those without a kind speak the resource's own. */
const SUBRESOURCES: Record<string, Partial<SubresourceDefinition> & { verbs: readonly string[] }> = {
  status: { verbs: CHANGE },
  scale: { kind: 'Scale', group: 'autoscaling', version: 'v1', verbs: CHANGE },
  finalize: { verbs: ['update'] },
  ephemeralcontainers: { verbs: CHANGE },
  binding: { kind: 'Binding', verbs: ['create'] },
  eviction: { kind: 'Eviction', group: 'policy', version: 'v1', verbs: ['create'] },
  token: { kind: 'TokenRequest', group: 'authentication.k8s.io', version: 'v1', verbs: ['create'] },
  log: { verbs: ['get'] },
  exec: { kind: 'PodExecOptions', verbs: CONNECT },
  attach: { kind: 'PodAttachOptions', verbs: CONNECT },
  portforward: { kind: 'PodPortForwardOptions', verbs: CONNECT },
  'proxy:Pod': { name: 'proxy', kind: 'PodProxyOptions', verbs: PROXY },
  'proxy:Service': { name: 'proxy', kind: 'ServiceProxyOptions', verbs: PROXY },
  'proxy:Node': { name: 'proxy', kind: 'NodeProxyOptions', verbs: PROXY },
};

function subresource(name: string, row: ResourceRow): SubresourceDefinition {
  const known = SUBRESOURCES[name];
  if (!known) throw new TypeError(`${row.kind}: no subresource ${name}`);
  return { name, kind: row.kind, ...known };
}

function define(apiVersion: string, row: ResourceRow): ResourceDefinition {
  const { group, version } = splitApiVersion(apiVersion);
  const type = typeName(group, version, row.kind);
  const singular = row.kind.toLowerCase();
  const plural = row.plural ?? `${singular}s`;
  const namespaced = row.clusterScoped !== true;
  const prefix = `/registry/${row.storage ?? plural}`;
  const subresources = (row.subresources ?? []).map(name => subresource(name, row));
  const hasStatus = subresources.some(({ name }) => name === 'status');
  const strategy = {
    type,
    hasStatus,
    counted: row.counted === true,
    keepStatusAtCreate: !hasStatus || row.keepStatus === true,
  };
  return {
    group,
    version,
    kind: row.kind,
    plural,
    singular,
    namespaced,
    shortNames: row.short ?? [],
    categories: row.categories ?? [],
    verbs: row.verbs ?? ALL_VERBS,
    subresources,
    virtual: row.virtual === true,
    conversion: conversionOf(type),
    columns: columnsOf(type),
    schema: typeSchema(type),
    checkFields: object => checkFields(group, version, row.kind, object),
    warnings: () => [],
    storageKey: (namespace, name) =>
      namespaced && namespace !== '' ? `${prefix}/${namespace}/${name}` : `${prefix}/${name}`,
    defaults: object => applyDefaults(type, object),
    validate: (object, old, sub) => validateObject({ type, namespaced, plural }, object, old, sub),
    prepareCreate: object => prepareForCreate(strategy, object),
    prepareUpdate: (object, old, sub) => prepareForUpdate(strategy, object, old, sub),
    selectableFields: object => selectableFieldsOf(type, namespaced, object),
  };
}

/** Every served kind, core group first. */
export const RESOURCES: readonly ResourceDefinition[] = Object.entries(RESOURCE_ROWS).flatMap(
  ([apiVersion, rows]) => rows.map(row => define(apiVersion, row)),
);

const byPath = new Map(RESOURCES.map(r => [`${r.group}/${r.version}/${r.plural}`, r]));
const byKind = new Map(RESOURCES.map(r => [`${apiVersionOf(r.group, r.version)}/${r.kind}`, r]));

/** By URL path: `apps`, `v1`, `deployments`. */
export function findResource(group: string, version: string, plural: string): ResourceDefinition | undefined {
  return byPath.get(`${group}/${version}/${plural}`);
}

/** By what an object says of itself: `apps/v1`, `Deployment`. */
export function findResourceByKind(apiVersion: string, kind: string): ResourceDefinition | undefined {
  return byKind.get(`${apiVersion}/${kind}`);
}

/** The ResourceRef of an object; undefined when its kind is not served. */
export function refOf(object: KubeObject): ResourceRef | undefined {
  return findResourceByKind(object.apiVersion ?? '', object.kind ?? '');
}

/** A definition that is known to exist; for code that cannot work without that kind. */
export function resourceOf(apiVersion: string, kind: string): ResourceDefinition {
  const found = findResourceByKind(apiVersion, kind);
  if (!found) throw new TypeError(`${apiVersion} ${kind} is not in the registry`);
  return found;
}

export function apiVersionOfResource(resource: ResourceRef): string {
  return apiVersionOf(resource.group, resource.version);
}
