// metadata.managedFields: who set which field (server-side apply's memory), kept for every write.
import { trackFields } from '../../api/apply.ts';
import { formatTime } from '../../lib/clock.ts';
import type { ApiObject } from '../storage/api-object.ts';
import type { ResourceCall } from './call.ts';

/** The fieldManager parameter, else the first word of the User-Agent (managedfields.prefixFromUserAgent). */
export function managerOf(call: ResourceCall): string {
  const named = call.query.get('fieldManager');
  if (named) return named;
  return (call.request.headers['user-agent'] ?? 'unknown').split('/')[0]!.slice(0, 128);
}

export function trackCreate(call: ResourceCall, object: ApiObject): void {
  track(call, undefined, object);
}

export function trackUpdate(call: ResourceCall, old: ApiObject, object: ApiObject): void {
  track(call, old, object);
}

function track(call: ResourceCall, old: ApiObject | undefined, object: ApiObject): void {
  trackFields({
    old,
    object,
    schema: call.definition.schema,
    manager: managerOf(call),
    subresource: call.info.subresource,
    time: formatTime(Date.now()),
  });
}
