// Where one pod's files are: logs as /var/log/pods has them, state as /var/lib/kubelet/pods has it.
import { join } from 'node:path';
import type { NodeContext } from './node-context.ts';

interface PodName {
  uid: string;
  namespace: string;
  name: string;
}

export function podLogDirectory(context: Pick<NodeContext, 'podLogDir'>, pod: PodName): string {
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
