// One node with a service proxy, for its tests: three local pods on a bridge, a neighbour host with three pods of its own,
// and a client outside. Services and slices are pushed in as the agent would.
//
//   client 10.9.0.9 ──┐            ┌── pod1..3  10.244.1.2..4
//                     ├── node ────┤
//   far host 10.9.0.3 ┘ 10.9.0.1   └── cni0 10.244.1.1
//     └── far pods 10.244.2.2..4 (addresses of the far host itself)

import { ConntrackCleaner } from '../../../proxy/conntrack-cleaner.ts';
import { ServiceProxy, type ServiceProxyOptions } from '../../../proxy/proxy.ts';
import { KernelReconciler } from '../../../src/kernel/reconciler.ts';
import type { KernelState } from '../../../src/kernel/state.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { type LabNamespace, NetnsLab } from '../../harness/netns-lab.ts';

export const NODE_IP = { v4: '10.9.0.1', v6: 'fd09::1' } as const;

export class ProxyNode {
  readonly lab: NetnsLab;
  readonly node: LabNamespace;
  readonly client: LabNamespace;
  readonly far: LabNamespace;
  readonly pods: LabNamespace[] = [];
  readonly #options: Partial<ServiceProxyOptions>;
  proxy: ServiceProxy;
  reconciler: KernelReconciler;

  constructor(room: string, options: Partial<ServiceProxyOptions> = {}) {
    this.#options = options;
    this.lab = new NetnsLab(room);
    this.node = this.lab.namespace('node');
    this.client = this.lab.namespace('client');
    this.far = this.lab.namespace('far');
    const { node, client, far, lab } = this;
    node.forwarding();
    for (const bridge of ['lan', 'cni0']) node.rt.addLink({ name: bridge, kind: 'bridge', up: true });
    node.address('lan', `${NODE_IP.v4}/24`, `${NODE_IP.v6}/64`);
    node.address('cni0', '10.244.1.1/24', 'fd00:244:1::1/64');
    for (const [namespace, n] of [
      [client, 9],
      [far, 3],
    ] as const) {
      lab.wire(namespace, 'eth0', node, `lan${n}`);
      node.rt.setLink(`lan${n}`, { master: 'lan' });
      namespace.address('eth0', `10.9.0.${n}/24`, `fd09::${n}/64`);
    }
    client.route('10.96.0.0/16', NODE_IP.v4);
    client.route('fd96::/64', NODE_IP.v6);
    client.route('198.51.100.0/24', NODE_IP.v4);
    for (let n = 1; n <= 3; n++) {
      const pod = lab.namespace(`pod${n}`);
      this.pods.push(pod);
      lab.wire(pod, 'eth0', node, `veth${n}`);
      node.rt.setLink(`veth${n}`, { master: 'cni0', hairpin: true });
      pod.address('eth0', `10.244.1.${n + 1}/24`, `fd00:244:1::${n + 1}/64`);
      pod.route('0.0.0.0/0', '10.244.1.1');
      pod.route('::/0', 'fd00:244:1::1');
      pod.tcpServer(80, `pod${n}`);
      pod.udpServer(53, `pod${n}`);
      far.address('eth0', `10.244.2.${n + 1}/32`, `fd00:244:2::${n + 1}/128`);
      for (const address of [`10.244.2.${n + 1}`, `fd00:244:2::${n + 1}`])
        far.tcpServer(80, `far${n}`, address);
    }
    // Without any route to it the node itself could not even try a cluster IP.
    // On a link of its own: a redirect to a neighbour on the same link would use up its allowance of ICMP errors.
    const uplink = lab.namespace('uplink');
    lab.wire(uplink, 'eth0', node, 'uplink');
    node.address('uplink', '10.8.0.1/24', 'fd08::1/64');
    uplink.address('eth0', '10.8.0.2/24', 'fd08::2/64');
    node.route('0.0.0.0/0', '10.8.0.2');
    node.route('::/0', 'fd08::2');
    node.route('10.244.2.0/24', '10.9.0.3');
    node.route('fd00:244:2::/64', 'fd09::3');
    far.route('10.244.1.0/24', NODE_IP.v4);
    far.route('fd00:244:1::/64', NODE_IP.v6);
    ({ proxy: this.proxy, reconciler: this.reconciler } = this.#start());
  }

  #start(): { proxy: ServiceProxy; reconciler: KernelReconciler } {
    const reconciler = new KernelReconciler({
      netns: this.node.netns,
      lockDirectory: this.lab.directory,
      log: silentLogger(),
      verifyIntervalMs: 30_000,
    });
    const cleaner = new ConntrackCleaner(this.node.netns);
    const proxy = new ServiceProxy({
      nodeName: 'node',
      iptables: {
        localDetector: { mode: 'cidr', v4: '10.244.0.0/16', v6: 'fd00:244::/32' },
        nodeIps: [NODE_IP.v4, NODE_IP.v6],
      },
      netns: this.node.netns,
      setDesired: (state: KernelState) => reconciler.setDesired('proxy', state),
      settled: () => reconciler.settled(),
      onSynced: () => void cleaner.sync(this.proxy.ports()),
      ...this.#options,
    });
    return { proxy, reconciler };
  }

  async start(): Promise<void> {
    await this.reconciler.start();
    this.proxy.setServices([]);
    this.proxy.setEndpointSlices([]);
    await this.proxy.settled();
  }

  /** Stops proxy and reconciler and starts new ones over the same kernel. */
  async restart(feed: (proxy: ServiceProxy) => void): Promise<void> {
    this.proxy.stop();
    await this.reconciler.stop();
    ({ proxy: this.proxy, reconciler: this.reconciler } = this.#start());
    await this.reconciler.start();
    feed(this.proxy);
    await this.proxy.settled();
  }

  async close(): Promise<void> {
    this.proxy.stop();
    await this.reconciler.stop();
    this.lab.close();
  }
}
