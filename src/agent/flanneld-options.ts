// What flanneld must be told. Plain data: src/cmd/flanneld.ts fills it from flanneld's flags.
import type { NodeRules } from '../../routing/plan.ts';

export interface EtcdOptions {
  endpoints: string[];
  prefix: string;
  caFile: string;
  certFile: string;
  keyFile: string;
  username: string;
  password: string;
  /** --subnet-lease-renew-margin */
  renewMarginMinutes: number;
}

export interface KubeOptions {
  kubeconfig: string;
  apiUrl: string;
  netConfPath: string;
  annotationPrefix: string;
  /** Write the condition NetworkUnavailable=False. */
  setNetworkUnavailable: boolean;
  /** NODE_NAME, or the pod whose node it is. */
  nodeName?: string;
  pod?: { name: string; namespace: string };
}

export interface FlanneldOptions {
  /** Where subnets come from. */
  subnets: { manager: 'kube'; kube: KubeOptions } | { manager: 'etcd'; etcd: EtcdOptions };
  subnetFile: string;
  ifaces: string[];
  ifaceRegexes: RegExp[];
  ifaceCanReach?: string;
  publicIp?: string;
  publicIpv6?: string;
  rules: NodeRules;
  /** --iptables-resync: how often iptables and nftables rules are compared, beside what notifications tell. */
  rulesResyncMs: number;
  /** --ip-blackhole-route */
  blackholeRoute: boolean;
  health?: { address: string; port: number };
  /** Serves `podwire overlay status` and `diff`. */
  adminSocket?: string;
}
