// A CustomResourceDefinition as rows of the registry: one ResourceDefinition for each served version, the same thing a
// built-in kind is, so that everything above (verbs, watch, Table, patches, discovery) knows no difference.
import type {
  CustomResourceDefinition,
  CustomResourceDefinitionVersion,
} from 'kubernetes-types/apiextensions/v1.js';
import { isJsonObject, type JsonObject, type JsonValue } from '../../lib/json.ts';
import { checkMetadata, type FieldFindings } from '../field-validation.ts';
import type {
  ResourceDefinition,
  ScalePaths,
  StorageConversion,
  SubresourceDefinition,
  Verb,
} from '../resource-definition.ts';
import { apiVersionOf } from '../schema.ts';
import { prepareForCreate, prepareForUpdate, type Strategy } from '../strategy.ts';
import { FieldPath } from '../validation/field.ts';
import { validateMetadata } from '../validation/metadata.ts';
import { checkRules, hasRules } from './cel/evaluate.ts';
import { customColumns } from './columns.ts';
import { applySchemaDefaults, hasDefaults } from './default.ts';
import { type JsonPath, parseJsonPath, valueAt } from './json-path.ts';
import type { JsonSchema } from './json-schema.ts';
import { pruneObject } from './prune.ts';
import { typeOfCustomKind } from './type-schema.ts';
import { validateAgainst } from './validate.ts';

const VERBS: readonly Verb[] = [
  'delete',
  'deletecollection',
  'get',
  'list',
  'patch',
  'create',
  'update',
  'watch',
];
const CHANGE = ['get', 'patch', 'update'];
/** A definition that is being deleted takes no new objects. */
const TERMINATING_VERBS = VERBS.filter(verb => verb !== 'create');

export function schemaOfVersion(version: CustomResourceDefinitionVersion): JsonSchema {
  return (version.schema?.openAPIV3Schema ?? {}) as JsonSchema;
}

/** The rows of a definition's served versions, the most stable and newest first. */
export function customResources(crd: CustomResourceDefinition): ResourceDefinition[] {
  return crd.spec.versions
    .filter(version => version.served)
    .sort((a, b) => compareVersions(a.name, b.name))
    .map(version => define(crd, version));
}

function define(crd: CustomResourceDefinition, version: CustomResourceDefinitionVersion): ResourceDefinition {
  const { group, names, scope } = crd.spec;
  const schema = schemaOfVersion(version);
  const namespaced = scope === 'Namespaced';
  const prefix = `/registry/${group}/${names.plural}`;
  const hasStatus = version.subresources?.status !== undefined;
  const strategy: Strategy = {
    type: `${names.kind}.${version.name}.${group}`,
    hasStatus,
    counted: true,
    keepStatusAtCreate: !hasStatus,
    statusKeepsMetadata: true,
  };
  const fields = selectableFields(version);
  const terminating = crd.metadata?.deletionTimestamp !== undefined;
  return {
    group,
    version: version.name,
    kind: names.kind,
    plural: names.plural,
    singular: names.singular || names.kind.toLowerCase(),
    namespaced,
    shortNames: names.shortNames ?? [],
    categories: names.categories ?? [],
    verbs: terminating ? TERMINATING_VERBS : VERBS,
    subresources: subresources(names.kind, version),
    virtual: false,
    conversion: conversion(crd, version, schema),
    columns: customColumns(version.additionalPrinterColumns),
    schema: typeOfCustomKind(names.kind, schema),
    customSchema: schema as JsonObject,
    scale: scalePaths(version),
    storageKey: (namespace, name) =>
      namespaced && namespace !== '' ? `${prefix}/${namespace}/${name}` : `${prefix}/${name}`,
    checkFields: object => checkCustomFields(object, schema),
    warnings: () => deprecation(crd, version),
    defaults: object => applySchemaDefaults(object as unknown as JsonValue, schema),
    validate: (object, old) => {
      const path = new FieldPath();
      const kind = { type: strategy.type, namespaced, custom: true };
      validateMetadata(kind, object, old, path.child('metadata'));
      validateAgainst(object as unknown as JsonObject, schema, path);
      validateRules(object as unknown as JsonObject, old as unknown as JsonObject | undefined, schema, path);
      return path.causes;
    },
    prepareCreate: object => prepareForCreate(strategy, object),
    prepareUpdate: (object, old, sub) => prepareForUpdate(strategy, object, old, sub),
    selectableFields: object => ({
      'metadata.name': object.metadata?.name ?? '',
      ...(namespaced ? { 'metadata.namespace': object.metadata?.namespace ?? '' } : {}),
      ...Object.fromEntries(
        fields.map(([name, path]) => [name, fieldText(valueAt(path, object as unknown as JsonValue))]),
      ),
    }),
  };
}

