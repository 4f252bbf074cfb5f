// Nodes whose pod network is the agent's own (BgpNetwork): informers, plan, IPAM, annotations, speaker, BFD and reconciler,
// against an API server in memory. In two subnets with a router between, dual-stack.
//
//   n1 ─┐                        node N: 10.97.SUBNET.N/24, fd97:SUBNET::N/64
//       ├─ br1 ─ router ─ br2 ─ n3        pods: what podwire-ipam gives them
//   n2 ─┘
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { dispatch } from '../../../cni/runtime/dispatch.ts';
import { KeyedLocks } from '../../../cni/runtime/locks.ts';
import type { BGPConfiguration, EncapsulationMode, IPPool } from '../../../routing/bgp/calico/types.ts';
import type { CalicoNodeStatusBody } from '../../../routing/bgp/looking-glass/calico-node-status.ts';
import { BgpNetwork } from '../../../src/agent/bgp/bgp-network.ts';
import { CALICO } from '../../../src/agent/bgp/resources.ts';
import type { Node } from '../../../src/api/types.ts';
import { Informer } from '../../../src/client/informer.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { KernelReconciler } from '../../../src/kernel/reconciler.ts';
import { ROUTE_PROTOCOL } from '../../../src/kernel/state.ts';
import type { IptablesBackend } from '../../../src/linux/iptables.ts';
import { Netns } from '../../../src/linux/netns.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { FakeApi } from '../fake-api.ts';
import { type LabNamespace, NetnsLab } from '../netns-lab.ts';

type Family = 4 | 6;

export interface PoolModes {
  readonly ipip?: EncapsulationMode;
  readonly vxlan?: EncapsulationMode;
}

const POOL: Readonly<Record<Family, string>> = { 4: '10.244.0.0/16', 6: 'fd97:244::/64' };
const SUBNET_OF: Readonly<Record<number, number>> = { 1: 1, 2: 1, 3: 2 };

export const nodeIps = (n: number): Record<Family, string> => ({
  4: `10.97.${SUBNET_OF[n]}.${n}`,
  6: `fd97:${SUBNET_OF[n]}::${n}`,
});

interface AgentSurroundings {
  readonly api: FakeApi;
  readonly directory: string;
  readonly iptables: IptablesBackend;
}

export class AgentNode {
  readonly n: number;
  readonly name: string;
  readonly host: LabNamespace;
  readonly reconciler: KernelReconciler;
  readonly network: BgpNetwork;
  readonly nodes: Informer<Node>;
  pod: LabNamespace | undefined;
  podIps: Record<Family, string> = { 4: '', 6: '' };
  readonly #stop = new AbortController();

  constructor(n: number, host: LabNamespace, { api, directory, iptables }: AgentSurroundings) {
    this.n = n;
    this.name = `n${n}`;
    this.host = host;
    const client = api.client();
    const cniConfDirectory = join(directory, this.name);
    mkdirSync(cniConfDirectory);
    this.reconciler = new KernelReconciler({
      netns: host.netns,
      lockDirectory: directory,
      iptablesBackend: iptables,
      log: silentLogger(),
    });
    this.nodes = new Informer(client, RESOURCE.nodes);
    const addresses = nodeIps(n);
    this.network = new BgpNetwork({
      options: { nodeName: this.name, nodeIps: [addresses[4], addresses[6]], cniConfDirectory },
      underlay: { link: 'eth0', mtuBytes: 1500, addresses: [`${addresses[4]}/24`, `${addresses[6]}/64`] },
      client,
      nodes: this.nodes,
      reconciler: this.reconciler,
      feed: {
        services: () => [],
        endpointSlices: () => [],
        onChange: () => undefined,
        synced: () => Promise.resolve(),
      },
      netns: host.netns,
    });
  }

  async start(): Promise<void> {
    const { signal } = this.#stop;
    await this.reconciler.start(signal);
    await this.network.start(signal);
    this.nodes.start(signal);
  }

  async stop(): Promise<void> {
    await this.network.stop();
    await this.nodes.stop();
    this.#stop.abort();
    await this.reconciler.stop();
  }

  /** `DESTINATION GATEWAY LINK` of BGP's routes, sorted; blackholes without the rest. */
  routes(): string[] {
    const { rt } = this.host;
    return rt
      .listRoutes({ protocol: ROUTE_PROTOCOL.bgp })
      .map(({ destination, gateway, linkIndex, type }) =>
        type === 'blackhole'
          ? destination
          : `${destination} ${gateway} ${rt.getLink(linkIndex ?? 0)?.name ?? ''}`,
      )
      .sort();
  }

  /** The link that packets to another node's pod take. */
  linkTo(other: AgentNode, family: Family): string {
    const { rt } = this.host;
    return rt.getLink(rt.getRoute(other.podIps[family]).linkIndex ?? 0)?.name ?? '';
  }

  /** As the looking glass of the admin socket answers. */
  async nodeStatus(): Promise<CalicoNodeStatusBody> {
    return (await this.network.routes['GET /bgp/node-status']!({
      query: new URLSearchParams(),
      body: undefined,
    })) as CalicoNodeStatusBody;
  }

