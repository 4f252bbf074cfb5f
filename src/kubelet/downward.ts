// The downward API: values of a pod's own fields, for variables and files. Pure.
import type { Container, Pod } from '../api/types.ts';
import { PodwireError } from '../lib/errors.ts';
import { resourceFieldValue } from './resources.ts';

export interface NodeFacts {
  nodeName: string;
  nodeIps: readonly string[];
  cpus: number;
  memoryBytes: number;
}

/** What the pod knows of itself at the time: addresses exist only once its sandbox does. */
export interface PodFacts {
  pod: Pod;
  podIps: readonly string[];
  node: NodeFacts;
}

/** Keys sorted, values quoted as Go's %q: the format of labels and annotations in downward API files. */
function formatMap(map: Record<string, string> | undefined): string {
  return Object.entries(map ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join('\n');
}

/** Throws PodwireError('UNSUPPORTED_FIELD') for a path the downward API does not have. */
export function fieldValue(facts: PodFacts, path: string): string {
  const { pod, podIps, node } = facts;
  const metadata = pod.metadata ?? {};
  const subscript = /^metadata\.(labels|annotations)\['(.*)'\]$/.exec(path);
  if (subscript) return metadata[subscript[1] as 'labels' | 'annotations']?.[subscript[2]!] ?? '';
  switch (path) {
    case 'metadata.name':
      return metadata.name ?? '';
    case 'metadata.namespace':
      return metadata.namespace ?? '';
    case 'metadata.uid':
      return metadata.uid ?? '';
    case 'metadata.labels':
      return formatMap(metadata.labels);
    case 'metadata.annotations':
      return formatMap(metadata.annotations);
    case 'spec.nodeName':
      return pod.spec?.nodeName ?? node.nodeName;
    case 'spec.serviceAccountName':
      return pod.spec?.serviceAccountName ?? '';
    case 'status.hostIP':
      return node.nodeIps[0] ?? '';
    case 'status.hostIPs':
      return node.nodeIps.join(',');
    case 'status.podIP':
      return podIps[0] ?? '';
    case 'status.podIPs':
      return podIps.join(',');
    default:
      throw new PodwireError('UNSUPPORTED_FIELD', `unsupported fieldPath: ${path}`);
  }
}

/** Throws PodwireError('UNSUPPORTED_FIELD') for an unknown container or resource. */
export function resourceValue(
  facts: PodFacts,
  own: Container,
  ref: { resource: string; containerName?: string; divisor?: string },
): string {
  const all = [...(facts.pod.spec?.containers ?? []), ...(facts.pod.spec?.initContainers ?? [])];
  const container = ref.containerName ? all.find(entry => entry.name === ref.containerName) : own;
  const value = container && resourceFieldValue(container, ref.resource, ref.divisor, facts.node);
  if (value === undefined)
    throw new PodwireError(
      'UNSUPPORTED_FIELD',
      `unsupported resource ${ref.resource} of ${ref.containerName ?? own.name}`,
    );
  return value;
}
