// Generates src/api/gen/: the schema of the served kinds, as data. Run it when kubernetes-types is updated:
//   sh scripts/run.sh scripts/generate-schema.ts KUBERNETES_SOURCE
// Three sources, each for what it alone knows:
//   npm kubernetes-types           which types and fields exist, which are required, their descriptions
//   KUBERNETES_SOURCE/**/generated.proto     field numbers and wire types
//   KUBERNETES_SOURCE/api/openapi-spec       list types, merge keys, patch strategies
// KUBERNETES_SOURCE is Debian's source package, unpacked (apt-get source kubernetes). It is older than kubernetes-types;
// what was added to Kubernetes since is in ADDED_FIELDS, ADDED_LISTS and RENAMED below.
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { ADDED_FIELDS, ADDED_LISTS, ADDED_POINTERS, RENAMED } from './schema-additions.ts';

interface ListInfo {
  mergeKey?: string;
  strategy?: string;
  listType?: string;
  mapKeys?: string[];
  required?: 1;
  /** Absent and zero differ (a pointer in Go). */
  pointer?: 1;
}

interface DeclaredField {
  name: string;
  required: boolean;
  type: string;
  /** Declared as one fixed string: `kind?: "Pod"`. */
  literal: boolean;
  description: string;
}

interface DeclaredType {
  description: string;
  fields: DeclaredField[];
}

const [source] = process.argv.slice(2);
if (!source) {
  console.error('usage: generate-schema.ts KUBERNETES_SOURCE');
  process.exit(2);
}
const root = join(import.meta.dirname, '..');
const typesDir = join(root, 'node_modules/kubernetes-types');

/** Groups whose types are taken; the rest is not served. */
const MODULES = [
  'admissionregistration/v1',
  'apiextensions/v1',
  'apps/v1',
  'authentication/v1',
  'authorization/v1',
  'autoscaling/v1',
  'autoscaling/v2',
  'batch/v1',
  'certificates/v1',
  'coordination/v1',
  'core/v1',
  'discovery/v1',
  'events/v1',
  'meta/v1',
  'networking/v1',
  'node/v1',
  'policy/v1',
  'rbac/v1',
  'scheduling/v1',
  'storage/v1',
];

/** Declared types that are scalars or free-form to us. */
const LEAVES: Record<string, string> = {
  string: 'string',
  boolean: 'bool',
  number: 'number',
  any: 'JSON',
  Quantity: 'Quantity',
  Time: 'Time',
  MicroTime: 'MicroTime',
  RawExtension: 'RawExtension',
  FieldsV1: 'FieldsV1',
  'number | string': 'IntOrString',
  // The schema of a custom resource is read by src/api/custom, which keeps what it does not know.
  JSON: 'JSON',
  JSONSchemaProps: 'JSON',
  JSONSchemaPropsOrArray: 'JSON',
  JSONSchemaPropsOrBool: 'JSON',
  JSONSchemaPropsOrStringArray: 'JSON',
};

const moduleName = (path: string): string => path.replace('/', '.');

function commentText(comment: string | undefined): string {
  return (comment ?? '')
    .split('\n')
    .map(line => line.replace(/^\s*\*? ?/, '').trimEnd())
    .join('\n')
    .trim();
}

