// Validation, by type: everything wrong with an object at once, each with its field path, in Kubernetes' words
// (pkg/apis/*/validation).
import type { StatusCause } from '../lib/errors.ts';
import type { KubeObject } from './types.ts';
import { FieldPath } from './validation/field.ts';
import { validateMetadata } from './validation/metadata.ts';

export interface ValidatedKind {
  readonly type: string;
  readonly namespaced: boolean;
  readonly plural: string;
}

export function validateObject(
  kind: ValidatedKind,
  object: KubeObject,
  old?: KubeObject,
  _subresource = '',
): StatusCause[] {
  const path = new FieldPath();
  validateMetadata(kind, object, old, path.child('metadata'));
  return path.causes;
}
