// OpenAPI documents of the served kinds. v3: an index and one document for each group version, which kubectl reads to
// learn whether the server checks fields (fieldValidation), and for `explain`. v2: one document, for kubectl before 1.27.
import { createHash } from 'node:crypto';
import type { JsonObject } from '../lib/json.ts';
import { KUBERNETES_VERSION } from '../lib/version.ts';
import { type GroupVersionKind, SchemaCollector } from './openapi-schemas.ts';
import type { ResourceDefinition } from './resource-definition.ts';
import { RESOURCES } from './resources.ts';
import { apiVersionOf, typeName, typeSchema } from './schema.ts';

const INFO = { title: 'Kubernetes', version: KUBERNETES_VERSION };
const OBJECT_MEDIA_TYPES = ['application/json', 'application/yaml', 'application/vnd.kubernetes.protobuf'];
/** What custom resources take; kubectl picks the way it applies by this list. */
const CUSTOM_PATCH_MEDIA_TYPES = [
  'application/apply-patch+yaml',
  'application/json-patch+json',
  'application/merge-patch+json',
];
const PATCH_MEDIA_TYPES = [...CUSTOM_PATCH_MEDIA_TYPES, 'application/strategic-merge-patch+json'];

/** `api/v1`, `apis/apps/v1`. */
export function openApiPath(group: string, version: string): string {
  return group === '' ? `api/${version}` : `apis/${group}/${version}`;
}

const DELETE_OPTIONS = typeName('', 'v1', 'DeleteOptions');

function kindsByType(resources: readonly ResourceDefinition[]): Map<string, GroupVersionKind[]> {
  const kinds = new Map<string, GroupVersionKind[]>();
  const note = (group: string, version: string, kind: string): void => {
    const type = typeName(group, version, kind);
    const known = kinds.get(type) ?? [];
    if (!known.some(gvk => gvk.group === group && gvk.version === version && gvk.kind === kind))
      kinds.set(type, [...known, { group, version, kind }]);
  };
  for (const { group, version, kind, subresources, customSchema } of resources) {
    if (!customSchema) {
      note(group, version, kind);
      note(group, version, `${kind}List`);
    }
    note(group, version, 'DeleteOptions');
    for (const sub of customSchema ? [] : subresources)
      note(sub.group ?? group, sub.version ?? version, sub.kind);
  }
  return kinds;
}

interface Parameter {
  name: string;
  description: string;
  type: 'string' | 'boolean' | 'integer';
}

