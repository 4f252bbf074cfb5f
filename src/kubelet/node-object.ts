// The Node object as its kubelet writes it: addresses, capacity, conditions, nodeInfo, labels. Pure.
import type { NodeCondition, NodeStatus } from '../api/types.ts';
import { formatTime } from '../lib/clock.ts';

export interface NodeDescription {
  name: string;
  ips: readonly string[];
  hostname: string;
  cpus: number;
  memoryBytes: number;
  storageBytes: number;
  maxPods: number;
  kubeletPort: number;
  kernelVersion: string;
  osImage: string;
  machineId: string;
  bootId: string;
  architecture: string;
  runtimeVersion: string;
  kubeletVersion: string;
  labels?: Readonly<Record<string, string>>;
}

export interface NodeHealth {
  /** undefined: all is well. */
  problem: string | undefined;
}

export function nodeLabels(node: NodeDescription): Record<string, string> {
  return {
    'kubernetes.io/hostname': node.hostname,
    'kubernetes.io/os': 'linux',
    'kubernetes.io/arch': node.architecture,
    'beta.kubernetes.io/os': 'linux',
    'beta.kubernetes.io/arch': node.architecture,
    ...node.labels,
  };
}

export function nodeStatus(
  node: NodeDescription,
  health: NodeHealth,
  previous: NodeStatus | undefined,
  nowMs: number,
): NodeStatus {
  const resources = {
    cpu: String(node.cpus),
    memory: `${Math.floor(node.memoryBytes / 1024)}Ki`,
    'ephemeral-storage': `${Math.floor(node.storageBytes / 1024)}Ki`,
    pods: String(node.maxPods),
  };
  return {
    addresses: [
      ...node.ips.map(address => ({ type: 'InternalIP', address })),
      { type: 'Hostname', address: node.hostname },
    ],
    capacity: resources,
    allocatable: resources,
    conditions: nodeConditions(health, previous?.conditions ?? [], nowMs),
    daemonEndpoints: { kubeletEndpoint: { Port: node.kubeletPort } },
    nodeInfo: {
      machineID: node.machineId,
      systemUUID: node.machineId,
      bootID: node.bootId,
      kernelVersion: node.kernelVersion,
      osImage: node.osImage,
      containerRuntimeVersion: node.runtimeVersion,
      kubeletVersion: node.kubeletVersion,
      kubeProxyVersion: node.kubeletVersion,
      operatingSystem: 'linux',
      architecture: node.architecture,
    },
  };
}

/** The kubelet's own conditions; those of others (NetworkUnavailable) are left out, a patch merges by type. */
export function nodeConditions(
  health: NodeHealth,
  previous: readonly NodeCondition[],
  nowMs: number,
): NodeCondition[] {
  const now = formatTime(nowMs);
  const condition = (
    type: string,
    status: 'True' | 'False',
    reason: string,
    message: string,
  ): NodeCondition => {
    const old = previous.find(entry => entry.type === type);
    return {
      type,
      status,
      reason,
      message,
      lastHeartbeatTime: now,
      lastTransitionTime: old?.status === status ? (old.lastTransitionTime ?? now) : now,
    };
  };
  return [
    condition(
      'MemoryPressure',
      'False',
      'KubeletHasSufficientMemory',
      'kubelet has sufficient memory available',
    ),
    condition('DiskPressure', 'False', 'KubeletHasNoDiskPressure', 'kubelet has no disk pressure'),
    condition('PIDPressure', 'False', 'KubeletHasSufficientPID', 'kubelet has sufficient PID available'),
    health.problem === undefined
      ? condition('Ready', 'True', 'KubeletReady', 'kubelet is posting ready status')
      : condition('Ready', 'False', 'KubeletNotReady', health.problem),
  ];
}
