// `podwire agent`: everything that runs on a node: kubelet, CNI server, overlay, service proxy, DNS.
import { hostname } from 'node:os';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { PROXY_MODES } from '../lab/spec.ts';
import { PodwireError } from '../lib/errors.ts';
import { collect, parseCount } from './lab-options.ts';
import { untilSignal } from './signals.ts';

interface Flags {
  kubeconfig: string;
  proxyKubeconfig?: string;
  nodeName: string;
  nodeIp: string[];
  stateDir: string;
  containerdSocket: string;
  cniConfDir?: string;
  servingCert: string;
  servingKey: string;
  clientCa: string;
  kubeletPort: number;
  clusterCidr: string[];
  serviceCidr: string[];
  clusterDomain: string;
  cgroupParent?: string;
  overlay: 'vxlan' | 'host-gw';
  routing: 'vxlan' | 'bgp';
  proxyMode: 'iptables' | 'nftables' | 'userspace';
}

export function agentCommand(): Command {
  return new Command('agent')
    .description("run a node's parts: kubelet, CNI server, overlay, service proxy, DNS")
    .requiredOption(
      '--kubeconfig <file>',
      "the node's credentials (user system:node:NAME, group system:nodes)",
    )
    .option('--proxy-kubeconfig <file>', "the service proxy's credentials (default: the node's)")
    .option('--node-name <name>', 'name of the Node object', hostname().toLowerCase())
    .option(
      '--node-ip <address>',
      "the node's address, one a family; repeat or separate by commas",
      collect,
      [],
    )
    .option('--state-dir <directory>', 'where the agent writes', '/var/lib/podwire/agent')
    .option('--containerd-socket <path>', "containerd's CRI socket", '/run/containerd/containerd.sock')
    .option(
      '--cni-conf-dir <directory>',
      "containerd's CNI configuration directory (default: STATE-DIR/net.d)",
    )
    .requiredOption('--serving-cert <file>', 'certificate of the kubelet API, port 10250')
    .requiredOption('--serving-key <file>', 'its key')
    .requiredOption('--client-ca <file>', 'who may call the kubelet API')
    .option('--kubelet-port <port>', 'port of the kubelet API', parseCount, 10250)
    .option(
      '--cluster-cidr <cidr>',
      'pod addresses of the cluster, one a family; repeat or separate by commas',
      collect,
      [],
    )
    .option('--service-cidr <cidr>', 'service addresses of the cluster, likewise', collect, [])
    .option('--cluster-domain <domain>', "the cluster's DNS domain", 'cluster.local')
    .option('--cgroup-parent <path>', 'cgroup below which pods live')
    .addOption(
      new Option('--routing <how>', "vxlan: an overlay from Node objects; bgp: Calico's resources and BGP")
        .choices(['vxlan', 'bgp'])
        .default('vxlan'),
    )
    .addOption(
      new Option('--overlay <backend>', 'how pods of different nodes reach each other')
        .choices(['vxlan', 'host-gw'])
        .default('vxlan'),
    )
    .addOption(
      new Option('--proxy-mode <mode>', 'how Services are served').choices(PROXY_MODES).default('iptables'),
    )
    .action(async (flags: Flags) => {
      if (flags.nodeIp.length === 0)
        throw new PodwireError('INVALID_OPTION', '--node-ip is missing: say which address peers use');
      if (flags.clusterCidr.length === 0)
        throw new PodwireError('INVALID_OPTION', '--cluster-cidr is missing');
      const { Agent } = await import('../agent/agent.ts');
      const inState = (name: string) => join(flags.stateDir, name);
      const agent = new Agent({
        nodeName: flags.nodeName,
        nodeIps: flags.nodeIp,
        kubeconfig: flags.kubeconfig,
        proxyKubeconfig: flags.proxyKubeconfig,
        containerdSocket: flags.containerdSocket,
        stateDirectory: flags.stateDir,
        cniConfDirectory: flags.cniConfDir ?? inState('net.d'),
        cniSocket: inState('cni.sock'),
        podLogDirectory: inState('pods'),
        clusterCidrs: flags.clusterCidr,
        serviceCidrs: flags.serviceCidr,
        clusterDomain: flags.clusterDomain,
        serving: {
          certFile: flags.servingCert,
          keyFile: flags.servingKey,
          clientCaFile: flags.clientCa,
          port: flags.kubeletPort,
        },
        cgroupParent: flags.cgroupParent,
        routing: flags.routing === 'bgp' ? 'bgp' : 'overlay',
        backend: flags.overlay,
        proxyMode: flags.proxyMode,
        adminSocket: inState('agent.sock'),
      });
      await untilSignal(signal => agent.start(signal));
      await agent.stop();
    });
}