const DRY_RUN: Parameter = {
  name: 'dryRun',
  description: 'When present, indicates that modifications should not be persisted. Valid value: All.',
  type: 'string',
};
const FIELD_MANAGER: Parameter = {
  name: 'fieldManager',
  description: 'The name of the actor that makes the change.',
  type: 'string',
};
const FIELD_VALIDATION: Parameter = {
  name: 'fieldValidation',
  description: 'How unknown or duplicate fields are handled: Ignore, Warn (the default) or Strict.',
  type: 'string',
};
const FORCE: Parameter = {
  name: 'force',
  description: 'Take over fields of other managers.',
  type: 'boolean',
};
const WRITE = [DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const LIST: Parameter[] = [
  { name: 'allowWatchBookmarks', description: 'The client understands BOOKMARK events.', type: 'boolean' },
  { name: 'continue', description: 'The token of the page before.', type: 'string' },
  { name: 'fieldSelector', description: 'Restrict by fields.', type: 'string' },
  { name: 'labelSelector', description: 'Restrict by labels.', type: 'string' },
  { name: 'limit', description: 'The most items in a page.', type: 'integer' },
  { name: 'resourceVersion', description: 'From which version on.', type: 'string' },
  { name: 'resourceVersionMatch', description: 'How resourceVersion is meant.', type: 'string' },
  { name: 'sendInitialEvents', description: 'A watch begins with what there is.', type: 'boolean' },
  { name: 'timeoutSeconds', description: 'The longest a watch lasts.', type: 'integer' },
  { name: 'watch', description: 'Watch instead of list.', type: 'boolean' },
];

type Method = 'get' | 'put' | 'post' | 'patch' | 'delete';

/** verb → method, action as x-kubernetes-action, parameters, whether it takes and gives an object. */
const ITEM_OPERATIONS: readonly [
  verb: string,
  method: Method,
  action: string,
  parameters: readonly Parameter[],
][] = [
  ['get', 'get', 'get', []],
  ['update', 'put', 'put', WRITE],
  ['patch', 'patch', 'patch', [...WRITE, FORCE]],
  ['delete', 'delete', 'delete', [DRY_RUN]],
];
const COLLECTION_OPERATIONS: typeof ITEM_OPERATIONS = [
  ['list', 'get', 'list', LIST],
  ['create', 'post', 'post', WRITE],
  ['deletecollection', 'delete', 'deletecollection', [DRY_RUN, ...LIST]],
];

function content(schema: JsonObject, mediaTypes: readonly string[]): JsonObject {
  return Object.fromEntries(mediaTypes.map(type => [type, { schema }]));
}

function query({ name, description, type }: Parameter): JsonObject {
  return { name, in: 'query', description, schema: { type, uniqueItems: true } };
}

interface Shapes {
  readonly schema: JsonObject;
  /** Where it is another than the schema. */
  readonly answer?: JsonObject;
  /** Media types of a PATCH; all when absent. */
  readonly patches?: readonly string[];
}

class DocumentV3 {
  readonly collector: SchemaCollector;
  readonly paths: JsonObject = {};

  constructor(kinds: ReadonlyMap<string, readonly GroupVersionKind[]>) {
    this.collector = new SchemaCollector(3, kinds);
  }

  #operation(
    gvk: GroupVersionKind,
    method: Method,
    action: string,
    parameters: readonly Parameter[],
    { schema, answer, patches = PATCH_MEDIA_TYPES }: Shapes,
  ): JsonObject {
    const given = answer ?? schema;
    const body: JsonObject =
      method === 'put' || method === 'post'
        ? { requestBody: { content: content(schema, ['*/*']), required: true } }
        : method === 'patch'
          ? { requestBody: { content: content(this.#patch(), patches), required: true } }
          : method === 'delete'
            ? { requestBody: { content: content(this.collector.reference(DELETE_OPTIONS), ['*/*']) } }
            : {};
    return {
      tags: [gvk.group === '' ? `core_${gvk.version}` : `${gvk.group.split('.')[0]}_${gvk.version}`],
      description: `${action} ${gvk.kind}`,
      operationId: `${action}${gvk.kind}`,
      parameters: parameters.map(query),
      ...body,
      responses: { '200': { description: 'OK', content: content(given, OBJECT_MEDIA_TYPES) } },
      'x-kubernetes-action': action,
      'x-kubernetes-group-version-kind': { ...gvk },
    };
  }

  /** What is sent to and answered by operations on a kind. */
  #shapes(resource: ResourceDefinition, gvk: GroupVersionKind, list: boolean): Shapes {
    if (resource.customSchema && gvk.kind === resource.kind)
      return {
        schema: this.collector.customReference(resource),
        patches: CUSTOM_PATCH_MEDIA_TYPES,
        ...(list ? { answer: this.collector.customReference(resource, true) } : {}),
      };
    const type = typeName(gvk.group, gvk.version, gvk.kind);
    const schema = typeSchema(type) ? this.collector.reference(type) : { type: 'string' };
    const listType = typeName(gvk.group, gvk.version, `${gvk.kind}List`);
    return list && typeSchema(listType) ? { schema, answer: this.collector.reference(listType) } : { schema };
  }

  #patch(): JsonObject {
    const name = 'io.k8s.apimachinery.pkg.apis.meta.v1.Patch';
    this.collector.schemas[name] ??= {
      description: 'Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.',
      type: 'object',
    };
    return { $ref: `#/components/schemas/${name}` };
  }

  add(resource: ResourceDefinition): void {
    const { group, version, kind, plural, namespaced } = resource;
    const gvk = { group, version, kind };
    const root = `/${openApiPath(group, version)}`;
    const collection = namespaced ? `${root}/namespaces/{namespace}/${plural}` : `${root}/${plural}`;
    const fill = (
      path: string,
      operations: typeof ITEM_OPERATIONS,
      verbs: readonly string[],
      subject = gvk,
    ): void => {
      const item: JsonObject = {};
      for (const [verb, method, action, parameters] of operations)
        if (verbs.includes(verb))
          item[method] = this.#operation(
            subject,
            method,
            action,
            parameters,
            this.#shapes(resource, subject, verb === 'list'),
          );
      if (Object.keys(item).length > 0) this.paths[path] = { ...item, parameters: pathParameters(path) };
    };
    fill(collection, COLLECTION_OPERATIONS, resource.verbs);
    if (namespaced && resource.verbs.includes('list'))
      fill(`${root}/${plural}`, COLLECTION_OPERATIONS.slice(0, 1), ['list']);
    fill(`${collection}/{name}`, ITEM_OPERATIONS, resource.verbs);
    for (const sub of resource.subresources) {
      const subject = { group: sub.group ?? group, version: sub.version ?? version, kind: sub.kind };
      fill(
        `${collection}/{name}/${sub.name}`,
        [...ITEM_OPERATIONS, COLLECTION_OPERATIONS[1]!],
        sub.verbs,
        subject,
      );
    }
  }
}