/** Reasons after which rules could not rely on what the schema promises them. */
const BLOCKING = new Set([
  'FieldValueNotSupported',
  'FieldValueRequired',
  'FieldValueTooLong',
  'FieldValueTooMany',
  'FieldValueTypeInvalid',
]);

function validateRules(
  object: JsonObject,
  old: JsonObject | undefined,
  schema: JsonSchema,
  path: FieldPath,
): void {
  if (!hasRules(schema)) return;
  const blocked = path.causes.some(
    ({ reason, message }) => BLOCKING.has(reason ?? '') || / must be of type /.test(message ?? ''),
  );
  if (!blocked) checkRules(object, old, schema, path);
  else
    path.invalid(
      undefined,
      'some validation rules were not checked because the object was invalid; correct the existing errors to complete validation',
    );
}

function fieldText(value: JsonValue | undefined): string {
  return value === undefined || value === null ? '' : typeof value === 'object' ? '' : String(value);
}

function selectableFields(version: CustomResourceDefinitionVersion): [name: string, path: JsonPath][] {
  return (version.selectableFields ?? []).flatMap(({ jsonPath }) => {
    const path = parseJsonPath(jsonPath);
    return path ? [[jsonPath.replace(/^\./, ''), path] as [string, JsonPath]] : [];
  });
}

function subresources(kind: string, version: CustomResourceDefinitionVersion): SubresourceDefinition[] {
  const { status, scale } = version.subresources ?? {};
  return [
    ...(status ? [{ name: 'status', kind, verbs: CHANGE }] : []),
    ...(scale ? [{ name: 'scale', kind: 'Scale', group: 'autoscaling', version: 'v1', verbs: CHANGE }] : []),
  ];
}

function scalePaths(version: CustomResourceDefinitionVersion): ScalePaths | undefined {
  const scale = version.subresources?.scale;
  if (!scale) return undefined;
  const replicas = parseJsonPath(scale.specReplicasPath);
  const observed = parseJsonPath(scale.statusReplicasPath);
  if (!replicas || !observed) return undefined;
  const selector = scale.labelSelectorPath ? parseJsonPath(scale.labelSelectorPath) : undefined;
  return { replicas, observed, ...(selector ? { selector } : {}) };
}

/** Conversion None: all versions are the same object under another apiVersion. Defaults that came later show on reading. */
function conversion(
  crd: CustomResourceDefinition,
  version: CustomResourceDefinitionVersion,
  schema: JsonSchema,
): StorageConversion | undefined {
  const defaults = hasDefaults(schema);
  if (crd.spec.versions.length === 1 && !defaults) return undefined;
  const { group, names } = crd.spec;
  const served = apiVersionOf(group, version.name);
  const stored = apiVersionOf(group, crd.spec.versions.find(({ storage }) => storage)?.name ?? version.name);
  return {
    apiVersion: stored,
    kind: names.kind,
    toStorage: object => ({ ...object, apiVersion: stored }),
    fromStorage: object => {
      const shown = { ...(defaults ? structuredClone(object) : object), apiVersion: served };
      if (defaults) applySchemaDefaults(shown as unknown as JsonValue, schema);
      return shown;
    },
  };
}

function checkCustomFields(object: JsonObject, schema: JsonSchema): FieldFindings {
  const findings: FieldFindings = isJsonObject(object.metadata)
    ? checkMetadata(object.metadata)
    : { unknown: [], mistyped: [] };
  findings.unknown.push(...pruneObject(object, schema));
  return findings;
}

function deprecation(crd: CustomResourceDefinition, version: CustomResourceDefinitionVersion): string[] {
  if (!version.deprecated) return [];
  const { group, names } = crd.spec;
  return [version.deprecationWarning ?? `${group}/${version.name} ${names.kind} is deprecated`];
}

const KUBE_VERSION = /^v(\d+)(?:(alpha|beta)(\d+))?$/;
const STABILITY: Record<string, number> = { alpha: 1, beta: 2 };

/** v2 before v1 before v1beta2 before v1alpha1, and whatever else by name (apimachinery version.CompareKubeAwareVersionStrings). */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [KUBE_VERSION.exec(a), KUBE_VERSION.exec(b)];
  if (!left || !right) return left ? -1 : right ? 1 : a < b ? -1 : a > b ? 1 : 0;
  const rank = (match: RegExpExecArray): number[] => [
    match[2] ? STABILITY[match[2]]! : 3,
    Number(match[1]),
    Number(match[3] ?? 0),
  ];
  const [ranksA, ranksB] = [rank(left), rank(right)];
  for (const [index, value] of ranksA.entries()) if (value !== ranksB[index]) return ranksB[index]! - value;
  return 0;
}
