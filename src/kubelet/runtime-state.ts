// Reads pods from the runtime. `list` is the cheap relist (two calls for the whole node); `get` reads one pod in full.
// Statuses of exited containers never change, so they are asked for once.
import type { CriClient } from './cri-client.ts';
import { ContainerState, PodSandboxState } from './gen/cri.ts';
import { LABEL } from './names.ts';
import {
  emptyRuntimePod,
  newestFirst,
  type RuntimeContainer,
  type RuntimePod,
  toRuntimeContainer,
  toRuntimeSandbox,
} from './runtime-pod.ts';

/** One pod in a relist: enough to see that something changed. */
export interface PodSummary {
  uid: string;
  name: string;
  namespace: string;
  /** Every sandbox and container id with its state, sorted: equal text means nothing changed. */
  fingerprint: string;
}

export class RuntimeState {
  readonly #cri: CriClient;
  readonly #exited = new Map<string, RuntimeContainer>();

  constructor(cri: CriClient) {
    this.#cri = cri;
  }

  /** All pods the runtime knows, by uid. Sandboxes and containers that no kubelet made are left out. */
  async list(): Promise<Map<string, PodSummary>> {
    const [sandboxes, containers] = await Promise.all([
      this.#cri.listPodSandboxes(),
      this.#cri.listContainers(),
    ]);
    const pods = new Map<string, PodSummary & { parts: string[] }>();
    const add = (labels: Record<string, string>, part: string) => {
      const uid = labels[LABEL.podUid];
      if (!uid) return;
      let pod = pods.get(uid);
      if (!pod) {
        pod = {
          uid,
          name: labels[LABEL.podName] ?? '',
          namespace: labels[LABEL.podNamespace] ?? '',
          fingerprint: '',
          parts: [],
        };
        pods.set(uid, pod);
      }
      pod.parts.push(part);
    };
    for (const sandbox of sandboxes) add(sandbox.labels, `s ${sandbox.id} ${sandbox.state}`);
    for (const container of containers) add(container.labels, `c ${container.id} ${container.state}`);
    this.#forgetAllBut(new Set(containers.map(container => container.id)));
    for (const pod of pods.values()) pod.fingerprint = pod.parts.sort().join('\n');
    return pods;
  }

  /** One pod in full, from the runtime itself. */
  async get(uid: string, namespace: string, name: string): Promise<RuntimePod> {
    const selector = { [LABEL.podUid]: uid };
    const [sandboxes, containers] = await Promise.all([
      this.#cri.listPodSandboxes(selector),
      this.#cri.listContainers(selector),
    ]);
    const pod = emptyRuntimePod(uid, namespace, name);
    const [sandboxStatuses, containerStatuses] = await Promise.all([
      Promise.all(
        sandboxes.map(async sandbox => {
          // A dead sandbox has no network to ask for, and asking costs a look at its namespace.
          if (sandbox.state === PodSandboxState.SANDBOX_READY) {
            const status = await this.#cri.podSandboxStatus(sandbox.id);
            if (status) return toRuntimeSandbox(status);
          }
          return toRuntimeSandbox({ ...sandbox, state: PodSandboxState.SANDBOX_NOTREADY });
        }),
      ),
      Promise.all(
        containers.map(async container => {
          const known = this.#exited.get(container.id);
          if (known) return known;
          const status = await this.#cri.containerStatus(container.id);
          if (!status) return undefined;
          const result = toRuntimeContainer(status, container.podSandboxId);
          if (status.state === ContainerState.CONTAINER_EXITED) this.#exited.set(container.id, result);
          return result;
        }),
      ),
    ]);
    pod.sandboxes = newestFirst(sandboxStatuses);
    pod.containers = newestFirst(containerStatuses.filter(container => container !== undefined));
    return pod;
  }

  #forgetAllBut(ids: Set<string>): void {
    for (const id of this.#exited.keys()) if (!ids.has(id)) this.#exited.delete(id);
  }
}
