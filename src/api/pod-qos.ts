// A pod's quality of service class, from its containers' requests and limits (pkg/apis/core/helper/qos).
import { parseQuantity } from './quantity.ts';
import type { Pod } from './types.ts';

export type QosClass = 'Guaranteed' | 'Burstable' | 'BestEffort';

function positive(list: Record<string, string> | undefined, name: string): bigint {
  const text = list?.[name];
  if (text === undefined) return 0n;
  try {
    return parseQuantity(text).nano;
  } catch {
    return 0n; // Validation names the malformed quantity.
  }
}

/** Guaranteed: every container limits cpu and memory and requests the same. BestEffort: none asks for either. */
export function podQosClass(pod: Pod): QosClass {
  const containers = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])];
  let guaranteed = containers.length > 0;
  let asks = false;
  for (const { resources } of containers)
    for (const name of ['cpu', 'memory']) {
      const limit = positive(resources?.limits, name);
      const request = positive(resources?.requests, name) || limit;
      if (limit > 0n || request > 0n) asks = true;
      if (limit === 0n || limit !== request) guaranteed = false;
    }
  if (!asks) return 'BestEffort';
  return guaranteed ? 'Guaranteed' : 'Burstable';
}
