// Nodes with pods, planned from Calico's resources as the agent does it: a speaker and a reconciler for each, in two
// subnets with a router between. What crosses the underlay is watched with tcpdump.
//
//   n1 ─┐                    pod of node N: 10.244.N.10, node address 10.97.SUBNET.N/24,
//       ├─ br1 ─ router ─ br2 ─ n3        tunnel address 10.244.N.1
//   n2 ─┘
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { routeShape, tunnelState } from '../../../routing/bgp/calico/encapsulation.ts';
import type { CalicoInput } from '../../../routing/bgp/calico/input.ts';
import { planBgp } from '../../../routing/bgp/calico/plan.ts';
import type { EncapsulationMode } from '../../../routing/bgp/calico/types.ts';
import { TcpTransport } from '../../../routing/bgp/session/tcp.ts';
import { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import { ReconcilerRouteSink } from '../../../routing/fib/reconciler-route-sink.ts';
import { KernelReconciler } from '../../../src/kernel/reconciler.ts';
import { ROUTE_PROTOCOL } from '../../../src/kernel/state.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { type LabNamespace, NetnsLab } from '../netns-lab.ts';

export interface PoolModes {
  readonly ipip?: EncapsulationMode;
  readonly vxlan?: EncapsulationMode;
}

const SUBNET_OF: Readonly<Record<number, number>> = { 1: 1, 2: 1, 3: 2 };
const NODES = [1, 2, 3];
const UNDERLAY = { link: 'eth0', mtuBytes: 1500 };

export const nodeIp = (n: number): string => `10.97.${SUBNET_OF[n]}.${n}`;
export const podIp = (n: number): string => `10.244.${n}.10`;
export const tunnelIp = (n: number): string => `10.244.${n}.1`;

export class PoolNode {
  readonly n: number;
  readonly host: LabNamespace;
  readonly pod: LabNamespace;
  readonly reconciler: KernelReconciler;
  readonly sink: ReconcilerRouteSink;
  speaker: Speaker | undefined;
  /** `ipip A > B`, `vxlan A > B` or `plain A > B`, as seen on the link to the underlay. */
  readonly wire = new Set<string>();

  constructor(n: number, host: LabNamespace, pod: LabNamespace) {
    this.n = n;
    this.host = host;
    this.pod = pod;
    this.reconciler = new KernelReconciler({ netns: host.netns, lockDirectory: '/run', log: silentLogger() });
    this.sink = new ReconcilerRouteSink({ setDesired: state => this.reconciler.setDesired('bgp', state) });
  }

  /** `10.244.2.0/26 10.97.1.2 tunl0`, sorted; blackholes without the rest. */
  routes(): string[] {
    const { rt } = this.host;
    return rt
      .listRoutes({ protocol: ROUTE_PROTOCOL.bgp, family: 4 })
      .map(({ destination, gateway, linkIndex, type }) =>
        type === 'blackhole'
          ? destination
          : `${destination} ${gateway} ${rt.getLink(linkIndex ?? 0)?.name ?? ''}`,
      )
      .sort();
  }
}

export class PoolCluster implements AsyncDisposable {
  readonly #lab: NetnsLab;
  readonly #captures: ChildProcess[] = [];
  readonly nodes: PoolNode[] = [];

  constructor(name: string) {
    this.#lab = new NetnsLab(`bgp-${name}`);
    const router = this.#lab.namespace('rt');
    const sw = this.#lab.namespace('sw');
    router.forwarding();
    for (const subnet of [1, 2]) {
      sw.rt.addLink({ name: `br${subnet}`, kind: 'bridge', up: true });
      this.#lab.wire(router, `to${subnet}`, sw, `r${subnet}`);
      sw.rt.setLink(`r${subnet}`, { master: `br${subnet}`, up: true });
      router.address(`to${subnet}`, `10.97.${subnet}.254/24`);
    }
    for (const n of NODES) this.nodes.push(this.#addNode(n, sw));
  }

  /** A node and its one pod, wired as the routed CNI network wires it. */
  #addNode(n: number, sw: LabNamespace): PoolNode {
    const host = this.#lab.namespace(`n${n}`);
    const pod = this.#lab.namespace(`p${n}`);
    this.#lab.wire(host, 'eth0', sw, `n${n}`);
    sw.rt.setLink(`n${n}`, { master: `br${SUBNET_OF[n]}`, up: true });
    host.forwarding();
    host.address('eth0', `${nodeIp(n)}/24`);
    host.route('0.0.0.0/0', `10.97.${SUBNET_OF[n]}.254`);
    this.#lab.wire(pod, 'eth0', host, 'cali0', 1400);
    host.address('cali0', '169.254.1.1/32');
    host.rt.addRoute({ destination: `${podIp(n)}/32`, link: 'cali0' });
    pod.address('eth0', `${podIp(n)}/32`);
    pod.rt.addRoute({ destination: '169.254.1.1/32', link: 'eth0' });
    pod.route('0.0.0.0/0', '169.254.1.1');
    pod.tcpServer(80, `n${n}`);
    return new PoolNode(n, host, pod);
  }

  #input(n: number, modes: PoolModes): CalicoInput {
    return {
      nodeName: `n${n}`,
      nodes: NODES.map(one => ({
        metadata: {
          name: `n${one}`,
          annotations: {
            'projectcalico.org/IPv4Address': `${nodeIp(one)}/24`,
            'projectcalico.org/IPv4IPIPTunnelAddr': tunnelIp(one),
            'projectcalico.org/IPv4VXLANTunnelAddr': tunnelIp(one),
            'projectcalico.org/VXLANTunnelMACAddr': `66:00:00:00:00:0${one}`,
          },
        },
      })),
      pools: [
        {
          metadata: { name: 'pool' },
          spec: {
            cidr: '10.244.0.0/16',
            ...(modes.ipip === undefined ? {} : { ipipMode: modes.ipip }),
            ...(modes.vxlan === undefined ? {} : { vxlanMode: modes.vxlan }),
          },
        },
      ],
      ...{ configurations: [], peers: [], filters: [], blocks: [], services: [], endpointSlices: [] },
      affinities: NODES.map(one => ({
        spec: {
          cidr: `10.244.${one}.0/26`,
          node: `n${one}`,
          state: 'confirmed' as const,
          deleted: 'false' as const,
        },
      })),
      secret: () => undefined,
    };
  }

  /** Plans every node for a pool of these modes; speakers are started the first time, and told of a change later. */
  async apply(modes: PoolModes): Promise<void> {
    for (const node of this.nodes) {
      const input = this.#input(node.n, modes);
      const plan = planBgp(input);
      const encapsulation = { ...input, pools: plan.pools, underlay: UNDERLAY };
      node.sink.table.shape = routeShape(encapsulation);
      node.sink.setTunnels(tunnelState(encapsulation));
      if (node.speaker !== undefined) {
        await node.speaker.configure(plan.config!);
        node.speaker.reprogram();
        continue;
      }
      node.speaker = new Speaker({
        ...{ config: plan.config!, log: silentLogger(), sink: node.sink },
        ...{
          transport: new TcpTransport(node.host.netns),
          isOwnAddress: address => address === nodeIp(node.n),
        },
      });
      await node.reconciler.start();
      await node.speaker.start();
    }
  }

  /** Starts to fill every node's `wire`. */
  async capture(): Promise<void> {
    await Promise.all(this.nodes.map(node => this.#captureOf(node)));
  }

  #captureOf(node: PoolNode): Promise<void> {
    const filter = 'ip proto 4 or udp port 4789 or net 10.244.0.0/16';
    const child = spawn(
      'nsenter',
      [`--net=/run/netns/${node.host.name}`, 'tcpdump', '-l', '-nn', '-tt', '-i', 'eth0', filter],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    this.#captures.push(child);
    createInterface({ input: child.stdout }).on('line', line => {
      const seen = packetOf(line);
      if (seen !== undefined) node.wire.add(seen);
    });
    return new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', code => reject(new Error(`tcpdump exited with ${code}`)));
      createInterface({ input: child.stderr }).on('line', line => {
        if (line.includes('listening on')) resolve();
      });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#captures) child.kill('SIGKILL');
    for (const node of this.nodes) {
      await node.speaker?.stop();
      await node.reconciler.stop();
    }
    this.#lab.close();
  }
}

/** A line of `tcpdump -tt -nn`: the packet inside a VXLAN packet is on a line of its own without a time. */
export function packetOf(line: string): string | undefined {
  const match = /^\d+\.\d+ IP (\d+\.\d+\.\d+\.\d+)(?:\.\d+)? > (\d+\.\d+\.\d+\.\d+)(?:\.\d+)?: (\w+)/.exec(
    line,
  );
  if (match === null) return undefined;
  const kind = match[3] === 'IP' ? 'ipip' : match[3] === 'VXLAN' ? 'vxlan' : 'plain';
  return `${kind} ${match[1]} > ${match[2]}`;
}