  /** Addresses as a CNI ADD gets them from podwire-ipam. */
  async assign(): Promise<void> {
    const plugin = this.network.plugins[0]!;
    const environment = {
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: `pod${this.n}`,
      CNI_NETNS: '/proc/self/ns/net',
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/none',
      CNI_ARGS: `K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod${this.n}`,
    };
    const ipam = { type: plugin.name, assign_ipv4: 'true', assign_ipv6: 'true' };
    const answer = await dispatch(
      {
        plugin: plugin.name,
        stdin: JSON.stringify({ cniVersion: '1.1.0', name: 'podwire', type: 'ptp', ipam }),
        environment,
        site: () => ({
          hostNetns: this.host.netns,
          openPodNetns: () => Netns.current(),
          environment,
          plugins: new Map(),
          exe: '',
          signal: AbortSignal.timeout(15_000),
          locks: new KeyedLocks(),
          log: silentLogger(),
          stderr: [],
        }),
      },
      plugin,
    );
    if (answer.exitCode !== 0) throw new Error(`podwire-ipam ADD on ${this.name}: ${answer.stdout}`);
    const { ips } = JSON.parse(answer.stdout) as { ips: { address: string }[] };
    for (const { address } of ips)
      this.podIps[address.includes(':') ? 6 : 4] = address.slice(0, address.indexOf('/'));
  }
}

export class AgentCluster implements AsyncDisposable {
  readonly api = new FakeApi();
  readonly nodes: AgentNode[] = [];
  readonly #lab: NetnsLab;
  readonly #router: LabNamespace;

  private constructor(name: string, iptables: IptablesBackend) {
    this.#lab = new NetnsLab(`bgp-${name}`);
    const router = this.#lab.namespace('rt');
    this.#router = router;
    const sw = this.#lab.namespace('sw');
    router.forwarding();
    for (const subnet of [1, 2]) {
      sw.rt.addLink({ name: `br${subnet}`, kind: 'bridge', up: true });
      this.#lab.wire(router, `to${subnet}`, sw, `r${subnet}`);
      sw.rt.setLink(`r${subnet}`, { master: `br${subnet}`, up: true });
      router.address(`to${subnet}`, `10.97.${subnet}.254/24`, `fd97:${subnet}::fe/64`);
    }
    for (const n of [1, 2, 3]) {
      const host = this.#lab.namespace(`n${n}`);
      this.#lab.wire(host, 'eth0', sw, `n${n}`);
      sw.rt.setLink(`n${n}`, { master: `br${SUBNET_OF[n]}`, up: true });
      host.forwarding();
      host.address('eth0', `${nodeIps(n)[4]}/24`, `${nodeIps(n)[6]}/64`);
      host.route('0.0.0.0/0', `10.97.${SUBNET_OF[n]}.254`);
      host.route('::/0', `fd97:${SUBNET_OF[n]}::fe`);
      this.nodes.push(new AgentNode(n, host, { api: this.api, directory: this.#lab.directory, iptables }));
    }
  }

  /** Three agents that run, with a pod each that has addresses of both pools. */
  static async start(
    name: string,
    modes: Record<Family, PoolModes>,
    iptables: IptablesBackend = 'nft',
  ): Promise<AgentCluster> {
    const cluster = new AgentCluster(name, iptables);
    for (const family of [4, 6] as const) cluster.setPool(family, modes[family]);
    const configuration: BGPConfiguration = { metadata: { name: 'default' }, spec: {} };
    cluster.api.put(CALICO.configurations, configuration);
    for (const { n, name: nodeName } of cluster.nodes)
      cluster.api.put(RESOURCE.nodes, {
        metadata: { name: nodeName },
        status: { addresses: Object.values(nodeIps(n)).map(address => ({ type: 'InternalIP', address })) },
      });
    await Promise.all(cluster.nodes.map(node => node.start()));
    for (const node of cluster.nodes) await cluster.#addPod(node);
    return cluster;
  }

  setPool(family: Family, modes: PoolModes): void {
    const pool: IPPool = {
      metadata: { name: `pool${family}` },
      spec: {
        cidr: POOL[family],
        blockSize: family === 4 ? 26 : 122,
        ...(modes.ipip === undefined ? {} : { ipipMode: modes.ipip }),
        ...(modes.vxlan === undefined ? {} : { vxlanMode: modes.vxlan }),
      },
    };
    this.api.put(CALICO.pools, pool);
  }

  /** A pod wired as the routed CNI network wires it. */
  async #addPod(node: AgentNode): Promise<void> {
    await node.assign();
    const pod = this.#lab.namespace(`p${node.n}`);
    const { host } = node;
    this.#lab.wire(pod, 'eth0', host, 'cali0', 1400);
    host.address('cali0', '169.254.1.1/32', 'fe80::1/64');
    pod.address('eth0', `${node.podIps[4]}/32`, `${node.podIps[6]}/128`);
    host.rt.addRoute({ destination: `${node.podIps[4]}/32`, link: 'cali0' });
    host.rt.addRoute({ destination: `${node.podIps[6]}/128`, link: 'cali0' });
    pod.rt.addRoute({ destination: '169.254.1.1/32', link: 'eth0' });
    pod.route('0.0.0.0/0', '169.254.1.1');
    pod.rt.addRoute({ destination: '::/0', gateway: 'fe80::1', link: 'eth0' });
    pod.tcpServer(80, node.name);
    node.pod = pod;
    // The router knows pods too: without a tunnel it is the way.
    for (const family of [4, 6] as const)
      this.#router.rt.addRoute({
        destination: `${node.podIps[family]}/${family === 4 ? 32 : 128}`,
        gateway: nodeIps(node.n)[family],
      });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map(node => node.stop()));
    this.#lab.close();
  }
}