/** Reads one .d.ts file of kubernetes-types, whose form is regular: it is generated itself. */
function readDeclarations(module: string): Map<string, DeclaredType> {
  const text = readFileSync(join(typesDir, `${module}.d.ts`), 'utf8');
  const origin = new Map<string, string>();
  for (const [, names = '', from = ''] of text.matchAll(/^import \{ (.*?) \} from "(.*?)";$/gm))
    for (const name of names.split(', ')) origin.set(name, join(module, '..', from));
  const types = new Map<string, DeclaredType>();
  const declaration = /(?:\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\n)?export interface (\w+) \{\n([\s\S]*?)^\}/gm;
  for (const [, comment, name = '', body = ''] of text.matchAll(declaration)) {
    const fields: DeclaredField[] = [];
    const member =
      /^ {4}(?:\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\n {4})?(?:readonly )?"?([$\w-]+)"?(\?)?: ((?:\{[\s\S]*?^ {4}\}|[^{;]*));$/gm;
    for (const [, fieldComment, field = '', optional, type = ''] of body.matchAll(member))
      fields.push({
        name: field,
        required: optional === undefined,
        type: fieldType(type, module, origin),
        literal: type.startsWith('"'),
        description: commentText(fieldComment),
      });
    types.set(name, { description: commentText(comment), fields });
  }
  return types;
}

function fieldType(text: string, module: string, origin: Map<string, string>): string {
  const map = /^\{\s*\[name: string\]: ([\s\S]*);\s*\}$/.exec(text);
  if (map) return `{}${fieldType(map[1] ?? '', module, origin)}`;
  const list = /^Array<(.*)>$/.exec(text) ?? /^(\w+)\[\]$/.exec(text);
  if (list) return `[]${fieldType(list[1] ?? '', module, origin)}`;
  if (/^"/.test(text)) return 'string';
  const leaf = LEAVES[text];
  if (leaf) return leaf;
  if (!/^\w+$/.test(text)) throw new Error(`${module}: cannot read type ${text}`);
  return `${moduleName(origin.get(text) ?? module)}.${text}`;
}

/** message → field → [number, proto type], from every generated.proto; keys like `core.v1.Pod`. */
function readProtos(): Map<string, Map<string, [number, string]>> {
  const messages = new Map<string, Map<string, [number, string]>>();
  for (const file of globSync(
    'staging/src/k8s.io/{api,apimachinery,apiextensions-apiserver}/**/generated.proto',
    {
      cwd: source,
    },
  )) {
    const text = readFileSync(join(source ?? '', file), 'utf8');
    const module = (/^package (.*);$/m.exec(text)?.[1] ?? '').split('.').slice(-2).join('.');
    for (const [, name = '', body = ''] of text.matchAll(/^message (\w+) \{\n([\s\S]*?)^\}/gm)) {
      const fields = new Map<string, [number, string]>();
      const member = /^ {2}(?:optional |repeated )?(map<\w+, [\w.]+>|[\w.]+) (\w+) = (\d+);$/gm;
      for (const [, type = '', field = '', number] of body.matchAll(member))
        fields.set(field, [Number(number), type]);
      messages.set(`${module}.${name}`, fields);
    }
  }
  return messages;
}

/** `core.v1.Pod.spec` → list facts, from the published swagger. */
function readListInfo(): Map<string, ListInfo> {
  const swagger = JSON.parse(readFileSync(join(source ?? '', 'api/openapi-spec/swagger.json'), 'utf8')) as {
    definitions: Record<string, { properties?: Record<string, Record<string, unknown>> }>;
  };
  const found = new Map<string, ListInfo>();
  for (const [definition, { properties }] of Object.entries(swagger.definitions)) {
    const type = definition.split('.').slice(-3).join('.');
    for (const [field, property] of Object.entries(properties ?? {})) {
      const info: ListInfo = {};
      const key = property['x-kubernetes-patch-merge-key'];
      const strategy = property['x-kubernetes-patch-strategy'];
      const listType = property['x-kubernetes-list-type'] ?? property['x-kubernetes-map-type'];
      if (typeof key === 'string') info.mergeKey = key;
      if (typeof strategy === 'string') info.strategy = strategy;
      if (typeof listType === 'string') info.listType = listType;
      const mapKeys = property['x-kubernetes-list-map-keys'];
      if (Array.isArray(mapKeys)) info.mapKeys = mapKeys as string[];
      if (Object.keys(info).length > 0) found.set(`${type}.${field}`, info);
    }
  }
  return found;
}

/** `apps.v1.DeploymentSpec.replicas`: fields that Go declares as pointers to scalars. */
function readPointers(): Set<string> {
  const found = new Set<string>();
  for (const file of globSync(
    'staging/src/k8s.io/{api,apimachinery/pkg/apis,apiextensions-apiserver/pkg/apis}/*/v*/types.go',
    {
      cwd: source,
    },
  )) {
    const module = file.split('/').slice(-3, -1).join('.');
    const text = readFileSync(join(source ?? '', file), 'utf8');
    for (const [, name = '', body = ''] of text.matchAll(/^type (\w+) struct \{\n([\s\S]*?)^\}/gm))
      for (const [, field = ''] of body.matchAll(/^\t\w+\s+\*[\w.]+\s+`json:"(\w+)[,"]/gm))
        found.add(`${module}.${name}.${field}`);
  }
  return found;
}

const NUMERIC = new Set(['int32', 'int64', 'bool', 'string', 'double']);

const protos = readProtos();
const pointers = readPointers();
const lists = readListInfo();
const missing: string[] = [];
const schema: Record<string, unknown[][]> = {};
const descriptions: Record<string, [string, Record<string, string>]> = {};

type FieldNumber = number | [embedded: number, inner: number];

/**
 * A type's fields by JSON name. Go embeds some structs (Volume embeds VolumeSource): protobuf nests them in a field of
 * their own, JSON does not; such a field's number is the pair [embedding field, field].
 */
function protoFields(type: string, declared: DeclaredType): Map<string, [FieldNumber, string]> {
  const own = protos.get(type) ?? protos.get(RENAMED[type] ?? '') ?? new Map<string, [number, string]>();
  const names = new Set(declared.fields.map(field => field.name));
  const fields = new Map<string, [FieldNumber, string]>();
  for (const [field, [number, protoType]] of own) {
    const embedded = protos.get(`${type.split('.').slice(0, 2).join('.')}.${protoType.split('.').at(-1)}`);
    if (names.has(field) || !embedded) fields.set(field, [number, protoType]);
    else
      for (const [inner, [innerNumber, innerType]] of embedded)
        fields.set(inner, [[number, innerNumber], innerType]);
  }
  return fields;
}

/** A field of an embedded struct is declared there: EphemeralContainer's in EphemeralContainerCommon. */
function embeddedNames(type: string, field: string): string[] {
  return type === 'core.v1.EphemeralContainer' ? [`${type}Common.${field}`] : [];
}

/** A root type has apiVersion and kind (TypeMeta), which the protobuf form keeps in its envelope. */
function isRoot(declared: DeclaredType): boolean {
  return declared.fields.some(field => field.name === 'kind' && field.literal);
}

function refine(type: string, protoType: string | undefined, where: string): string {
  const prefix = /^(\[\]|\{\})*/.exec(type)?.[0] ?? '';
  const inner = type.slice(prefix.length);
  const wire = protoType?.replace(/^map<\w+, ([\w.]+)>$/, '$1');
  if (inner === 'number') {
    if (wire === 'int64' || wire === 'int32' || wire === 'double') return `${prefix}${wire}`;
    const added = ADDED_FIELDS[where]?.[1];
    return `${prefix}${added ?? 'int32'}`;
  }
  if (inner === 'string' && wire === 'bytes') return `${prefix}bytes`;
  return type;
}

for (const module of MODULES)
  for (const [name, declared] of readDeclarations(module)) {
    const type = `${moduleName(module)}.${name}`;
    if (LEAVES[name]) continue;
    const root = isRoot(declared) || type === 'meta.v1.DeleteOptions' || type === 'meta.v1.Status';
    const message = protoFields(type, declared);
    const rows: unknown[][] = [];
    for (const field of declared.fields) {
      if (root && (field.name === 'apiVersion' || field.name === 'kind')) continue;
      const proto = message.get(field.name);
      const where = `${type}.${field.name}`;
      const number = proto?.[0] ?? ADDED_FIELDS[where]?.[0] ?? 0;
      if (number === 0) missing.push(where);
      const old = RENAMED[type];
      const info: ListInfo = {
        ...lists.get(where),
        ...(old ? lists.get(`${old}.${field.name}`) : {}),
        ...ADDED_LISTS[where],
      };
      const shown = refine(field.type, proto?.[1], where);
      const row: unknown[] = [field.name, number, shown];
      if (field.required) info.required = 1;
      const byPointer = [where, `${old}.${field.name}`, ...embeddedNames(type, field.name)].some(at =>
        pointers.has(at),
      );
      if ((byPointer || ADDED_POINTERS.has(where)) && NUMERIC.has(shown)) info.pointer = 1;
      if (Object.keys(info).length > 0) row.push(info);
      rows.push(row);
    }
    schema[type] = root ? [['*'], ...rows] : rows;
    descriptions[type] = [
      declared.description,
      Object.fromEntries(declared.fields.flatMap(f => (f.description ? [[f.name, f.description]] : []))),
    ];
  }

function write(file: string, text: string): void {
  writeFileSync(join(root, 'src/api/gen', file), text);
  console.log(`${basename(file)}: ${text.length} bytes`);
}

const perLine = (data: object): string =>
  `{\n${Object.entries(data)
    .map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`)
    .join(',\n')}\n}\n`;
write('schema.json', perLine(schema));
write('descriptions.json', perLine(descriptions));
console.log(`${Object.keys(schema).length} types; fields without a protobuf number: ${missing.length}`);
if (process.env.SHOW_MISSING) console.log(missing.join('\n'));
