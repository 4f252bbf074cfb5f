// The structural schema of the served kinds: which fields a type has, of which type, how lists merge, and the protobuf
// field numbers. The data is generated (gen/schema.json, see scripts/generate-schema.ts); this file gives it a shape.
import data from './gen/schema.json' with { type: 'json' };

/** Scalar and free-form types; any other type name is a key of the schema, such as `core.v1.PodSpec`. */
export type ScalarType =
  | 'string'
  | 'bool'
  | 'int32'
  | 'int64'
  | 'double'
  | 'bytes'
  | 'Quantity'
  | 'IntOrString'
  | 'Time'
  | 'MicroTime'
  | 'RawExtension'
  | 'FieldsV1'
  | 'JSON';

/** One field. `containers` reads shape: `containers` is a list, `element` names what is in it. */
export interface FieldSchema {
  readonly name: string;
  /** Protobuf field number; a pair where Go embeds a struct: [field of the embedded message, field inside it]. */
  readonly number: readonly number[];
  readonly shape: 'single' | 'list' | 'map';
  /** Scalar, or the name of a type. A map or list of lists does not occur, except map of list (`nested`). */
  readonly element: string;
  /** True for a map whose values are lists (`userInfo.extra`). */
  readonly nested: boolean;
  readonly required: boolean;
  /** A scalar whose zero differs from its absence (a pointer in Go): protobuf sends others' zeros always, JSON never. */
  readonly pointer: boolean;
  readonly mergeKey: string | undefined;
  /** Strategic merge: lists merge instead of being replaced. */
  readonly merges: boolean;
  readonly retainsKeys: boolean;
  readonly replaces: boolean;
  /** Server-side apply's view: atomic, set, map (lists); granular, atomic (objects and maps). */
  readonly listType: 'atomic' | 'set' | 'map' | 'granular' | undefined;
  readonly mapKeys: readonly string[];
  /** The type of the value or elements where `element` does not name one: custom resources. */
  readonly below?: TypeSchema | undefined;
}

export interface TypeSchema {
  readonly name: string;
  /** Has apiVersion and kind. */
  readonly root: boolean;
  readonly fields: ReadonlyMap<string, FieldSchema>;
}

interface RawInfo {
  mergeKey?: string;
  strategy?: string;
  listType?: string;
  mapKeys?: string[];
  required?: number;
  pointer?: number;
}

type RawField = [name: string, number?: number | number[], type?: string, info?: RawInfo];

const SCALARS = new Set<string>([
  'string',
  'bool',
  'int32',
  'int64',
  'double',
  'bytes',
  'Quantity',
  'IntOrString',
  'Time',
  'MicroTime',
  'RawExtension',
  'FieldsV1',
  'JSON',
]);

const raw = data as unknown as Record<string, RawField[]>;
const parsed = new Map<string, TypeSchema>();

const TYPE_META_FIELDS: RawField[] = [
  ['apiVersion', 0, 'string'],
  ['kind', 0, 'string'],
];

export function isScalar(type: string): type is ScalarType {
  return SCALARS.has(type);
}

function parseField([name, number = 0, typeText = 'string', info = {}]: RawField): FieldSchema {
  const shape = typeText.startsWith('[]') ? 'list' : typeText.startsWith('{}') ? 'map' : 'single';
  const inner = shape === 'single' ? typeText : typeText.slice(2);
  const nested = inner.startsWith('[]');
  const strategies = info.strategy?.split(',') ?? [];
  return {
    name,
    number: typeof number === 'number' ? [number] : number,
    shape,
    element: nested ? inner.slice(2) : inner,
    nested,
    required: info.required === 1,
    pointer: info.pointer === 1,
    mergeKey: info.mergeKey,
    merges: strategies.includes('merge'),
    retainsKeys: strategies.includes('retainKeys'),
    replaces: strategies.includes('replace'),
    listType: info.listType as FieldSchema['listType'],
    mapKeys: info.mapKeys ?? [],
  };
}

/** The schema of a type such as `core.v1.PodSpec`; undefined for scalars and what is not known. */
export function typeSchema(name: string): TypeSchema | undefined {
  const known = parsed.get(name);
  if (known) return known;
  const rows = Object.hasOwn(raw, name) ? raw[name] : undefined;
  if (!rows) return undefined;
  const root = rows[0]?.[0] === '*';
  const fields = new Map<string, FieldSchema>();
  for (const row of root ? [...TYPE_META_FIELDS, ...rows.slice(1)] : rows)
    fields.set(row[0], parseField(row));
  const schema = { name, root, fields };
  parsed.set(name, schema);
  return schema;
}

/** The group's part of type names: `events.k8s.io` → `events`, the core group → `core`. */
function groupPart(group: string): string {
  if (group === '') return 'core';
  if (group === 'rbac.authorization.k8s.io') return 'rbac';
  return group.split('.')[0] ?? group;
}

/** Types of apimachinery, which exist under every group version. */
const META_KINDS = new Set([
  'DeleteOptions',
  'Status',
  'APIGroup',
  'APIGroupList',
  'APIResourceList',
  'APIVersions',
]);

/** The schema name of a kind: `apps`, `v1`, `Deployment` → `apps.v1.Deployment`. */
export function typeName(group: string, version: string, kind: string): string {
  return META_KINDS.has(kind) ? `meta.v1.${kind}` : `${groupPart(group)}.${version}.${kind}`;
}

export function schemaOfKind(group: string, version: string, kind: string): TypeSchema | undefined {
  return typeSchema(typeName(group, version, kind));
}

/** `apps/v1` → group `apps`, version `v1`; `v1` → the core group. */
export function splitApiVersion(apiVersion: string): { group: string; version: string } {
  const slash = apiVersion.indexOf('/');
  return slash < 0
    ? { group: '', version: apiVersion }
    : { group: apiVersion.slice(0, slash), version: apiVersion.slice(slash + 1) };
}

export function apiVersionOf(group: string, version: string): string {
  return group === '' ? version : `${group}/${version}`;
}

/** Every type's name, for documents that publish them all. */
export function allTypeNames(): string[] {
  return Object.keys(raw);
}
