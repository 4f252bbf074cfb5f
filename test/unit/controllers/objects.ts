// Pods, Services and a kubelet that makes pods ready, for the controllers' tests.
import type { Deployment, Pod, Service, Stored } from '../../../src/api/types.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import type { FakeApi } from '../../harness/fake-api.ts';

export function makeDeployment(
  name: string,
  replicas: number,
  image = 'hello:1',
  change: Partial<Deployment['spec'] & object> = {},
): Deployment {
  return {
    metadata: { name, namespace: 'default' },
    spec: {
      replicas,
      selector: { matchLabels: { app: name } },
      template: { metadata: { labels: { app: name } }, spec: { containers: [{ name: 'c', image }] } },
      ...change,
    },
  };
}

export function makePod(
  name: string,
  options: {
    ip?: string;
    ips?: string[];
    ready?: boolean;
    node?: string;
    labels?: Record<string, string>;
    deleting?: boolean;
  } = {},
): Stored<Pod> {
  const { ip, ips = ip ? [ip] : [], ready = true, node = 'node-1', labels = { app: 'hello' } } = options;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace: 'default',
      uid: `uid-${name}`,
      resourceVersion: '1',
      labels,
      ...(options.deleting ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {}),
    },
    spec: {
      nodeName: node,
      containers: [{ name: 'c', image: 'hello:1', ports: [{ name: 'http', containerPort: 8080 }] }],
    },
    status: {
      phase: 'Running',
      podIP: ips[0],
      podIPs: ips.map(address => ({ ip: address })),
      conditions: [
        { type: 'Ready', status: ready ? 'True' : 'False', lastTransitionTime: '2026-01-01T00:00:00Z' },
      ],
    },
  };
}

export function makeService(name: string, spec: Partial<Service['spec'] & object> = {}): Stored<Service> {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name,
      namespace: 'default',
      uid: `uid-${name}`,
      resourceVersion: '1',
      creationTimestamp: '2026-01-01T00:00:00Z',
    },
    spec: {
      selector: { app: 'hello' },
      clusterIP: '10.96.0.10',
      ipFamilies: ['IPv4'],
      ports: [{ name: 'http', port: 80, targetPort: 'http', protocol: 'TCP' }],
      ...spec,
    },
  };
}

/** Makes every pod ready (or not, as `verdict` says), and lets deleted ones go: all that a kubelet does here. */
export function runKubelet(api: FakeApi, verdict: (pod: Pod) => boolean = () => true): () => void {
  let last = 1;
  const timer = setInterval(() => {
    for (const pod of api.all(RESOURCE.pods)) {
      if (pod.metadata.deletionTimestamp) {
        api.remove(RESOURCE.pods, pod.metadata.name, pod.metadata.namespace);
        continue;
      }
      const ready = verdict(pod) ? 'True' : 'False';
      if (pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === ready)) continue;
      const podIP = pod.status?.podIP ?? `10.244.0.${++last}`;
      api.put(RESOURCE.pods, {
        ...pod,
        spec: { containers: [], ...pod.spec, nodeName: pod.spec?.nodeName ?? 'node-1' },
        status: {
          phase: 'Running',
          podIP,
          podIPs: [{ ip: podIP }],
          conditions: [{ type: 'Ready', status: ready, lastTransitionTime: new Date().toISOString() }],
        },
      });
    }
  }, 5);
  return () => clearInterval(timer);
}
