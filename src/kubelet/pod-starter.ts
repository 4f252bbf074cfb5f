// Carries out what plan.ts decided to start: the sandbox, an init container, containers. What keeps a container from
// starting becomes its waiting reason; it does not keep the others from starting.
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Container, Pod, Stored } from '../api/types.ts';
import { errorMessage, PodwireError } from '../lib/errors.ts';
import { containerConfig, DEFAULT_TERMINATION_MESSAGE_PATH, mount } from './container-config.ts';
import { CriError } from './cri-client.ts';
import { podDns, podHosts } from './dns.ts';
import type { PodFacts } from './downward.ts';
import { ContainerConfigError, containerEnv } from './env.ts';
import type { Mount, PodSandboxConfig } from './gen/cri.ts';
import { StartError } from './image-manager.ts';
import type { NodeContext } from './node-context.ts';
import type { PodActions } from './plan.ts';
import { podCgroup, podDirectory, podLogDirectory, terminationMessagePath } from './pod-paths.ts';
import type { WaitReason } from './pod-status.ts';
import { httpProbe } from './probe.ts';
import { findContainer, type RuntimeContainer, type RuntimePod } from './runtime-pod.ts';
import { sandboxConfig } from './sandbox-config.ts';
import { serviceEnv, visibleServices } from './service-env.ts';
import { prepareVolumes, type VolumePaths, volumeMounts } from './volumes.ts';

export interface StartResult {
  waiting: Map<string, WaitReason>;
  /** Sync again after this, e.g. when a back-off ends. */
  retryAfterMs: number | undefined;
}

const NETWORK_RETRY_MS = 50;
const CONFIG_RETRY_MS = 2_000;
const START_RETRY_MS = 1_000;

interface Launch {
  pod: Stored<Pod>;
  runtime: RuntimePod;
  sandboxId: string;
  sandbox: PodSandboxConfig;
  facts: PodFacts;
  volumes: VolumePaths;
}

export async function startPod(
  context: NodeContext,
  pod: Stored<Pod>,
  runtime: RuntimePod,
  actions: PodActions,
): Promise<StartResult> {
  const names = actions.initContainerToStart ? [actions.initContainerToStart] : actions.containersToStart;
  const result: StartResult = { waiting: new Map(), retryAfterMs: undefined };
  if (names.length === 0 && !actions.createSandbox) return result;
  const facts: PodFacts = { pod, podIps: runtime.sandboxes[0]?.ips ?? [], node: context.node };
  let volumes: VolumePaths;
  try {
    volumes = await prepareVolumes(podDirectory(context, pod.metadata.uid), facts, context.sources);
  } catch (thrown) {
    if (!(thrown instanceof PodwireError)) throw thrown;
    context.api.event(pod, 'Warning', 'FailedMount', thrown.message);
    return { waiting: new Map(), retryAfterMs: CONFIG_RETRY_MS };
  }
  const config = sandboxConfig({
    pod,
    attempt: Math.max(0, actions.createSandbox ? actions.attempt : (runtime.sandboxes[0]?.attempt ?? 0)),
    logDirectory: podLogDirectory(context, { ...runtime }),
    dns: podDns(pod, context.dns),
    cgroupParent: podCgroup(context, pod.metadata.uid),
  });
  let sandboxId = actions.sandboxId;
  if (actions.createSandbox) {
    const created = await createSandbox(context, pod, config);
    if (typeof created === 'number') return { waiting: new Map(), retryAfterMs: created };
    sandboxId = created.id;
    facts.podIps = created.ips;
  }
  if (sandboxId === undefined) return result;
  const hostNetwork = pod.spec?.hostNetwork === true;
  if (hostNetwork) facts.podIps = context.node.nodeIps;
  const launch: Launch = { pod, runtime, sandboxId, sandbox: config, facts, volumes };
  await writeHosts(context, launch);
  for (const name of names) {
    try {
      await startContainer(context, launch, name);
    } catch (thrown) {
      const problem = startProblem(thrown);
      result.waiting.set(name, { reason: problem.code, message: problem.message });
      result.retryAfterMs = Math.min(
        result.retryAfterMs ?? Number.POSITIVE_INFINITY,
        problem.retryAfterMs ?? CONFIG_RETRY_MS,
      );
      context.log.warn({ pod: keyOf(pod), container: name, reason: problem.code }, problem.message);
    }
  }
  return result;
}

