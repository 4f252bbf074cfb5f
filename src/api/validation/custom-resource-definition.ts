// CustomResourceDefinition: names, versions, schemas, and what may not change once it serves
// (apiextensions-apiserver pkg/apis/apiextensions/validation).
import type {
  CustomResourceDefinition,
  CustomResourceDefinitionSpec,
  CustomResourceDefinitionVersion,
} from 'kubernetes-types/apiextensions/v1.js';
import { isJsonObject } from '../../lib/json.ts';
import { compileRules } from '../custom/cel/compile.ts';
import { COLUMN_TYPES } from '../custom/columns.ts';
import { schemaOfVersion } from '../custom/definition.ts';
import { parseJsonPath } from '../custom/json-path.ts';
import { validateStructural } from '../custom/structural.ts';
import { checkDns1035Label, checkDns1123Subdomain } from '../names.ts';
import type { FieldPath } from './field.ts';

export function validateCustomResourceDefinition(
  crd: CustomResourceDefinition,
  old: CustomResourceDefinition | undefined,
  path: FieldPath,
): void {
  const at = path.child('spec');
  const spec = crd.spec as CustomResourceDefinitionSpec | undefined;
  if (!spec) {
    at.required();
    return;
  }
  if (spec.names?.plural && spec.group && crd.metadata?.name !== `${spec.names.plural}.${spec.group}`)
    path
      .child('metadata', 'name')
      .invalid(crd.metadata?.name ?? '', 'must be spec.names.plural+"."+spec.group');
  if (!spec.group) at.child('group').required();
  else {
    at.child('group').check(spec.group, checkDns1123Subdomain(spec.group));
    if (!spec.group.includes('.'))
      at.child('group').invalid(spec.group, 'should be a domain with at least one dot');
  }
  at.child('scope').oneOf(spec.scope, ['Cluster', 'Namespaced']);
  if (spec.preserveUnknownFields)
    at.child('preserveUnknownFields').invalid(
      true,
      'cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead',
    );
  if (spec.conversion) at.child('conversion', 'strategy').oneOf(spec.conversion.strategy, ['None']);
  validateNames(spec, at.child('names'));
  validateVersions(spec, at.child('versions'));
  if (old && isEstablished(old)) validateUnchanged(spec, old.spec, at);
}

export function isEstablished(crd: CustomResourceDefinition): boolean {
  return (
    crd.status?.conditions?.some(({ type, status }) => type === 'Established' && status === 'True') === true
  );
}

function validateNames(spec: CustomResourceDefinitionSpec, path: FieldPath): void {
  const names = spec.names as Partial<CustomResourceDefinitionSpec['names']> | undefined;
  if (!names) {
    path.required();
    return;
  }
  const label = (name: string, value: string | undefined): void => {
    if (!value) path.child(name).required();
    else path.child(name).check(value, checkDns1035Label(value.toLowerCase()));
  };
  label('plural', names.plural);
  label('singular', names.singular);
  label('kind', names.kind);
  label('listKind', names.listKind);
  for (const [index, name] of (names.shortNames ?? []).entries())
    path.child('shortNames').index(index).check(name, checkDns1035Label(name));
  if (names.kind && names.kind === names.listKind)
    path.child('listKind').invalid(names.listKind, 'kind and listKind may not be the same');
}

function validateVersions(spec: CustomResourceDefinitionSpec, path: FieldPath): void {
  const versions = (spec.versions ?? []) as CustomResourceDefinitionVersion[];
  if (versions.length === 0) {
    path.required('must have at least one version');
    return;
  }
  const names = new Set<string>();
  for (const [index, version] of versions.entries()) {
    const at = path.index(index);
    if (!version.name) at.child('name').required();
    else at.child('name').check(version.name, checkDns1035Label(version.name));
    if (names.has(version.name)) at.child('name').duplicate(version.name);
    names.add(version.name);
    validateVersion(version, at);
  }
  const storage = versions.filter(version => version.storage).length;
  if (storage !== 1)
    path.invalid(
      versions.map(({ name }) => name),
      'must have exactly one version marked as storage version',
    );
}

function validateVersion(version: CustomResourceDefinitionVersion, path: FieldPath): void {
  const at = path.child('schema', 'openAPIV3Schema');
  if (!isJsonObject(version.schema?.openAPIV3Schema)) at.required('schemas are required');
  else {
    const before = at.causes.length;
    validateStructural(schemaOfVersion(version), at);
    if (at.causes.length === before) compileRules(schemaOfVersion(version), at);
  }
  for (const [index, column] of (version.additionalPrinterColumns ?? []).entries()) {
    const where = path.child('additionalPrinterColumns').index(index);
    if (!column.name) where.child('name').required();
    where.child('type').oneOf(column.type, COLUMN_TYPES);
    validatePath(column.jsonPath, where.child('jsonPath'), false);
  }
  const { scale } = version.subresources ?? {};
  if (scale) {
    const where = path.child('subresources', 'scale');
    validatePath(scale.specReplicasPath, where.child('specReplicasPath'), true);
    validatePath(scale.statusReplicasPath, where.child('statusReplicasPath'), true);
    if (scale.labelSelectorPath)
      validatePath(scale.labelSelectorPath, where.child('labelSelectorPath'), true);
  }
  for (const [index, { jsonPath }] of (version.selectableFields ?? []).entries())
    validatePath(jsonPath, path.child('selectableFields').index(index).child('jsonPath'), true);
}

function validatePath(text: string | undefined, path: FieldPath, plain: boolean): void {
  if (!text) {
    path.required();
    return;
  }
  const parsed = parseJsonPath(text);
  if (!parsed) path.invalid(text, 'is not a JSON path this server understands');
  else if (plain && !parsed.isPlain) path.invalid(text, 'should be a json path without array notation');
}

function validateUnchanged(
  spec: CustomResourceDefinitionSpec,
  old: CustomResourceDefinitionSpec,
  path: FieldPath,
): void {
  path.child('group').unchanged(spec.group, old.group);
  path.child('scope').unchanged(spec.scope, old.scope);
  path.child('names', 'kind').unchanged(spec.names?.kind, old.names?.kind);
  path.child('names', 'plural').unchanged(spec.names?.plural, old.names?.plural);
}
