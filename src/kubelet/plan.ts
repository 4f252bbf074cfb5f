// What must be done to bring one pod from what the runtime has to what its spec says. Pure: the order of kuberuntime's
// SyncPod (kill what must go, sandbox, init containers one at a time, containers) comes out as plain data.
import { createHash } from 'node:crypto';
import type { Container, Pod } from '../api/types.ts';
import { findContainer, type RuntimeContainer, type RuntimePod } from './runtime-pod.ts';

export interface ContainerKill {
  container: RuntimeContainer;
  message: string;
}

export interface PodActions {
  /** Stop everything the pod has, sandbox included, before anything else (or for good, if nothing is to start). */
  killPod: boolean;
  /** The sandbox to use; undefined together with createSandbox. */
  sandboxId: string | undefined;
  createSandbox: boolean;
  /** Attempt number of the new sandbox. */
  attempt: number;
  kill: ContainerKill[];
  initContainerToStart: string | undefined;
  containersToStart: string[];
}

export interface ProbeVerdicts {
  /** true: the liveness or startup probe of this container has failed for good. */
  failed(containerId: string): 'liveness' | 'startup' | undefined;
}

export type RestartPolicy = 'Always' | 'OnFailure' | 'Never';

export function restartPolicyOf(pod: Pod): RestartPolicy {
  return (pod.spec?.restartPolicy as RestartPolicy | undefined) ?? 'Always';
}

/** Changes of these fields restart a container; nothing else of a running pod's containers can change. */
export function containerHash(container: Container): string {
  const text = JSON.stringify([container.name, container.image ?? '']);
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** True when a container that is not running is to be started (again). */
export function shouldStart(container: RuntimeContainer | undefined, policy: RestartPolicy): boolean {
  if (!container || container.phase === 'created' || container.phase === 'unknown') return true;
  if (container.phase === 'running') return false;
  return policy === 'Always' || (policy === 'OnFailure' && container.exitCode !== 0);
}

/** Whether the pod's newest sandbox can be used, and the attempt number of the next one. */
export function judgeSandbox(
  pod: Pod,
  runtime: RuntimePod,
): { usable: string | undefined; nextAttempt: number } {
  const newest = runtime.sandboxes[0];
  const nextAttempt = Math.max(-1, ...runtime.sandboxes.map(sandbox => sandbox.attempt)) + 1;
  const ready = runtime.sandboxes.filter(sandbox => sandbox.ready).length;
  const needsIp = pod.spec?.hostNetwork !== true;
  const usable = ready === 1 && newest?.ready === true && (!needsIp || newest.ips.length > 0);
  return { usable: usable ? newest.id : undefined, nextAttempt };
}

export function planPod(pod: Pod, runtime: RuntimePod, probes: ProbeVerdicts): PodActions {
  const policy = restartPolicyOf(pod);
  const { usable, nextAttempt } = judgeSandbox(pod, runtime);
  const actions: PodActions = {
    killPod: usable === undefined,
    sandboxId: usable,
    createSandbox: usable === undefined,
    attempt: nextAttempt,
    kill: [],
    initContainerToStart: undefined,
    containersToStart: [],
  };
  return usable === undefined
    ? planNewSandbox(pod, runtime, policy, actions)
    : planInSandbox(pod, runtime, policy, probes, actions);
}

function planNewSandbox(
  pod: Pod,
  runtime: RuntimePod,
  policy: RestartPolicy,
  actions: PodActions,
): PodActions {
  const containers = pod.spec?.containers ?? [];
  // What has finished for good is not run again because its sandbox died.
  if (policy === 'Never' && actions.attempt > 0 && runtime.containers.length > 0)
    return { ...actions, createSandbox: false };
  const toStart = containers
    .filter(spec => policy !== 'OnFailure' || !hasSucceeded(runtime, spec.name))
    .map(spec => spec.name);
  if (toStart.length === 0) return { ...actions, createSandbox: false };
  const firstInit = pod.spec?.initContainers?.[0]?.name;
  if (firstInit !== undefined) return { ...actions, initContainerToStart: firstInit };
  return { ...actions, containersToStart: toStart };
}

function hasSucceeded(runtime: RuntimePod, name: string): boolean {
  const container = findContainer(runtime, name);
  return container?.phase === 'exited' && container.exitCode === 0;
}

function planInSandbox(
  pod: Pod,
  runtime: RuntimePod,
  policy: RestartPolicy,
  probes: ProbeVerdicts,
  actions: PodActions,
): PodActions {
  const inSandbox: RuntimePod = {
    ...runtime,
    containers: runtime.containers.filter(container => container.sandboxId === actions.sandboxId),
  };
  const init = planInit(pod, inSandbox, policy);
  if (init.failed) return { ...actions, killPod: true };
  if (!init.done) {
    if (init.unknown) actions.kill.push({ container: init.unknown, message: 'its state is unknown' });
    return { ...actions, initContainerToStart: init.next };
  }
  let kept = 0;
  for (const spec of pod.spec?.containers ?? []) {
    const container = findContainer(inSandbox, spec.name);
    if (container?.phase !== 'running') {
      // A container of an earlier sandbox counts for its exit code, as the pod is the same.
      if (!container && policy === 'OnFailure' && hasSucceeded(runtime, spec.name)) continue;
      if (!shouldStart(container, policy)) continue;
      if (container?.phase === 'unknown')
        actions.kill.push({ container, message: `container ${spec.name} is in an unknown state` });
      actions.containersToStart.push(spec.name);
      continue;
    }
    const message = reasonToKill(spec, container, probes);
    if (message === undefined) {
      kept++;
      continue;
    }
    actions.kill.push({ container, message });
    if (policy !== 'Never' || container.hash !== containerHash(spec))
      actions.containersToStart.push(spec.name);
  }
  if (kept === 0 && actions.containersToStart.length === 0) actions.killPod = true;
  return actions;
}

function reasonToKill(
  spec: Container,
  container: RuntimeContainer,
  probes: ProbeVerdicts,
): string | undefined {
  if (container.hash !== '' && container.hash !== containerHash(spec))
    return `Container ${spec.name} definition changed, will be restarted`;
  const failed = probes.failed(container.id);
  return failed === undefined
    ? undefined
    : `Container ${spec.name} failed ${failed} probe, will be restarted`;
}

interface InitPlan {
  done: boolean;
  failed: boolean;
  next: string | undefined;
  unknown?: RuntimeContainer;
}

function planInit(pod: Pod, runtime: RuntimePod, policy: RestartPolicy): InitPlan {
  const inits = pod.spec?.initContainers ?? [];
  const done: InitPlan = { done: true, failed: false, next: undefined };
  if (inits.length === 0) return done;
  // Once a main container was made in this sandbox, the init containers have done their work.
  if ((pod.spec?.containers ?? []).some(spec => findContainer(runtime, spec.name))) return done;
  for (let i = inits.length - 1; i >= 0; i--) {
    const container = findContainer(runtime, inits[i]!.name);
    if (!container) continue;
    if (container.phase === 'running') return { done: false, failed: false, next: undefined };
    if (container.phase === 'exited') {
      if (container.exitCode === 0)
        return i === inits.length - 1 ? done : { done: false, failed: false, next: inits[i + 1]!.name };
      if (policy === 'Never') return { done: false, failed: true, next: undefined };
      return { done: false, failed: false, next: inits[i]!.name };
    }
    const unknown = container.phase === 'unknown' ? container : undefined;
    return { done: false, failed: false, next: inits[i]!.name, unknown };
  }
  return { done: false, failed: false, next: inits[0]!.name };
}