function keyOf(pod: Stored<Pod>): string {
  return `${pod.metadata.namespace}/${pod.metadata.name}`;
}

function startProblem(thrown: unknown): StartError {
  if (thrown instanceof StartError) return thrown;
  if (
    thrown instanceof ContainerConfigError ||
    (thrown instanceof PodwireError && thrown.code === 'UNSUPPORTED_FIELD')
  )
    return new StartError('CreateContainerConfigError', thrown.message, CONFIG_RETRY_MS);
  throw thrown;
}

/** The new sandbox, or the milliseconds after which to try again. */
async function createSandbox(
  context: NodeContext,
  pod: Stored<Pod>,
  config: PodSandboxConfig,
): Promise<{ id: string; ips: string[] } | number> {
  await mkdir(config.logDirectory, { recursive: true, mode: 0o755 });
  // Asking first is cheap; a sandbox that fails for want of a network costs a hundred milliseconds and a clean-up.
  if (pod.spec?.hostNetwork !== true) {
    const { status } = await context.cri.status();
    const network = status?.conditions.find(condition => condition.type === 'NetworkReady');
    if (network && !network.status) return NETWORK_RETRY_MS;
  }
  try {
    const id = await context.cri.runPodSandbox(config);
    const status = await context.cri.podSandboxStatus(id);
    const { ip = '', additionalIps = [] } = status?.network ?? {};
    return { id, ips: [ip, ...additionalIps.map(entry => entry.ip)].filter(address => address !== '') };
  } catch (thrown) {
    if (!(thrown instanceof CriError)) throw thrown;
    if (thrown.code === 'CRI_UNAVAILABLE') throw thrown;
    context.api.event(
      pod,
      'Warning',
      'FailedCreatePodSandBox',
      `Failed to create pod sandbox: ${thrown.details}`,
    );
    context.log.warn({ pod: keyOf(pod), error: thrown }, 'the pod sandbox could not be made');
    return START_RETRY_MS;
  }
}

function hostsPath(context: NodeContext, pod: Stored<Pod>): string {
  return join(podDirectory(context, pod.metadata.uid), 'etc-hosts');
}

async function writeHosts(context: NodeContext, launch: Launch): Promise<void> {
  const path = hostsPath(context, launch.pod);
  await mkdir(dirname(path), { recursive: true, mode: 0o750 });
  await writeFile(path, podHosts(launch.pod, launch.facts.podIps, context.dns.clusterDomain), {
    mode: 0o644,
  });
}

async function startContainer(context: NodeContext, launch: Launch, name: string): Promise<void> {
  const { pod, runtime } = launch;
  const spec = [...(pod.spec?.initContainers ?? []), ...(pod.spec?.containers ?? [])].find(
    entry => entry.name === name,
  );
  if (!spec) return;
  const last = findContainer(runtime, name);
  const backOffKey = `${pod.metadata.uid}_${name}`;
  if (last?.phase === 'exited') checkRestartBackOff(context, pod, spec, last, backOffKey);
  const image = await context.images.ensureImage(pod, spec, launch.sandbox, event =>
    context.api.event(pod, event.type, event.reason, event.message),
  );
  const restartCount = last ? last.restartCount + 1 : 0;
  const services = visibleServices(
    await context.services(),
    pod.metadata.namespace ?? 'default',
    pod.spec?.enableServiceLinks !== false,
  );
  const env = await containerEnv(launch.facts, spec, serviceEnv(services), context.sources.config);
  const messagePath = terminationMessagePath(context, pod.metadata.uid, name, restartCount);
  await mkdir(dirname(messagePath), { recursive: true, mode: 0o750 });
  await writeFile(messagePath, '', { mode: 0o666 });
  const config = containerConfig({
    pod,
    container: spec,
    image,
    restartCount,
    env,
    mounts: [
      ...(await volumeMounts(pod, spec, launch.volumes, env)),
      ...standardMounts(context, launch, spec, messagePath),
    ],
    terminationMessageHostPath: messagePath,
    nodeMemoryBytes: context.node.memoryBytes,
  });
  await mkdir(join(launch.sandbox.logDirectory, name), { recursive: true, mode: 0o755 });
  const id = await createAndStart(context, launch, spec, config);
  await removeOldRuns(context, runtime, name);
  await runPostStart(context, launch, spec, id);
}

