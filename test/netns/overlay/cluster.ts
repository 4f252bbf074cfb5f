// A cluster for the overlay's tests: hosts on one underlay (or behind a router), each with a bridge and a pod, an Overlay
// and a reconciler; Node objects in a map that stands for the API server.

import { NftKeeper } from '../../../routing/nft/keeper.ts';
import { Overlay, type OverlayOptions } from '../../../routing/overlay.ts';
import type { NetConf } from '../../../routing/subnet/net-conf.ts';
import type { NodeStatusPatch } from '../../../routing/subnet/self.ts';
import type { Node } from '../../../src/api/types.ts';
import { KernelReconciler } from '../../../src/kernel/reconciler.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { type LabNamespace, NetnsLab } from '../../harness/netns-lab.ts';

export interface HostOptions {
  /** Host number: 10.99.0.N, or 10.98.0.N behind the router. */
  n: number;
  behindRouter?: boolean;
}

export class OverlayHost {
  readonly name: string;
  readonly host: LabNamespace;
  readonly pod: LabNamespace;
  readonly underlayAddresses: string[];
  readonly podAddresses: { v4: string; v6: string };
  overlay: Overlay;
  reconciler: KernelReconciler;
  constructor(
    init: Pick<
      OverlayHost,
      'name' | 'host' | 'pod' | 'underlayAddresses' | 'podAddresses' | 'overlay' | 'reconciler'
    >,
  ) {
    this.name = init.name;
    this.host = init.host;
    this.pod = init.pod;
    this.underlayAddresses = init.underlayAddresses;
    this.podAddresses = init.podAddresses;
    this.overlay = init.overlay;
    this.reconciler = init.reconciler;
  }
}

export class OverlayCluster {
  readonly lab: NetnsLab;
  readonly #config: NetConf;
  readonly #rules: OverlayOptions['rules'];
  readonly #switch: LabNamespace;
  readonly #router: LabNamespace;
  #ports = 0;
  readonly hosts: OverlayHost[] = [];
  readonly nodes = new Map<string, Node>();
  /** Of nftables rules, by host. */
  readonly keepers = new Map<string, NftKeeper>();
  readonly nftRepairs: string[] = [];

  constructor(room: string, config: NetConf, rules?: OverlayOptions['rules']) {
    this.#rules = rules;
    this.lab = new NetnsLab(room);
    this.#config = config;
    this.#switch = this.lab.namespace('sw');
    this.#router = this.lab.namespace('rt');
    this.#router.forwarding();
    for (const [bridge, network] of [
      ['br0', '99'],
      ['br1', '98'],
    ] as const) {
      this.#switch.rt.addLink({ name: bridge, kind: 'bridge', up: true });
      this.#plug(this.#router, `to${network}`, bridge);
      this.#router.address(`to${network}`, `10.${network}.0.254/24`, `fd${network}::254/64`);
    }
  }

  #plug(namespace: LabNamespace, link: string, bridge: string): void {
    const port = `p${++this.#ports}${link}`.slice(0, 15);
    this.lab.wire(namespace, link, this.#switch, port);
    this.#switch.rt.setLink(port, { master: bridge, up: true });
  }

  /** A host with its pod network and agent. */
  async addHost(options: HostOptions): Promise<OverlayHost> {
    const { n } = options;
    const bare = this.addBareHost(options);
    this.nodes.set(bare.name, {
      metadata: {
        name: bare.name,
        uid: bare.name,
        creationTimestamp: `2026-01-0${n}T00:00:00Z`,
        annotations: {},
      },
      spec: { podCIDRs: [`10.244.${n}.0/24`, `fd00:10:244:${n}::/64`] },
    });
    return this.startAgent(bare);
  }

