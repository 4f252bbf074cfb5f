// Server-side apply (KEP-555): managers own the fields they set; an apply merges its fields in, takes away what it owned
// and no longer names, and is refused where it would change what somebody else owns. Ordinary writes are recorded too.
import { ApiError, type StatusCause } from '../lib/errors.ts';
import type { JsonObject, JsonValue } from '../lib/json.ts';
import { jsonEqual } from '../lib/json.ts';
import {
  difference,
  emptySet,
  type FieldSet,
  fieldPaths,
  formatFieldSet,
  intersection,
  isEmpty,
  parseFieldSet,
  union,
  unowned,
  withoutSubtrees,
} from './field-set.ts';
import { schemaOfKind, splitApiVersion, type TypeSchema } from './schema.ts';
import { badRequest } from './status.ts';
import { addFields, compareObjects, mergeApplied, removeFields } from './structured-merge.ts';
import type { KubeObject } from './types.ts';

export interface WriteOptions {
  readonly manager: string;
  readonly subresource: string;
  /** RFC 3339, whole seconds. */
  readonly time: string;
}

export interface ApplyOptions extends WriteOptions {
  readonly force: boolean;
  readonly schema: TypeSchema | undefined;
}

export interface TrackedWrite<T extends KubeObject> extends WriteOptions {
  /** Default: by the object's kind. */
  readonly schema?: TypeSchema | undefined;
  readonly old: T | undefined;
  readonly object: T;
}

interface Entry {
  manager: string;
  operation: 'Apply' | 'Update';
  apiVersion: string;
  time?: string;
  subresource?: string;
  fields: FieldSet;
}

/** Managers of ordinary updates kept apart; beyond that the oldest are put together (managedfields' cap). */
const MAX_UPDATE_MANAGERS = 10;
const ANCIENT_MANAGER = 'ancient-changes';

/** Fields nobody owns: identity and what the server keeps. */
const SERVER_FIELDS = [
  'name',
  'namespace',
  'creationTimestamp',
  'selfLink',
  'uid',
  'resourceVersion',
  'generation',
  'managedFields',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
];

function ownable(object: KubeObject): JsonObject {
  const {
    apiVersion: _v,
    kind: _k,
    metadata,
    ...rest
  } = object as unknown as JsonObject & { metadata?: JsonObject };
  const kept = Object.fromEntries(
    Object.entries(metadata ?? {}).filter(([name]) => !SERVER_FIELDS.includes(name)),
  );
  return Object.keys(kept).length > 0 ? { metadata: kept, ...rest } : (rest as JsonObject);
}

function readEntries(object: KubeObject | undefined): Entry[] {
  return (object?.metadata?.managedFields ?? []).map(entry => ({
    manager: entry.manager ?? '',
    operation: entry.operation === 'Apply' ? 'Apply' : 'Update',
    apiVersion: entry.apiVersion ?? '',
    ...(entry.time ? { time: entry.time } : {}),
    ...(entry.subresource ? { subresource: entry.subresource } : {}),
    fields: parseFieldSet(entry.fieldsV1 as JsonValue | undefined),
  }));
}

function writeEntries(object: KubeObject, entries: readonly Entry[]): void {
  const metadata = (object.metadata ?? {}) as Record<string, unknown>;
  object.metadata = metadata as KubeObject['metadata'];
  const kept = capped(entries.filter(entry => !isEmpty(entry.fields)));
  if (kept.length === 0) {
    delete metadata.managedFields;
    return;
  }
  metadata.managedFields = kept.map(entry => ({
    manager: entry.manager,
    operation: entry.operation,
    apiVersion: entry.apiVersion,
    ...(entry.time ? { time: entry.time } : {}),
    fieldsType: 'FieldsV1',
    fieldsV1: formatFieldSet(entry.fields),
    ...(entry.subresource ? { subresource: entry.subresource } : {}),
  }));
}

function capped(entries: Entry[]): Entry[] {
  const updates = entries.filter(entry => entry.operation === 'Update');
  if (updates.length <= MAX_UPDATE_MANAGERS) return entries;
  const oldest = [...updates]
    .sort((a, b) => ((a.time ?? '') < (b.time ?? '') ? -1 : 1))
    .slice(0, updates.length - MAX_UPDATE_MANAGERS + 1);
  const first = oldest[0] as Entry;
  const merged: Entry = {
    ...first,
    manager: ANCIENT_MANAGER,
    fields: oldest.reduce((set, entry) => union(set, entry.fields), emptySet()),
  };
  delete merged.subresource;
  return [...entries.filter(entry => !oldest.includes(entry)), merged];
}

function isSame(
  entry: Entry,
  options: WriteOptions,
  operation: Entry['operation'],
  apiVersion: string,
): boolean {
  return (
    entry.manager === options.manager &&
    entry.operation === operation &&
    entry.apiVersion === apiVersion &&
    (entry.subresource ?? '') === options.subresource
  );
}

function schemaOf(object: KubeObject): TypeSchema | undefined {
  const { group, version } = splitApiVersion(object.apiVersion ?? '');
  return schemaOfKind(group, version, object.kind ?? '');
}

