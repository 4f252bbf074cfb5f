// What every part of the kubelet's pod machinery works with: one explicit object, made once in kubelet.ts.
import type { Pod, PodStatus, Service, Stored } from '../api/types.ts';
import type { Logger } from '../observe/log.ts';
import type { KeyedBackOff } from './back-off.ts';
import type { CriClient } from './cri-client.ts';
import type { DnsSettings } from './dns.ts';
import type { NodeFacts } from './downward.ts';
import type { ImageManager } from './image-manager.ts';
import type { Prober } from './prober.ts';
import type { ProjectionSources } from './projection.ts';
import type { RuntimeState } from './runtime-state.ts';

/** The kubelet's way to the API, as far as pods are concerned. */
export interface PodApi {
  /** Pushes a status soon; the latest wins. */
  publishStatus(pod: Stored<Pod>, status: PodStatus): void;
  /** Resolves once the pod's last published status has arrived (or the pod is gone). */
  flushStatus(uid: string): Promise<void>;
  /** Deletes the object for good: grace period 0, and only if it is still this pod. */
  finishPod(pod: Stored<Pod>): Promise<void>;
  event(pod: Pod, type: 'Normal' | 'Warning', reason: string, message: string): void;
}

export interface NodeContext {
  cri: CriClient;
  runtime: RuntimeState;
  images: ImageManager;
  prober: Prober;
  restarts: KeyedBackOff;
  api: PodApi;
  sources: ProjectionSources;
  /** Resolves with all Services once they are known. */
  services(): Promise<readonly Service[]>;
  node: NodeFacts;
  dns: DnsSettings;
  /** Of all pods, e.g. `/podwire/lab/node1`; each pod's is `<parent>/pod<uid>`. */
  cgroupParent: string;
  podLogDir: string;
  stateDir: string;
  runtimeName: string;
  log: Logger;
}
