// Label and field selectors of a request, and the resourceVersion it names.
import type { ResourceDefinition } from '../../api/resources.ts';
import {
  checkFieldSelector,
  matchesFieldSelector,
  matchesLabelSelector,
  parseFieldSelector,
  parseLabelSelector,
} from '../../api/selectors.ts';
import { badRequest } from '../../api/status.ts';
import { ApiError } from '../../lib/errors.ts';
import type { StoreEntry } from '../../store/store.ts';
import { servedObject } from '../storage/resource-storage.ts';

/** Undefined when everything is selected, so that nothing need be decoded. */
export type Selection = ((entry: StoreEntry) => boolean) | undefined;

export function selectionOf(definition: ResourceDefinition, query: URLSearchParams): Selection {
  const labels = parseLabelSelector(query.get('labelSelector') ?? '');
  const fields = parseFieldSelector(query.get('fieldSelector') ?? '');
  if (fields.length > 0)
    checkFieldSelector(
      fields,
      Object.keys(definition.selectableFields({ metadata: { name: '', namespace: '' } })),
    );
  if (labels.length === 0 && fields.length === 0) return undefined;
  return entry => {
    const object = servedObject(definition, entry);
    if (labels.length > 0 && !matchesLabelSelector(labels, object.metadata.labels ?? {})) return false;
    return fields.length === 0 || matchesFieldSelector(fields, definition.selectableFields(object));
  };
}

/** `''` → undefined; refuses what no server ever gave out. */
export function parseResourceVersion(text: string | null): number | undefined {
  if (text === null || text === '') return undefined;
  if (!/^\d{1,15}$/.test(text))
    throw badRequest(`Invalid value: "${text}": the resourceVersion is not a number this server gave out`);
  return Number(text);
}

/** 504 with the cause that clients know to wait for (storage.NewTooLargeResourceVersionError). */
export function tooLargeResourceVersion(asked: number, current: number): ApiError {
  const message = `Too large resource version: ${asked}, current: ${current}`;
  return new ApiError(504, 'Timeout', `Timeout: ${message}`, {
    causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }],
    retryAfterSeconds: 1,
  });
}
