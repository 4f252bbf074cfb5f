// Turns what a person names (a pod, a node, an address; a Service and a port) into a flow, and asks the node it starts at.
import { join } from 'node:path';
import type { Node, Pod, Service, Stored } from '../api/types.ts';
import { KubeClient } from '../client/client.ts';
import { loadKubeconfig } from '../client/kubeconfig.ts';
import { RESOURCE } from '../client/resources.ts';
import type { Explanation, Flow } from '../explain/service.ts';
import { PodwireError } from '../lib/errors.ts';
import { ipFamily } from '../lib/ip.ts';
import { askAdmin } from './admin-client.ts';
import { type LabSpec, labPaths, nodePaths } from './spec.ts';

export interface ExplainQuestion {
  /** `pod`, `namespace/pod`, a node's name, or an address. */
  from: string;
  /** `service:port`, `namespace/service:port` (number or name), `address:port`, `[address]:port`. */
  to: string;
  protocol?: string;
  /** The node whose proxy is asked, where `from` does not say. */
  node?: string;
}

const API_TIMEOUT_MS = 5000;

/** One explanation for each family the two ends share. Throws PodwireError('INVALID_OPTION') for names that mean nothing. */
export async function explainInLab(lab: LabSpec, question: ExplainQuestion): Promise<Explanation[]> {
  const client = new KubeClient(loadKubeconfig(join(labPaths(lab).pki, 'admin.conf')), {
    userAgent: 'podwire-explain',
  });
  const signal = AbortSignal.timeout(API_TIMEOUT_MS);
  try {
    const [pods, nodes, services] = await Promise.all([
      client.list(RESOURCE.pods, { signal }),
      client.list(RESOURCE.nodes, { signal }),
      client.list(RESOURCE.services, { signal }),
    ]);
    const source = findSource(question.from, pods.items, nodes.items);
    const target = findTarget(question.to, services.items);
    const nodeName = question.node ?? source.node ?? lab.nodes[0]!.name;
    const node = lab.nodes.find(each => each.name === nodeName);
    if (!node)
      throw new PodwireError(
        'INVALID_OPTION',
        `there is no node '${nodeName}'; there are ${lab.nodes.map(each => each.name).join(', ')}`,
      );
    const protocol = (question.protocol ?? target.protocol).toUpperCase() as Flow['protocol'];
    const flows = target.addresses.flatMap(destination => {
      const from = source.addresses.find(address => ipFamily(address) === ipFamily(destination));
      return from === undefined ? [] : [{ source: from, destination, port: target.port, protocol }];
    });
    if (flows.length === 0)
      throw new PodwireError(
        'INVALID_OPTION',
        `'${question.from}' and '${question.to}' have no address family in common`,
      );
    const socket = nodePaths(node).agentSocket;
    return await Promise.all(flows.map(flow => askAdmin<Explanation>(socket, 'POST', '/explain', flow)));
  } finally {
    await client.close();
  }
}

interface Source {
  addresses: string[];
  node?: string;
}

function findSource(name: string, pods: Stored<Pod>[], nodes: Stored<Node>[]): Source {
  const pod = pods.find(
    each =>
      `${each.metadata.namespace}/${each.metadata.name}` ===
        (name.includes('/') ? name : `default/${name}`) || each.status?.podIPs?.some(({ ip }) => ip === name),
  );
  const isAddress = ipFamily(name) !== undefined;
  if (pod) {
    const all = (pod.status?.podIPs ?? []).flatMap(({ ip }) => (ip ? [ip] : []));
    if (all.length === 0) throw new PodwireError('INVALID_OPTION', `pod ${name} has no address yet`);
    return { addresses: isAddress ? [name] : all, node: pod.spec?.nodeName };
  }
  const ips = (node: Stored<Node>) =>
    (node.status?.addresses ?? []).filter(each => each.type === 'InternalIP').map(each => each.address);
  const node = nodes.find(each => each.metadata.name === name || ips(each).includes(name));
  if (node) return { addresses: isAddress ? [name] : ips(node), node: node.metadata.name };
  if (isAddress) return { addresses: [name] };
  throw new PodwireError(
    'INVALID_OPTION',
    `'${name}' is no pod, no node and no address; see 'kubectl get pods,nodes -A'`,
  );
}

interface Target {
  addresses: string[];
  port: number;
  protocol: string;
}

function findTarget(text: string, services: Stored<Service>[]): Target {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):([A-Za-z0-9-]+)$/.exec(text);
  const name = match?.[1] ?? match?.[2];
  const portText = match?.[3] ?? '';
  if (!match || name === undefined)
    throw new PodwireError(
      'INVALID_OPTION',
      `'${text}': use SERVICE:PORT, NAMESPACE/SERVICE:PORT, ADDRESS:PORT or [ADDRESS]:PORT`,
    );
  const number = /^\d+$/.test(portText) ? Number(portText) : undefined;
  if (ipFamily(name) !== undefined) {
    if (number === undefined)
      throw new PodwireError('INVALID_OPTION', `'${text}': an address needs the port as a number`);
    const known = services
      .flatMap(service => service.spec?.ports ?? [])
      .find(port => port.port === number || port.nodePort === number);
    return { addresses: [name], port: number, protocol: known?.protocol ?? 'TCP' };
  }
  const key = name.includes('/') ? name : `default/${name}`;
  const service = services.find(each => `${each.metadata.namespace}/${each.metadata.name}` === key);
  if (!service)
    throw new PodwireError('INVALID_OPTION', `there is no Service ${key}; see 'kubectl get services -A'`);
  const ports = service.spec?.ports ?? [];
  const port = ports.find(each => each.port === number || each.name === portText);
  const there = ports.map(each => (each.name ? `${each.port} (${each.name})` : each.port)).join(', ');
  if (!port)
    throw new PodwireError('INVALID_OPTION', `Service ${key} has no port ${portText}; it has ${there}`);
  const addresses = (service.spec?.clusterIPs ?? []).filter(ip => ip !== 'None' && ip !== '');
  if (addresses.length === 0)
    throw new PodwireError(
      'INVALID_OPTION',
      `Service ${key} is headless or external: its name resolves to the endpoints, and no proxy is involved`,
    );
  return { addresses, port: port.port, protocol: port.protocol ?? 'TCP' };
}
