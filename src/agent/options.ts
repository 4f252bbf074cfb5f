// What a node agent must be told. Plain data: `podwire agent` fills it from flags.

export interface AgentOptions {
  nodeName: string;
  /** The node's own addresses, one a family, the first one preferred. */
  nodeIps: string[];
  kubeconfig: string;
  /** Credentials of the proxy; those of the node when absent. */
  proxyKubeconfig?: string;
  containerdSocket: string;
  /** Everything the agent writes on this node lies below. */
  stateDirectory: string;
  /** Where containerd looks for its network configuration. */
  cniConfDirectory: string;
  cniSocket: string;
  /** Pod logs in CRI's layout. */
  podLogDirectory: string;
  clusterCidrs: string[];
  serviceCidrs: string[];
  clusterDomain: string;
  serving: { certFile: string; keyFile: string; clientCaFile: string; port: number };
  cgroupParent?: string;
  /** How nodes learn where pods are: from Node objects, or by BGP with Calico's resources. */
  routing: 'overlay' | 'bgp';
  /** Of the overlay. */
  backend: 'vxlan' | 'host-gw';
  proxyMode: 'iptables' | 'nftables' | 'userspace';
  /** Serves `podwire status`, `diff` and the lab's probes. */
  adminSocket: string;
}
