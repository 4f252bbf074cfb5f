// ObjectMeta: names, labels, annotations, finalizers, owner references; and what of it may never change
// (k8s.io/apimachinery api/validation/objectmeta.go).
import { isJsonObject, jsonEqual } from '../../lib/json.ts';
import {
  checkDns1035Label,
  checkDns1123Label,
  checkDns1123Subdomain,
  checkLabelValue,
  checkPathSegment,
  checkQualifiedName,
  type NameCheck,
} from '../names.ts';
import type { KubeObject, ObjectMeta } from '../types.ts';
import type { FieldPath } from './field.ts';

/** All annotations of an object together. */
const MAX_ANNOTATION_BYTES = 256 * 1024;

/** Kinds whose names follow another rule than the DNS subdomain. */
const NAME_CHECKS: Record<string, NameCheck> = {
  'core.v1.Namespace': checkDns1123Label,
  'core.v1.Service': checkDns1035Label,
  'rbac.v1.Role': checkPathSegment,
  'rbac.v1.RoleBinding': checkPathSegment,
  'rbac.v1.ClusterRole': checkPathSegment,
  'rbac.v1.ClusterRoleBinding': checkPathSegment,
};

export function validateMetadata(
  kind: { type: string; namespaced: boolean; custom?: boolean },
  object: KubeObject,
  old: KubeObject | undefined,
  path: FieldPath,
): void {
  const metadata: ObjectMeta = object.metadata ?? {};
  const check = NAME_CHECKS[kind.type] ?? checkDns1123Subdomain;
  if (metadata.generateName) checkPrefix(metadata.generateName, check, path.child('generateName'));
  if (!metadata.name) path.child('name').required('name or generateName is required');
  else if (!old) path.child('name').check(metadata.name, check(metadata.name));
  if (kind.namespaced) {
    if (!metadata.namespace) path.child('namespace').required();
    else path.child('namespace').check(metadata.namespace, checkDns1123Label(metadata.namespace));
  } else if (metadata.namespace) path.child('namespace').forbidden('not allowed on this type');
  validateLabels(metadata.labels, path.child('labels'));
  validateAnnotations(metadata.annotations, path.child('annotations'));
  validateOwners(metadata, path.child('ownerReferences'));
  for (const [index, name] of (metadata.finalizers ?? []).entries()) {
    const at = path.child('finalizers').index(index);
    at.check(name, checkQualifiedName(name));
    // The extensions API never asked for more, and its own finalizer on definitions has no slash.
    if (kind.custom || kind.type === 'apiextensions.v1.CustomResourceDefinition') continue;
    const known = ['kubernetes', 'orphan', 'foregroundDeletion'];
    if (!name.includes('/') && !known.includes(name))
      at.invalid(name, 'name is neither a standard finalizer name nor is it fully qualified');
  }
  if (old) validateUnchanged(metadata, old.metadata ?? {}, path);
}

/** A prefix may end in what a whole name may not, because a suffix follows. */
function checkPrefix(prefix: string, check: NameCheck, path: FieldPath): void {
  path.check(prefix, check(prefix.endsWith('-') ? `${prefix.slice(0, -1)}a` : prefix));
}

export function validateLabels(labels: Record<string, string> | undefined, path: FieldPath): void {
  for (const [key, value] of Object.entries(labels ?? {})) {
    path.check(key, checkQualifiedName(key));
    path.check(value, checkLabelValue(value));
  }
}

export function validateAnnotations(annotations: Record<string, string> | undefined, path: FieldPath): void {
  let bytes = 0;
  for (const [key, value] of Object.entries(annotations ?? {})) {
    path.check(key, checkQualifiedName(key.toLowerCase()));
    bytes += Buffer.byteLength(key) + Buffer.byteLength(value);
  }
  if (bytes > MAX_ANNOTATION_BYTES) path.tooLong(MAX_ANNOTATION_BYTES);
}

function validateOwners(metadata: ObjectMeta, path: FieldPath): void {
  let controller: string | undefined;
  for (const [index, owner] of (metadata.ownerReferences ?? []).entries()) {
    const at = path.index(index);
    if (!owner.apiVersion)
      at.child('apiVersion').invalid(owner.apiVersion ?? '', 'version must not be empty');
    if (!owner.kind) at.child('kind').invalid(owner.kind ?? '', 'kind must not be empty');
    if (!owner.name) at.child('name').invalid(owner.name ?? '', 'name must not be empty');
    if (!owner.uid) at.child('uid').invalid(owner.uid ?? '', 'uid must not be empty');
    if (!owner.controller) continue;
    const name = `${owner.kind}/${owner.name}`;
    if (controller !== undefined)
      path.invalid(
        metadata.ownerReferences,
        `Only one reference can have Controller set to true. Found "true" in references for ${controller} and ${name}`,
      );
    controller = name;
  }
}

const IMMUTABLE = [
  'name',
  'namespace',
  'uid',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
] as const;

/** Left out by the client is the same as unchanged; the server fills it in from the stored object. */
function validateUnchanged(metadata: ObjectMeta, old: ObjectMeta, path: FieldPath): void {
  for (const name of IMMUTABLE) {
    if (metadata[name] === undefined || jsonEqual(metadata[name], old[name])) continue;
    if (name === 'deletionTimestamp' || name === 'deletionGracePeriodSeconds') {
      if (old[name] !== undefined) path.child(name).invalid(metadata[name], 'field is immutable');
    } else path.child(name).invalid(metadata[name], 'field is immutable');
  }
  if (old.deletionTimestamp === undefined) return;
  const added = (metadata.finalizers ?? []).filter(name => !old.finalizers?.includes(name));
  if (added.length > 0)
    path
      .child('finalizers')
      .forbidden(
        `no new finalizers can be added if the object is being deleted, found new finalizers ${JSON.stringify(added)}`,
      );
}

/** Is it at all an object with metadata? What comes off the wire may be anything. */
export function hasMetadata(object: unknown): object is KubeObject {
  return isJsonObject(object) && (object.metadata === undefined || isJsonObject(object.metadata));
}