function pathParameters(path: string): JsonObject[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string', uniqueItems: true },
  }));
}

/** The document of a group version; undefined when nothing of it is served. */
export function openApiV3Document(path: string, resources = RESOURCES): JsonObject | undefined {
  const served = resources.filter(({ group, version }) => openApiPath(group, version) === path);
  if (served.length === 0) return undefined;
  const document = new DocumentV3(kindsByType(resources));
  for (const resource of served) document.add(resource);
  return {
    openapi: '3.0.0',
    info: INFO,
    paths: document.paths,
    components: { schemas: sorted(document.collector.schemas) },
  };
}

function sorted(schemas: Record<string, JsonObject>): JsonObject {
  return Object.fromEntries(Object.entries(schemas).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** /openapi/v3: where each group version's document is. The hash changes when what is served does. */
export function openApiV3Index(resources = RESOURCES): JsonObject {
  const served = resources.map(r =>
    [
      ...[r.group, r.version, r.plural, ...r.subresources.map(s => s.name)],
      ...(r.customSchema ? [JSON.stringify(r.customSchema)] : []),
    ].join('/'),
  );
  const hash = createHash('sha256')
    .update(KUBERNETES_VERSION)
    .update(served.join('\n'))
    .digest('hex')
    .slice(0, 32)
    .toUpperCase();
  const paths = new Set(resources.map(({ group, version }) => openApiPath(group, version)));
  return {
    paths: Object.fromEntries(
      [...paths].map(path => [path, { serverRelativeURL: `/openapi/v3/${path}?hash=${hash}` }]),
    ),
  };
}

/** /openapi/v2, as far as clients read it: all definitions, and of the paths what tells them that dry run is possible. */
export function openApiV2Document(resources = RESOURCES): JsonObject {
  const collector = new SchemaCollector(2, kindsByType(resources));
  const paths: JsonObject = {};
  for (const resource of resources) {
    const { group, version, kind, plural, namespaced, verbs } = resource;
    if (resource.customSchema) collector.customReference(resource, true);
    else {
      collector.reference(typeName(group, version, kind));
      const list = typeName(group, version, `${kind}List`);
      if (typeSchema(list)) collector.reference(list);
    }
    if (!verbs.includes('patch')) continue;
    const scope = namespaced ? '/namespaces/{namespace}' : '';
    paths[`/${openApiPath(group, version)}${scope}/${plural}/{name}`] = {
      patch: {
        description: `patch ${kind} of ${apiVersionOf(group, version)}`,
        operationId: `patch${kind}`,
        parameters: [...WRITE, FORCE].map(({ name, description, type }) => ({
          name,
          in: 'query',
          description,
          type,
        })),
        responses: { '200': { description: 'OK' } },
        'x-kubernetes-group-version-kind': { group, version, kind },
      },
    };
  }
  collector.reference(DELETE_OPTIONS);
  return { swagger: '2.0', info: INFO, paths, definitions: sorted(collector.schemas) };
}