  /** Our agent on a host that had none, whatever is configured there already. */
  async startAgent(bare: Omit<OverlayHost, 'overlay' | 'reconciler'>): Promise<OverlayHost> {
    const made = new OverlayHost({ ...bare, ...this.#agent(bare.name, bare.host, bare.underlayAddresses) });
    this.hosts.push(made);
    await made.reconciler.start();
    return made;
  }

  /** A host with its pod network, and nobody who joins it to the overlay. */
  addBareHost(options: HostOptions): Omit<OverlayHost, 'overlay' | 'reconciler'> {
    const { n } = options;
    const name = `n${n}`;
    const network = options.behindRouter ? '98' : '99';
    const host = this.lab.namespace(name);
    const pod = this.lab.namespace(`${name}p`);
    this.#plug(host, 'eth0', options.behindRouter ? 'br1' : 'br0');
    const underlayAddresses = [`10.${network}.0.${n}/24`, `fd${network}::${n}/64`];
    host.address('eth0', ...underlayAddresses);
    host.route('0.0.0.0/0', `10.${network}.0.254`);
    host.route('::/0', `fd${network}::254`);
    host.rt.addLink({ name: 'cni0', kind: 'bridge', up: true });
    host.address('cni0', `10.244.${n}.1/24`, `fd00:10:244:${n}::1/64`);
    this.lab.wire(pod, 'eth0', host, 'veth0', this.#config.backend.type === 'vxlan' ? 1430 : 1500);
    host.rt.setLink('veth0', { master: 'cni0', up: true });
    pod.address('eth0', `10.244.${n}.2/24`, `fd00:10:244:${n}::2/64`);
    pod.route('0.0.0.0/0', `10.244.${n}.1`);
    pod.route('::/0', `fd00:10:244:${n}::1`);
    pod.tcpServer(80, name);
    pod.udpServer(53, name);
    const podAddresses = { v4: `10.244.${n}.2`, v6: `fd00:10:244:${n}::2` };
    return { name, host, pod, underlayAddresses, podAddresses };
  }

  #agent(name: string, host: LabNamespace, addresses: string[]): Pick<OverlayHost, 'overlay' | 'reconciler'> {
    const reconciler = new KernelReconciler({
      netns: host.netns,
      lockDirectory: this.lab.directory,
      log: silentLogger(),
      verifyIntervalMs: 30_000,
    });
    const overlay = new Overlay({
      nodeName: name,
      config: this.#config,
      underlay: { link: 'eth0', addresses, mtuBytes: 1500 },
      rules: this.#rules,
      setDesired: state => reconciler.setDesired('overlay', state),
      setNftables: tables => this.#keeper(name, host).set(tables),
      patchNode: async patch => this.#patch(name, patch),
    });
    return { overlay, reconciler };
  }

  /** Only where net-conf wants nftables. */
  #keeper(name: string, host: LabNamespace): NftKeeper {
    const there = this.keepers.get(name);
    if (there !== undefined) return there;
    const made = new NftKeeper({
      netns: host.netns,
      verifyIntervalMs: 30_000,
      log: silentLogger(),
      onRepair: text => this.nftRepairs.push(text),
    });
    this.keepers.set(name, made);
    return made;
  }

  /** The agent died and comes back: a new Overlay and reconciler over the same kernel. */
  async restartAgent(host: OverlayHost, whileAway: () => Promise<void> | void = () => {}): Promise<void> {
    host.overlay.stop();
    await host.reconciler.stop();
    await whileAway();
    Object.assign(host, this.#agent(host.name, host.host, host.underlayAddresses));
    await host.reconciler.start();
    await this.sync();
  }

  #patch(name: string, patch: NodeStatusPatch): void {
    const before = this.nodes.get(name);
    const annotations = { ...before?.metadata?.annotations, ...patch.metadata?.annotations };
    const ready = { conditions: [{ type: 'NetworkUnavailable', status: 'False' }] };
    const status = patch.status ? { ...before?.status, ...ready } : before?.status;
    const node: Node = { ...before, metadata: { ...before?.metadata, annotations }, status };
    this.setNode(node);
  }

  setNode(node: Node): void {
    this.nodes.set(node.metadata?.name ?? '', node);
    for (const host of this.hosts) host.overlay.upsertNode(node);
  }

  deleteNode(name: string): void {
    this.nodes.delete(name);
    for (const host of this.hosts) host.overlay.deleteNode(name);
  }

  /** Every agent has seen every node, and every kernel has what its agent wants. */
  async sync(): Promise<void> {
    for (let round = 0; round < 3; round++) {
      for (const host of this.hosts) host.overlay.setNodes([...this.nodes.values()]);
      await new Promise(resolve => setImmediate(resolve));
      for (const host of this.hosts) {
        host.overlay.flush();
        await host.reconciler.settled();
      }
    }
  }

  async close(): Promise<void> {
    for (const host of this.hosts) {
      host.overlay.stop();
      await host.reconciler.stop();
    }
    for (const keeper of this.keepers.values()) keeper.stop();
    this.lab.close();
  }
}
