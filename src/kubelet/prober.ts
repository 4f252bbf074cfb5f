// Runs the probes of all running containers and remembers their verdicts. A verdict changes after successThreshold or
// failureThreshold results in a row; each change is told to `onChange`, which syncs the pod.
import type { Container, Pod, Probe } from '../api/types.ts';
import type { CriClient } from './cri-client.ts';
import type { ProbeVerdicts } from './plan.ts';
import { runProbe } from './probe.ts';
import { findContainer, type RuntimeContainer, type RuntimePod } from './runtime-pod.ts';

export type ProbeKind = 'startup' | 'liveness' | 'readiness';

export interface ProberOptions {
  cri: CriClient;
  onChange(uid: string): void;
  onFailure(pod: Pod, container: Container, kind: ProbeKind, message: string): void;
}

const PROBE_FIELD = {
  startup: 'startupProbe',
  liveness: 'livenessProbe',
  readiness: 'readinessProbe',
} as const;
const KINDS = ['startup', 'liveness', 'readiness'] as const;

interface ProbeState {
  kind: ProbeKind;
  pod: Pod;
  container: Container;
  probe: Probe;
  containerId: string;
  podIp: string;
  startedAtMs: number;
  /** undefined: no verdict yet. */
  verdict: boolean | undefined;
  run: { success: boolean; count: number };
  timer: NodeJS.Timeout | undefined;
  stopped: boolean;
}

/**
 * What a kubelet before this one had found out about a container that still runs: a restart of ours must not take a
 * working pod out of its Services until the next probe.
 */
function earlierVerdict(pod: Pod, containerId: string, kind: ProbeKind): true | undefined {
  const status = pod.status?.containerStatuses?.find(entry =>
    entry.containerID?.endsWith(`//${containerId}`),
  );
  const known = kind === 'readiness' ? status?.ready : kind === 'startup' ? status?.started : false;
  return known === true ? true : undefined;
}

export class Prober implements ProbeVerdicts {
  readonly #options: ProberOptions;
  /** By container id, then kind. */
  readonly #states = new Map<string, Map<ProbeKind, ProbeState>>();

  constructor(options: ProberOptions) {
    this.#options = options;
  }

  /** Makes exactly the running containers of this pod be probed. */
  sync(pod: Pod, runtime: RuntimePod): void {
    const podIp = runtime.sandboxes[0]?.ips[0] ?? pod.status?.podIP ?? '';
    const uid = runtime.uid;
    const wanted = new Set<string>();
    for (const container of pod.spec?.containers ?? []) {
      const running = findContainer(runtime, container.name);
      if (running?.phase !== 'running') continue;
      wanted.add(running.id);
      this.#syncContainer(pod, container, running, podIp);
    }
    for (const [id, states] of this.#states) {
      const any = states.values().next().value;
      if (any?.pod.metadata?.uid === uid && !wanted.has(id)) this.#stopContainer(id);
    }
  }

  #syncContainer(pod: Pod, container: Container, running: RuntimeContainer, podIp: string): void {
    let states = this.#states.get(running.id);
    if (!states) {
      states = new Map();
      this.#states.set(running.id, states);
    }
    for (const kind of KINDS) {
      const probe = container[PROBE_FIELD[kind]];
      const known = states.get(kind);
      if (known) {
        Object.assign(known, { pod, container, podIp });
        continue;
      }
      if (!probe) continue;
      const state: ProbeState = {
        kind,
        pod,
        container,
        probe,
        containerId: running.id,
        podIp,
        startedAtMs: running.startedAtMs,
        verdict: earlierVerdict(pod, running.id, kind),
        run: { success: false, count: 0 },
        timer: undefined,
        stopped: false,
      };
      states.set(kind, state);
      const delayMs = running.startedAtMs + (probe.initialDelaySeconds ?? 0) * 1000 - Date.now();
      this.#schedule(state, Math.max(0, delayMs));
    }
  }

  /** True when the container's startup probe has succeeded, or it has none. */
  started(containerId: string, spec: Container): boolean {
    if (!spec.startupProbe) return true;
    return this.#states.get(containerId)?.get('startup')?.verdict === true;
  }

  ready(containerId: string, spec: Container): boolean {
    if (!spec.readinessProbe) return true;
    return this.#states.get(containerId)?.get('readiness')?.verdict === true;
  }

  failed(containerId: string): 'liveness' | 'startup' | undefined {
    const states = this.#states.get(containerId);
    if (states?.get('startup')?.verdict === false) return 'startup';
    return states?.get('liveness')?.verdict === false ? 'liveness' : undefined;
  }

  /** No probes for this pod any more (it is ending). */
  stopPod(uid: string): void {
    for (const [id, states] of this.#states)
      if (states.values().next().value?.pod.metadata?.uid === uid) this.#stopContainer(id);
  }

  stop(): void {
    for (const id of [...this.#states.keys()]) this.#stopContainer(id);
  }

  #stopContainer(id: string): void {
    for (const state of this.#states.get(id)?.values() ?? []) {
      state.stopped = true;
      clearTimeout(state.timer);
    }
    this.#states.delete(id);
  }

  #schedule(state: ProbeState, delayMs: number): void {
    state.timer = setTimeout(() => {
      void this.#tick(state);
    }, delayMs);
    state.timer.unref();
  }

  async #tick(state: ProbeState): Promise<void> {
    const periodMs = Math.max(1, state.probe.periodSeconds ?? 10) * 1000;
    // Liveness and readiness wait for the startup probe, and the startup probe ends with its success.
    const gated = state.kind !== 'startup' && !this.started(state.containerId, state.container);
    if (gated) {
      this.#schedule(state, Math.min(periodMs, 1_000));
      return;
    }
    const result = await runProbe(this.#options.cri, state.probe, state);
    if (state.stopped) return;
    this.#note(state, result.success, result.message);
    if (state.kind === 'startup' && state.verdict === true) return;
    // A container that is coming up is asked more often than its period says, so that it counts as soon as it can.
    const young =
      state.kind === 'readiness' && state.verdict === undefined && Date.now() - state.startedAtMs < 10_000;
    this.#schedule(state, young ? Math.min(periodMs, 250) : periodMs);
  }

  #note(state: ProbeState, success: boolean, message: string): void {
    if (!success) this.#options.onFailure(state.pod, state.container, state.kind, message);
    if (state.run.success === success) state.run.count++;
    else state.run = { success, count: 1 };
    const threshold = success ? (state.probe.successThreshold ?? 1) : (state.probe.failureThreshold ?? 3);
    if (state.run.count < threshold) return;
    // A readiness probe has no verdict "failed" before its first success: not ready is its beginning.
    if (state.verdict === success) return;
    state.verdict = success;
    this.#options.onChange(state.pod.metadata?.uid ?? '');
  }
}