/** Records a create, update or patch in metadata.managedFields of `object`. Changes the object. */
export function trackFields<T extends KubeObject>({
  old,
  object,
  schema,
  ...options
}: TrackedWrite<T>): void {
  const sent = object.metadata?.managedFields;
  // An explicit empty list, or one empty entry, is how a client forgets all managers.
  const reset = old !== undefined && sent !== undefined && (sent.length === 0 || jsonEqual(sent, [{}]));
  const entries = reset ? [] : readEntries(old);
  if (reset) {
    writeEntries(object, []);
    return;
  }
  const changes = compareObjects(old ? ownable(old) : {}, ownable(object), schema ?? schemaOf(object));
  const gone = union(changes.written, changes.removed);
  const apiVersion = object.apiVersion ?? '';
  const mine = entries.find(entry => isSame(entry, options, 'Update', apiVersion));
  const others = entries.filter(entry => entry !== mine);
  for (const entry of others) entry.fields = difference(withoutSubtrees(entry.fields, changes.removed), gone);
  if (isEmpty(changes.written)) {
    if (mine) mine.fields = difference(mine.fields, changes.removed);
    writeEntries(object, entries);
    return;
  }
  const fields = union(difference(mine?.fields ?? emptySet(), changes.removed), changes.written);
  const entry: Entry = {
    manager: options.manager,
    operation: 'Update',
    apiVersion,
    time: options.time,
    ...(options.subresource === '' ? {} : { subresource: options.subresource }),
    fields,
  };
  writeEntries(object, mine ? entries.map(known => (known === mine ? entry : known)) : [...entries, entry]);
}

/** The object that results from applying; `live` undefined creates it. Throws ApiError 409 with one cause for each contested field. */
export function applyObject<T extends KubeObject>(live: T | undefined, applied: T, options: ApplyOptions): T {
  if (applied.metadata?.managedFields?.length) throw badRequest('metadata.managedFields must be nil');
  const apiVersion = applied.apiVersion ?? '';
  const wanted = ownable(applied);
  const wantedSet = emptySet();
  addFields(wantedSet, wanted, undefined, options.schema);
  wantedSet.self = false;
  const entries = readEntries(live);
  const mine = entries.find(entry => isSame(entry, options, 'Apply', apiVersion));
  const others = entries.filter(entry => entry !== mine);
  const before = live ? ownable(live) : {};
  let merged = mergeApplied(before, wanted, undefined, options.schema) as JsonObject;
  settleConflicts(
    others,
    intersection(compareObjects(before, merged, options.schema).written, wantedSet),
    options.force,
  );
  if (mine) {
    const owned = others.reduce((set, entry) => union(set, entry.fields), wantedSet);
    const dropped = unowned(mine.fields, owned);
    merged = (removeFields(merged, dropped, undefined, options.schema) ?? {}) as JsonObject;
  }
  const result = rebuild(live, applied, merged);
  const unchanged =
    mine && jsonEqual(formatFieldSet(mine.fields), formatFieldSet(wantedSet)) && jsonEqual(before, merged);
  const entry: Entry = {
    manager: options.manager,
    operation: 'Apply',
    apiVersion,
    time: unchanged && mine.time ? mine.time : options.time,
    ...(options.subresource === '' ? {} : { subresource: options.subresource }),
    fields: wantedSet,
  };
  writeEntries(result, mine ? entries.map(known => (known === mine ? entry : known)) : [...entries, entry]);
  return result;
}

/** The merged part with the live object's identity round it, or at creation the applied one's. */
function rebuild<T extends KubeObject>(live: T | undefined, applied: T, merged: JsonObject): T {
  const base = (live ?? applied) as KubeObject;
  const identity = Object.fromEntries(
    Object.entries(base.metadata ?? {}).filter(([name]) => SERVER_FIELDS.includes(name)),
  );
  const { metadata, ...rest } = merged;
  const revision = applied.metadata?.resourceVersion;
  return {
    apiVersion: applied.apiVersion,
    kind: applied.kind,
    metadata: {
      ...identity,
      ...(metadata as JsonObject | undefined),
      ...(revision ? { resourceVersion: revision } : {}),
    },
    ...rest,
  } as unknown as T;
}

/** Others who own a field that changes: refused, or with force they lose it. */
function settleConflicts(others: Entry[], changed: FieldSet, force: boolean): void {
  const causes: StatusCause[] = [];
  const texts: string[] = [];
  for (const entry of others) {
    const contested = intersection(entry.fields, changed);
    if (isEmpty(contested)) continue;
    if (force) {
      entry.fields = difference(entry.fields, contested);
      continue;
    }
    const who = managerText(entry);
    const paths = fieldPaths(contested);
    for (const field of paths)
      causes.push({ reason: 'FieldManagerConflict', message: `conflict with ${who}`, field });
    texts.push(
      paths.length === 1
        ? `conflict with ${who}: ${paths[0]}`
        : `conflicts with ${who}:\n${paths.map(path => `- ${path}`).join('\n')}`,
    );
  }
  if (causes.length === 0) return;
  const count = causes.length === 1 ? '1 conflict' : `${causes.length} conflicts`;
  throw new ApiError(409, 'Conflict', `Apply failed with ${count}: ${texts.join('\n')}`, { causes });
}

function managerText({ manager, subresource, operation, apiVersion, time }: Entry): string {
  const sub = subresource ? ` with subresource "${subresource}"` : '';
  const using = operation === 'Update' ? ` using ${apiVersion}${time ? ` at ${time}` : ''}` : '';
  return `"${manager}"${sub}${using}`;
}
