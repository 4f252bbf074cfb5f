// Ends containers and pods: preStop hook, stop signal, grace period, KILL; then the sandbox with its network. The grace
// period can be cut short while it runs (a second, impatient delete).
import { rm } from 'node:fs/promises';
import type { Container, Pod } from '../api/types.ts';
import { errorMessage } from '../lib/errors.ts';
import { removeCgroup } from './cgroup.ts';
import { DEFAULT_GRACE_PERIOD_SECONDS } from './names.ts';
import type { NodeContext } from './node-context.ts';
import { podCgroup, podDirectory, podLogDirectory } from './pod-paths.ts';
import { httpProbe } from './probe.ts';
import type { RuntimeContainer, RuntimePod } from './runtime-pod.ts';
import { removePodDirectory } from './volumes.ts';

/** Even a pod that has used up its grace in its preStop hook gets this long to end by itself. */
const MIN_GRACE_SECONDS = 2;

export interface KillOptions {
  /** undefined: each container's own, from its spec. */
  gracePeriodSeconds?: number;
  /** When it fires, whatever still runs is killed at once. */
  hurry?: AbortSignal;
  message: string;
}

/** Returns when the container is down. Being gone already is success. */
export async function killContainer(
  context: NodeContext,
  pod: Pod | undefined,
  runtime: RuntimePod,
  container: RuntimeContainer,
  options: KillOptions,
): Promise<void> {
  const spec = pod?.spec?.containers?.find(entry => entry.name === container.name);
  const grace = options.gracePeriodSeconds ?? container.gracePeriodSeconds ?? DEFAULT_GRACE_PERIOD_SECONDS;
  const startedMs = Date.now();
  if (pod) context.api.event(pod, 'Normal', 'Killing', `Stopping container ${container.name}`);
  context.log.info(
    { pod: `${runtime.namespace}/${runtime.name}`, container: container.name, grace },
    `stopping container: ${options.message}`,
  );
  if (grace > 0 && pod && spec?.lifecycle?.preStop)
    await runPreStop(context, pod, spec, container, runtime.sandboxes[0]?.ips[0] ?? '', grace, options.hurry);
  const usedSeconds = (Date.now() - startedMs) / 1000;
  const left = grace === 0 ? 0 : Math.max(MIN_GRACE_SECONDS, grace - usedSeconds);
  const stop = context.cri.stopContainer(container.id, options.hurry?.aborted ? 0 : left);
  const kill = () => {
    context.cri.stopContainer(container.id, 0).catch(error => context.log.debug({ error }, 'impatient stop'));
  };
  options.hurry?.addEventListener('abort', kill, { once: true });
  try {
    await stop;
  } finally {
    options.hurry?.removeEventListener('abort', kill);
  }
}

async function runPreStop(
  context: NodeContext,
  pod: Pod,
  spec: Container,
  container: RuntimeContainer,
  podIp: string,
  graceSeconds: number,
  hurry: AbortSignal | undefined,
): Promise<void> {
  const hook = spec.lifecycle?.preStop;
  const run = async (): Promise<void> => {
    if (hook?.exec) await context.cri.execSync(container.id, hook.exec.command ?? [], graceSeconds);
    else if (hook?.httpGet) await httpProbe(hook.httpGet, { container: spec, podIp }, graceSeconds * 1000);
    else {
      const seconds = (hook as { sleep?: { seconds: number } } | undefined)?.sleep?.seconds ?? 0;
      await new Promise(resolve => setTimeout(resolve, Math.min(seconds, graceSeconds) * 1000));
    }
  };
  const hurried = new Promise<void>(resolve =>
    hurry?.addEventListener('abort', () => resolve(), { once: true }),
  );
  try {
    await Promise.race([run(), hurried]);
  } catch (thrown) {
    context.api.event(pod, 'Warning', 'FailedPreStopHook', errorMessage(thrown));
  }
}

/** Stops all containers, then all sandboxes. The network of each sandbox is given back. */
export async function killPod(
  context: NodeContext,
  pod: Pod | undefined,
  runtime: RuntimePod,
  options: KillOptions,
): Promise<void> {
  const alive = runtime.containers.filter(
    container => container.phase === 'running' || container.phase === 'unknown',
  );
  await Promise.all(alive.map(container => killContainer(context, pod, runtime, container, options)));
  await Promise.all(runtime.sandboxes.map(sandbox => context.cri.stopPodSandbox(sandbox.id)));
}

/** Removes what a stopped pod has left: containers, sandboxes, directories, control groups. Idempotent. */
export async function removePod(context: NodeContext, runtime: RuntimePod): Promise<void> {
  for (const sandbox of runtime.sandboxes) await context.cri.removePodSandbox(sandbox.id);
  const sandboxes = new Set(runtime.sandboxes.map(sandbox => sandbox.id));
  for (const container of runtime.containers)
    if (!sandboxes.has(container.sandboxId)) await context.cri.removeContainer(container.id);
  await removePodDirectory(podDirectory(context, runtime.uid));
  await rm(podLogDirectory(context, runtime), { recursive: true, force: true });
  const cgroup = podCgroup(context, runtime.uid);
  if (cgroup !== '' && !removeCgroup(cgroup))
    context.log.warn({ cgroup }, 'the pod is gone but its control group is not empty');
}
