// Nodes and pods for the scheduler's tests.
import type { Node, Pod, PodSpec, Stored } from '../../../src/api/types.ts';

export function makeNode(
  name: string,
  change: Pick<Node, 'spec' | 'status'> & { cpu?: string; labels?: Record<string, string> } = {},
): Stored<Node> {
  const { cpu = '4', labels = {}, ...rest } = change;
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name,
      uid: `uid-${name}`,
      resourceVersion: '1',
      labels: { 'kubernetes.io/hostname': name, ...labels },
    },
    status: { allocatable: { cpu, memory: '8Gi', pods: '110' } },
    ...rest,
  };
}

export function makePod(
  name: string,
  spec: Partial<PodSpec> & { owner?: string; requests?: Record<string, string>; hostPort?: number } = {},
): Stored<Pod> {
  const { owner, requests, hostPort, ...rest } = spec;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace: 'default',
      uid: `uid-${name}`,
      resourceVersion: '1',
      ownerReferences: owner
        ? [{ apiVersion: 'apps/v1', kind: 'ReplicaSet', name: owner, uid: owner, controller: true }]
        : undefined,
    },
    spec: {
      containers: [
        {
          name: 'c',
          image: 'hello:1',
          resources: { requests },
          ports: hostPort ? [{ containerPort: 80, hostPort }] : undefined,
        },
      ],
      ...rest,
    },
    status: { phase: 'Pending' },
  };
}
