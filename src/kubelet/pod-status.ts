// The status the API gets, made from spec and runtime. Pure; follows the kubelet's generateAPIPodStatus: what
// `kubectl get pods` shows (phase, reasons such as CrashLoopBackOff, readiness) is decided here and nowhere else.
import type {
  Container,
  ContainerState,
  ContainerStatus,
  Pod,
  PodCondition,
  PodStatus,
} from '../api/types.ts';
import { formatTime } from '../lib/clock.ts';
import { DEFAULT_RUNTIME_NAME } from './names.ts';
import { type RestartPolicy, restartPolicyOf, shouldStart } from './plan.ts';
import { qosClass } from './resources.ts';
import { findContainer, type RuntimeContainer, type RuntimePod } from './runtime-pod.ts';

/** Why a container that should run does not: `CrashLoopBackOff`, `ErrImagePull`, `CreateContainerConfigError`, … */
export interface WaitReason {
  reason: string;
  message: string;
}

export interface StatusInput {
  pod: Pod;
  runtime: RuntimePod;
  nodeIps: readonly string[];
  nowMs: number;
  /** By container name; only asked for containers that do not run. */
  waiting: ReadonlyMap<string, WaitReason>;
  /** By container id. */
  probes: {
    ready(containerId: string, spec: Container): boolean;
    started(containerId: string, spec: Container): boolean;
  };
  /** Text of a finished container's termination message file. */
  terminationMessage(container: RuntimeContainer): string;
  /** The pod is being ended: nothing is started any more, and it is not Ready. */
  terminating?: boolean;
  runtimeName?: string;
}

type Phase = 'Pending' | 'Running' | 'Succeeded' | 'Failed';

/** Condition types the kubelet owns; others belong to somebody else and are kept. */
const OWNED_CONDITIONS = [
  'PodReadyToStartContainers',
  'Initialized',
  'Ready',
  'ContainersReady',
  'PodScheduled',
];

export function podStatus(input: StatusInput): PodStatus {
  const { pod, runtime, nowMs } = input;
  const previous = pod.status ?? {};
  const policy = restartPolicyOf(pod);
  const initSpecs = pod.spec?.initContainers ?? [];
  const initsDone = initSpecs.every(spec => {
    const container = findContainer(runtime, spec.name);
    return container?.phase === 'exited' && container.exitCode === 0;
  });
  const mainSpecs = pod.spec?.containers ?? [];
  const mainSeen = mainSpecs.some(spec => findContainer(runtime, spec.name));
  const initialized = initSpecs.length === 0 || initsDone || mainSeen;
  const defaultWaiting = initialized ? 'ContainerCreating' : 'PodInitializing';
  const status = (spec: Container, init: boolean) =>
    containerStatus(
      input,
      spec,
      policy,
      init,
      init && defaultWaiting === 'ContainerCreating' ? 'PodInitializing' : defaultWaiting,
    );
  const containerStatuses = mainSpecs.map(spec => status(spec, false));
  const initContainerStatuses = initSpecs.map(spec => status(spec, true));
  const phase = podPhase(
    pod,
    policy,
    initialized,
    initContainerStatuses,
    containerStatuses,
    input.terminating === true,
  );
  const hostNetwork = pod.spec?.hostNetwork === true;
  const sandbox = runtime.sandboxes[0];
  const ended = phase === 'Succeeded' || phase === 'Failed';
  const runtimeIps = sandbox?.ready ? sandbox.ips : [];
  // A pod that has ended keeps the addresses it had, for whoever reads its record.
  const ips = hostNetwork
    ? [...input.nodeIps]
    : runtimeIps.length > 0 || !ended
      ? runtimeIps
      : (previous.podIPs ?? []).map(entry => entry.ip ?? '');
  const hostIps = input.nodeIps.map(ip => ({ ip }));
  return {
    phase,
    conditions: conditions(input, phase, initialized, sandbox?.ready === true, containerStatuses),
    ...(previous.reason === undefined ? {} : { reason: previous.reason }),
    ...(previous.message === undefined ? {} : { message: previous.message }),
    hostIP: input.nodeIps[0],
    hostIPs: hostIps,
    ...(ips.length > 0 ? { podIP: ips[0], podIPs: ips.map(ip => ({ ip })) } : {}),
    startTime: previous.startTime ?? formatTime(nowMs),
    ...(initSpecs.length > 0 ? { initContainerStatuses } : {}),
    containerStatuses,
    qosClass: previous.qosClass ?? qosClass(pod),
  };
}

function containerStatus(
  input: StatusInput,
  spec: Container,
  policy: RestartPolicy,
  init: boolean,
  defaultWaiting: string,
): ContainerStatus {
  const history = input.runtime.containers.filter(container => container.name === spec.name);
  const [current, before] = history;
  const old = (init ? input.pod.status?.initContainerStatuses : input.pod.status?.containerStatuses)?.find(
    entry => entry.name === spec.name,
  );
  const runtimeName = input.runtimeName ?? DEFAULT_RUNTIME_NAME;
  const running = current?.phase === 'running';
  const started = running && (init || input.probes.started(current.id, spec));
  const succeeded = current?.phase === 'exited' && current.exitCode === 0;
  const ready = init
    ? succeeded
    : started && input.terminating !== true && input.probes.ready(current.id, spec);
  const waiting = input.waiting.get(spec.name);
  const restarts =
    current?.phase === 'exited' && willRestart(current, policy, init) && input.terminating !== true;
  const state = containerState(input, current, waiting, restarts, defaultWaiting);
  // A container that waits to be restarted shows its last run as lastState.
  const last = current?.phase === 'exited' && state.terminated === undefined ? current : before;
  return {
    name: spec.name,
    image: current?.image || (spec.image ?? ''),
    imageID: current?.imageRef ?? '',
    ...(current ? { containerID: `${runtimeName}://${current.id}` } : {}),
    ready,
    started,
    restartCount: current?.restartCount ?? old?.restartCount ?? 0,
    state,
    lastState: last?.phase === 'exited' ? terminated(input, last) : {},
  };
}

