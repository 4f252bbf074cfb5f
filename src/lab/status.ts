// What runs in a lab: components from the supervisor, nodes and pods from the API. Every part may be missing.
import { join } from 'node:path';
import Table from 'cli-table3';
import colors from 'picocolors';
import type { Node, Pod, Stored } from '../api/types.ts';
import { KubeClient } from '../client/client.ts';
import { loadKubeconfig } from '../client/kubeconfig.ts';
import { RESOURCE } from '../client/resources.ts';
import { errorMessage } from '../lib/errors.ts';
import { askAdmin } from './admin-client.ts';
import { type LabSpec, labPaths } from './spec.ts';
import type { ComponentStatus } from './supervisor.ts';

const API_TIMEOUT_MS = 3000;

export interface LabStatus {
  name: string;
  kubeconfig: string;
  healthy: boolean;
  components: ComponentStatus[];
  nodes: { name: string; ready: boolean; addresses: string[]; podCidrs: string[] }[];
  pods: { namespace: string; name: string; phase: string; ready: boolean; ips: string[]; node: string }[];
  problems: string[];
}

export async function labStatus(lab: LabSpec): Promise<LabStatus> {
  const kubeconfig = join(labPaths(lab).pki, 'admin.conf');
  const problems: string[] = [];
  const attempt = async <T>(what: string, work: () => Promise<T>, otherwise: T): Promise<T> => {
    try {
      return await work();
    } catch (thrown) {
      problems.push(`${what}: ${errorMessage(thrown)}`);
      return otherwise;
    }
  };
  const components = await attempt(
    'supervisor',
    () => askAdmin<ComponentStatus[]>(labPaths(lab).supervisorSocket, 'GET', '/status'),
    [],
  );
  const { nodes, pods } = await attempt('API server', () => readCluster(kubeconfig), { nodes: [], pods: [] });
  const healthy =
    problems.length === 0 &&
    components.every(component => component.state === 'running') &&
    nodes.length === lab.nodes.length &&
    nodes.every(node => node.ready);
  return { name: lab.name, kubeconfig, healthy, components, nodes, pods, problems };
}

async function readCluster(kubeconfig: string): Promise<Pick<LabStatus, 'nodes' | 'pods'>> {
  const client = new KubeClient(loadKubeconfig(kubeconfig), { userAgent: 'podwire-status' });
  const signal = AbortSignal.timeout(API_TIMEOUT_MS);
  try {
    const [nodes, pods] = await Promise.all([
      client.list(RESOURCE.nodes, { signal }),
      client.list(RESOURCE.pods, { signal }),
    ]);
    return { nodes: nodes.items.map(describeNode), pods: pods.items.map(describePod) };
  } finally {
    await client.close();
  }
}

function describeNode(node: Stored<Node>): LabStatus['nodes'][number] {
  return {
    name: node.metadata.name,
    ready: node.status?.conditions?.some(c => c.type === 'Ready' && c.status === 'True') ?? false,
    addresses: (node.status?.addresses ?? []).filter(a => a.type === 'InternalIP').map(a => a.address),
    podCidrs: node.spec?.podCIDRs ?? [],
  };
}

function describePod(pod: Stored<Pod>): LabStatus['pods'][number] {
  const waiting = pod.status?.containerStatuses?.find(status => status.state?.waiting)?.state?.waiting
    ?.reason;
  return {
    namespace: pod.metadata.namespace ?? 'default',
    name: pod.metadata.name,
    phase: pod.metadata.deletionTimestamp ? 'Terminating' : (waiting ?? pod.status?.phase ?? 'Unknown'),
    ready: pod.status?.conditions?.some(c => c.type === 'Ready' && c.status === 'True') ?? false,
    ips: (pod.status?.podIPs ?? []).map(entry => entry.ip ?? ''),
    node: pod.spec?.nodeName ?? '',
  };
}

export function formatStatus(status: LabStatus): string {
  const table = (head: string[], rows: string[][]) => {
    const made = new Table({ head, style: { head: [], border: [], compact: true } });
    made.push(...rows);
    return made.toString();
  };
  const mark = (good: boolean, text: string) => (good ? text : colors.red(text));
  const parts = [
    `Lab ${colors.bold(status.name)}   KUBECONFIG=${status.kubeconfig}`,
    table(
      ['COMPONENT', 'STATE', 'PID', 'RESTARTS', 'LAST EXIT', 'SINCE'],
      status.components.map(c => [
        c.name,
        mark(c.state === 'running', c.state),
        String(c.pid ?? ''),
        String(c.restarts),
        c.lastExit ?? '',
        c.since ?? '',
      ]),
    ),
    table(
      ['NODE', 'STATUS', 'ADDRESSES', 'POD CIDRS'],
      status.nodes.map(n => [
        n.name,
        mark(n.ready, n.ready ? 'Ready' : 'NotReady'),
        n.addresses.join(', '),
        n.podCidrs.join(', '),
      ]),
    ),
    table(
      ['POD', 'STATUS', 'READY', 'IPS', 'NODE'],
      status.pods.map(p => [
        `${p.namespace}/${p.name}`,
        mark(p.ready || p.phase === 'Succeeded', p.phase),
        p.ready ? 'yes' : 'no',
        p.ips.join(', '),
        p.node,
      ]),
    ),
    ...status.problems.map(problem => colors.red(problem)),
  ];
  return parts.join('\n');
}