function checkRestartBackOff(
  context: NodeContext,
  pod: Stored<Pod>,
  spec: Container,
  last: RuntimeContainer,
  key: string,
): void {
  const now = Date.now();
  const waitMs = context.restarts.remainingMs(key, last.finishedAtMs, now);
  if (waitMs > 0) {
    const delay = formatDelay(context.restarts.delayMs(key));
    const message = `back-off ${delay} restarting failed container=${spec.name} pod=${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})`;
    context.api.event(
      pod,
      'Warning',
      'BackOff',
      `Back-off restarting failed container ${spec.name} in pod ${keyOf(pod)}`,
    );
    throw new StartError('CrashLoopBackOff', message, waitMs);
  }
  context.restarts.next(key, last.finishedAtMs, now);
}

/** As Go prints a duration: 10s, 1m20s, 5m0s. */
function formatDelay(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`;
}

function standardMounts(context: NodeContext, launch: Launch, spec: Container, messagePath: string): Mount[] {
  const wanted = new Set((spec.volumeMounts ?? []).map(entry => entry.mountPath));
  const mounts: Mount[] = [];
  if (!wanted.has('/etc/hosts')) mounts.push(mount(hostsPath(context, launch.pod), '/etc/hosts'));
  mounts.push(mount(messagePath, spec.terminationMessagePath || DEFAULT_TERMINATION_MESSAGE_PATH));
  return mounts;
}

async function createAndStart(
  context: NodeContext,
  launch: Launch,
  spec: Container,
  config: ReturnType<typeof containerConfig>,
): Promise<string> {
  const { pod } = launch;
  let id: string;
  try {
    id = await context.cri.createContainer(launch.sandboxId, config, launch.sandbox);
  } catch (thrown) {
    throw runtimeProblem(context, pod, 'CreateContainerError', thrown);
  }
  context.api.event(pod, 'Normal', 'Created', `Created container ${spec.name}`);
  try {
    await context.cri.startContainer(id);
  } catch (thrown) {
    throw runtimeProblem(context, pod, 'RunContainerError', thrown);
  }
  context.api.event(pod, 'Normal', 'Started', `Started container ${spec.name}`);
  return id;
}

function runtimeProblem(context: NodeContext, pod: Stored<Pod>, reason: string, thrown: unknown): unknown {
  if (!(thrown instanceof CriError) || thrown.code === 'CRI_UNAVAILABLE') return thrown;
  context.api.event(pod, 'Warning', 'Failed', `Error: ${thrown.details}`);
  return new StartError(reason, thrown.details, START_RETRY_MS, { cause: thrown });
}

/** One finished run is kept (for `logs --previous`); older ones go, with their logs. */
async function removeOldRuns(context: NodeContext, runtime: RuntimePod, name: string): Promise<void> {
  const finished = runtime.containers.filter(
    container => container.name === name && container.phase !== 'running',
  );
  for (const old of finished.slice(1)) {
    await context.cri.removeContainer(old.id);
    if (old.logPath !== '') await rm(old.logPath, { force: true });
  }
}

async function runPostStart(
  context: NodeContext,
  launch: Launch,
  spec: Container,
  id: string,
): Promise<void> {
  const hook = spec.lifecycle?.postStart;
  if (!hook) return;
  let failure: string | undefined;
  try {
    if (hook.exec) {
      const { exitCode, stderr } = await context.cri.execSync(id, hook.exec.command ?? [], 0);
      if (exitCode !== 0)
        failure = `exit code ${exitCode}: ${Buffer.from(stderr).toString('utf8').slice(0, 512)}`;
    } else if (hook.httpGet) {
      const target = { container: spec, podIp: launch.facts.podIps[0] ?? '' };
      const outcome = await httpProbe(hook.httpGet, target, 30_000);
      if (!outcome.success) failure = outcome.message;
    }
  } catch (thrown) {
    failure = errorMessage(thrown);
  }
  if (failure === undefined) return;
  context.api.event(launch.pod, 'Warning', 'FailedPostStartHook', failure);
  await context.cri.stopContainer(id, launch.pod.spec?.terminationGracePeriodSeconds ?? 30);
  throw new StartError('PostStartHookError', failure, START_RETRY_MS);
}
