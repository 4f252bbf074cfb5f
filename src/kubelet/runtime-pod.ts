// A pod as the container runtime has it: sandboxes and containers, newest first. Plain data in milliseconds, so that the
// planner and the status generator are pure and never see a protobuf message.
import {
  type ContainerStatus as CriContainerStatus,
  ContainerState as CriState,
  PodSandboxState,
  type PodSandboxStatus,
} from './gen/cri.ts';
import { ANNOTATION, LABEL } from './names.ts';

export type ContainerPhase = 'created' | 'running' | 'exited' | 'unknown';

export interface RuntimeContainer {
  id: string;
  name: string;
  sandboxId: string;
  phase: ContainerPhase;
  restartCount: number;
  hash: string;
  createdAtMs: number;
  startedAtMs: number;
  finishedAtMs: number;
  exitCode: number;
  reason: string;
  message: string;
  image: string;
  imageRef: string;
  logPath: string;
  gracePeriodSeconds?: number;
  terminationMessageHostPath?: string;
}

export interface RuntimeSandbox {
  id: string;
  attempt: number;
  ready: boolean;
  createdAtMs: number;
  ips: string[];
}

export interface RuntimePod {
  uid: string;
  name: string;
  namespace: string;
  sandboxes: RuntimeSandbox[];
  containers: RuntimeContainer[];
}

export function emptyRuntimePod(uid: string, namespace: string, name: string): RuntimePod {
  return { uid, name, namespace, sandboxes: [], containers: [] };
}

const PHASES: Record<number, ContainerPhase> = {
  [CriState.CONTAINER_CREATED]: 'created',
  [CriState.CONTAINER_RUNNING]: 'running',
  [CriState.CONTAINER_EXITED]: 'exited',
  [CriState.CONTAINER_UNKNOWN]: 'unknown',
};

/** Nanoseconds since the epoch, as CRI has them. */
function toMs(ns: bigint): number {
  return ns > 0n ? Number(ns / 1_000_000n) : 0;
}

export function toRuntimeContainer(status: CriContainerStatus, sandboxId: string): RuntimeContainer {
  const grace = status.annotations[ANNOTATION.gracePeriodSeconds];
  return {
    id: status.id,
    name: status.labels[LABEL.containerName] ?? status.metadata?.name ?? '',
    sandboxId,
    phase: PHASES[status.state] ?? 'unknown',
    restartCount: Number(status.annotations[ANNOTATION.restartCount] ?? status.metadata?.attempt ?? 0),
    hash: status.annotations[ANNOTATION.hash] ?? '',
    createdAtMs: toMs(status.createdAt),
    startedAtMs: toMs(status.startedAt),
    finishedAtMs: toMs(status.finishedAt),
    exitCode: status.exitCode,
    reason: status.reason,
    message: status.message,
    image: status.image?.image ?? '',
    imageRef: status.imageRef,
    logPath: status.logPath,
    gracePeriodSeconds: grace === undefined ? undefined : Number(grace),
    terminationMessageHostPath: status.annotations[ANNOTATION.terminationMessageHostPath],
  };
}

export function toRuntimeSandbox(status: PodSandboxStatus): RuntimeSandbox {
  const { ip = '', additionalIps = [] } = status.network ?? {};
  return {
    id: status.id,
    attempt: status.metadata?.attempt ?? 0,
    ready: status.state === PodSandboxState.SANDBOX_READY,
    createdAtMs: toMs(status.createdAt),
    ips: [ip, ...additionalIps.map(entry => entry.ip)].filter(address => address !== ''),
  };
}

export function newestFirst<T extends { createdAtMs: number }>(items: T[]): T[] {
  return items.sort((a, b) => b.createdAtMs - a.createdAtMs);
}

/** The newest container of this name. */
export function findContainer(pod: RuntimePod, name: string): RuntimeContainer | undefined {
  return pod.containers.find(container => container.name === name);
}