function willRestart(container: RuntimeContainer, policy: RestartPolicy, init: boolean): boolean {
  return init ? container.exitCode !== 0 && policy !== 'Never' : shouldStart(container, policy);
}

function containerState(
  input: StatusInput,
  current: RuntimeContainer | undefined,
  waiting: WaitReason | undefined,
  restarts: boolean,
  defaultWaiting: string,
): ContainerState {
  if (current?.phase === 'running') return { running: { startedAt: formatTime(current.startedAtMs) } };
  if (current?.phase === 'exited' && !(restarts && waiting)) return terminated(input, current);
  if (waiting) return { waiting: { ...waiting } };
  return { waiting: { reason: defaultWaiting } };
}

function terminated(input: StatusInput, container: RuntimeContainer): ContainerState {
  const runtimeName = input.runtimeName ?? DEFAULT_RUNTIME_NAME;
  const message = input.terminationMessage(container) || container.message;
  return {
    terminated: {
      exitCode: container.exitCode,
      reason: container.reason || (container.exitCode === 0 ? 'Completed' : 'Error'),
      ...(message ? { message } : {}),
      startedAt:
        container.startedAtMs > 0 ? formatTime(container.startedAtMs) : formatTime(container.createdAtMs),
      finishedAt: formatTime(container.finishedAtMs),
      containerID: `${runtimeName}://${container.id}`,
    },
  };
}

/** Same rules as the kubelet's getPhase. */
function podPhase(
  pod: Pod,
  policy: RestartPolicy,
  initialized: boolean,
  inits: readonly ContainerStatus[],
  mains: readonly ContainerStatus[],
  terminating: boolean,
): Phase {
  const before = pod.status?.phase;
  if (before === 'Failed' || before === 'Succeeded') return before;
  const initFailed = inits.some(status => (status.state?.terminated?.exitCode ?? 0) !== 0);
  if (!initialized) return initFailed && (policy === 'Never' || terminating) ? 'Failed' : 'Pending';
  let waiting = 0;
  let running = 0;
  let failed = 0;
  for (const { state, lastState } of mains) {
    const ended = state?.terminated ?? (state?.waiting ? lastState?.terminated : undefined);
    if (state?.running) running++;
    else if (!ended) waiting++;
    else if (ended.exitCode !== 0) failed++;
  }
  if (terminating && running === 0) return failed + waiting > 0 ? 'Failed' : 'Succeeded';
  if (waiting > 0) return 'Pending';
  if (running > 0 || policy === 'Always') return 'Running';
  if (failed === 0) return 'Succeeded';
  return policy === 'Never' ? 'Failed' : 'Running';
}

function conditions(
  input: StatusInput,
  phase: Phase,
  initialized: boolean,
  sandboxReady: boolean,
  containers: readonly ContainerStatus[],
): PodCondition[] {
  const previous = input.pod.status?.conditions ?? [];
  const unready = containers.filter(status => !status.ready).map(status => status.name);
  const notReady = (): Partial<PodCondition> => {
    if (phase === 'Succeeded') return { reason: 'PodCompleted' };
    if (phase === 'Failed') return { reason: 'PodFailed' };
    return {
      reason: 'ContainersNotReady',
      message: `containers with unready status: [${unready.join(' ')}]`,
    };
  };
  const gates = (input.pod.spec?.readinessGates ?? []).map(gate => gate.conditionType);
  const closed = gates.filter(type => previous.find(entry => entry.type === type)?.status !== 'True');
  const containersReady = unready.length === 0 && phase === 'Running';
  const ready = containersReady && closed.length === 0;
  const notInitialized = (): Partial<PodCondition> => ({
    reason: 'ContainersNotInitialized',
    message: 'containers with incomplete status',
  });
  const wanted: PodCondition[] = [
    { type: 'PodReadyToStartContainers', status: sandboxReady ? 'True' : 'False' },
    initialized
      ? { type: 'Initialized', status: 'True', ...(phase === 'Succeeded' ? { reason: 'PodCompleted' } : {}) }
      : { type: 'Initialized', status: 'False', ...notInitialized() },
    {
      type: 'Ready',
      status: ready ? 'True' : 'False',
      ...(ready
        ? {}
        : containersReady
          ? { reason: 'ReadinessGatesNotReady', message: closed.join(', ') }
          : notReady()),
    },
    {
      type: 'ContainersReady',
      status: containersReady ? 'True' : 'False',
      ...(containersReady ? {} : notReady()),
    },
    { type: 'PodScheduled', status: 'True' },
  ];
  const now = formatTime(input.nowMs);
  const own = wanted.map(condition => {
    const old = previous.find(entry => entry.type === condition.type);
    const since = old?.status === condition.status ? (old.lastTransitionTime ?? now) : now;
    return { ...condition, lastTransitionTime: since };
  });
  return [...own, ...previous.filter(entry => !OWNED_CONDITIONS.includes(entry.type))];
}
