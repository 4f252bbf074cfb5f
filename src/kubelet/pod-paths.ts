// Where one pod's files are: logs as /var/log/pods has them, state as /var/lib/kubelet/pods has it.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode } from '../lib/errors.ts';
import type { NodeContext } from './node-context.ts';

export interface PodIdentity {
  uid: string;
  namespace: string;
  name: string;
}

export function podLogDirectory(context: Pick<NodeContext, 'podLogDir'>, pod: PodIdentity): string {
  return join(context.podLogDir, `${pod.namespace}_${pod.name}_${pod.uid}`);
}

export function podDirectory(context: Pick<NodeContext, 'stateDir'>, uid: string): string {
  return join(context.stateDir, 'pods', uid);
}

export function podCgroup(context: Pick<NodeContext, 'cgroupParent'>, uid: string): string {
  return context.cgroupParent === '' ? '' : `${context.cgroupParent}/pod${uid}`;
}

export function terminationMessagePath(
  context: Pick<NodeContext, 'stateDir'>,
  uid: string,
  container: string,
  restartCount: number,
): string {
  return join(podDirectory(context, uid), 'containers', container, `${restartCount}`);
}

/** Every pod that has a log or a state directory. */
export async function podsOnDisk(
  context: Pick<NodeContext, 'podLogDir' | 'stateDir'>,
): Promise<PodIdentity[]> {
  const found = new Map<string, PodIdentity>();
  for (const uid of await namesIn(join(context.stateDir, 'pods')))
    found.set(uid, { uid, namespace: '', name: '' });
  for (const entry of await namesIn(context.podLogDir)) {
    // Neither namespaces, names nor uids contain an underscore.
    const [namespace, name, uid, ...rest] = entry.split('_');
    if (namespace && name && uid && rest.length === 0) found.set(uid, { uid, namespace, name });
  }
  return [...found.values()];
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (thrown) {
    if (hasCode(thrown, 'ENOENT')) return [];
    throw thrown;
  }
}
