// The oracle: a node as flannel programs it (facts of pkg/backend/vxlan, pkg/trafficmngr/iptables), by hand with `ip`,
// `bridge` and `iptables`, knowing of the others nothing but the annotations on their Node objects. It shares no code
// with the planners it checks.
import type { Node } from '../../../src/api/types.ts';
import type { KubeClient } from '../../../src/client/client.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import type { LabNamespace } from '../../harness/netns-lab.ts';

const PREFIX = 'flannel.alpha.coreos.com';

export interface FlannelNodeOptions {
  name: string;
  host: LabNamespace;
  publicIp: string;
  publicIpv6?: string;
  subnet: string;
  subnetV6?: string;
  mac: string;
  macV6?: string;
}

export class FlannelNode {
  readonly options: FlannelNodeOptions;

  constructor(options: FlannelNodeOptions) {
    this.options = options;
  }

  /** Programs run one after the other; the first that fails is an error. */
  async #sh(...lines: string[]): Promise<void> {
    const result = await this.options.host.run('/bin/sh', ['-ec', lines.join('\n')]);
    if (result.code !== 0) throw new Error(`${lines.join('; ')}: ${result.stderr}`);
  }

  /** The devices, addresses and sysctls. */
  async makeDevice(underlayMtu = 1500): Promise<void> {
    const { publicIp, publicIpv6, subnet, subnetV6, mac, macV6 } = this.options;
    const net = (cidr: string): string => cidr.slice(0, cidr.indexOf('/'));
    await this.#sh(
      `ip link add flannel.1 address ${mac} mtu ${underlayMtu - 50} type vxlan id 1 local ${publicIp} dev eth0 dstport 8472 nolearning`,
      'echo 0 > /proc/sys/net/ipv6/conf/flannel.1/accept_ra',
      `ip address add ${net(subnet)}/32 dev flannel.1`,
      'ip link set flannel.1 up',
      'echo 1 > /proc/sys/net/ipv4/ip_forward',
    );
    if (publicIpv6 && subnetV6)
      await this.#sh(
        `ip link add flannel-v6.1 address ${macV6} mtu ${underlayMtu - 50 - 20} type vxlan id 1 local ${publicIpv6} dev eth0 dstport 8472 nolearning udp6zerocsumrx`,
        `ip address add ${net(subnetV6)}/128 dev flannel-v6.1 nodad`,
        'ip link set flannel-v6.1 up',
        'echo 1 > /proc/sys/net/ipv6/conf/all/forwarding',
      );
  }

  /**
   * flanneld starts and finds a device: it keeps one that is as it would make it, and deletes any other. The MAC is the
   * one of the own annotation. Throws when it would not be kept.
   */
  async start(own: Node, others: readonly Node[]): Promise<void> {
    const { host, publicIp, subnet, mac } = this.options;
    if (!own.metadata?.annotations?.[`${PREFIX}/backend-data`]?.includes(mac))
      throw new Error(`another MAC is announced for ${own.metadata?.name}`);
    const { stdout } = await host.run('ip', ['-d', '-j', 'link', 'show', 'flannel.1']);
    const [link] = JSON.parse(stdout);
    const { id, port, local, link: device, learning } = link.linkinfo.info_data;
    const found = JSON.stringify([link.address, id, port, local, device, learning]);
    if (found !== JSON.stringify([mac, 1, 8472, publicIp, 'eth0', false]))
      throw new Error(`flanneld would make the device of ${own.metadata?.name} again: ${found}`);
    await this.#sh(
      `ip address replace ${subnet.slice(0, subnet.indexOf('/'))}/32 dev flannel.1`,
      'ip link set flannel.1 up',
      'iptables -t nat -C POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG',
      'iptables -C FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
    );
    for (const node of others) await this.addPeer(node);
  }

  /** --ip-masq and --iptables-forward-rules. */
  async makeRules(network: string): Promise<void> {
    const { subnet } = this.options;
    const masq = (rule: string): string =>
      `iptables -t nat -A FLANNEL-POSTRTG ${rule.replace(' -j', ' -m comment --comment "flanneld masq" -j')}`;
    await this.#sh(
      'iptables -t nat -N FLANNEL-POSTRTG',
      'iptables -t nat -A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG',
      masq('-m mark --mark 0x4000/0x4000 -j RETURN'),
      masq(`-s ${subnet} -d ${network} -j RETURN`),
      masq(`-s ${network} -d ${subnet} -j RETURN`),
      masq(`! -s ${network} -d ${subnet} -j RETURN`),
      masq(`-s ${network} ! -d 224.0.0.0/4 -j MASQUERADE --random-fully`),
      masq(`! -s ${network} -d ${network} -j MASQUERADE --random-fully`),
      'iptables -N FLANNEL-FWD',
      'iptables -A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
      `iptables -A FLANNEL-FWD -s ${network} -m comment --comment "flanneld forward" -j ACCEPT`,
      `iptables -A FLANNEL-FWD -d ${network} -m comment --comment "flanneld forward" -j ACCEPT`,
    );
  }

  /** What flannel patches into its Node's status subresource. */
  async announce(client: KubeClient): Promise<void> {
    const { name, publicIp, publicIpv6, mac, macV6 } = this.options;
    const annotations = {
      [`${PREFIX}/kube-subnet-manager`]: 'true',
      [`${PREFIX}/backend-type`]: 'vxlan',
      [`${PREFIX}/backend-data`]: `{"VNI":1,"VtepMAC":"${mac}"}`,
      [`${PREFIX}/public-ip`]: publicIp,
      ...(publicIpv6 && {
        [`${PREFIX}/backend-v6-data`]: `{"VNI":1,"VtepMAC":"${macV6}"}`,
        [`${PREFIX}/public-ipv6`]: publicIpv6,
      }),
    };
    await client.patch(
      RESOURCE.nodes,
      name,
      { metadata: { annotations } },
      { type: 'strategic', subresource: 'status' },
    );
  }

  /** A peer's neighbour, forwarding entry and route, in flannel's order. */
  async addPeer(node: Node): Promise<void> {
    const annotations = node.metadata?.annotations ?? {};
    const read = (name: string): string => annotations[`${PREFIX}/${name}`] ?? '';
    if (read('kube-subnet-manager') !== 'true' || read('backend-type') !== 'vxlan')
      throw new Error(`node ${node.metadata?.name} does not announce a vxlan backend`);
    for (const cidr of node.spec?.podCIDRs ?? []) {
      const v6 = cidr.includes(':');
      if (v6 && !this.options.subnetV6) continue;
      // Old flanneld splits this text by hand: VNI first, then the MAC.
      const data = /^\{"VNI":(\d+),"VtepMAC":"([0-9a-f:]{17})"\}$/.exec(
        read(v6 ? 'backend-v6-data' : 'backend-data'),
      );
      if (data?.[1] !== '1')
        throw new Error(`backend data of ${node.metadata?.name}: ${JSON.stringify(annotations)}`);
      const mac = data[2];
      const device = v6 ? 'flannel-v6.1' : 'flannel.1';
      const vtep = cidr.slice(0, cidr.indexOf('/'));
      await this.#sh(
        `ip neigh replace ${vtep} lladdr ${mac} nud permanent dev ${device}`,
        `bridge fdb append ${mac} dst ${read(v6 ? 'public-ipv6' : 'public-ip')} self permanent dev ${device}`,
        `ip ${v6 ? '-6 ' : ''}route replace ${cidr} via ${vtep} dev ${device} onlink`,
      );
    }
  }
}
