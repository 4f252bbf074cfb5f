// What the iptables planner needs to know beside the model. Pure data.

/** How traffic from this node's own pods is told from other traffic (KEP-2450). */
export type LocalDetector =
  | { mode: 'none' }
  /** ClusterCIDR and NodeCIDR: the family's network. */
  | { mode: 'cidr'; v4?: string; v6?: string }
  | { mode: 'bridge'; interface: string }
  | { mode: 'prefix'; prefix: string };

export interface IptablesConfig {
  /** --iptables-masquerade-bit as a mask: 0x4000. */
  masqueradeMark: number;
  masqueradeAll: boolean;
  localDetector: LocalDetector;
  /** --iptables-localhost-nodeports; IPv4 only. */
  localhostNodePorts: boolean;
  /** Addresses that node ports answer on; absent means every address of the node. */
  nodePortAddresses?: { v4: readonly string[]; v6: readonly string[] };
  /** The node's own addresses, for source ranges that contain the node. */
  nodeIps: readonly string[];
  randomFully: boolean;
  /** Drop INVALID packets in FORWARD, unless net.netfilter.nf_conntrack_tcp_be_liberal is set (kubernetes#74839). */
  dropInvalid: boolean;
}

export const DEFAULT_IPTABLES_CONFIG: IptablesConfig = {
  masqueradeMark: 1 << 14,
  masqueradeAll: false,
  localDetector: { mode: 'none' },
  localhostNodePorts: true,
  nodeIps: [],
  randomFully: true,
  dropInvalid: true,
};

/** The match for traffic of local pods, as rule parts; undefined when nothing tells. */
export function ifLocal(
  detector: LocalDetector,
  family: 4 | 6,
  negate: boolean,
): { source?: string; inInterface?: string } | undefined {
  const not = negate ? '! ' : '';
  switch (detector.mode) {
    case 'cidr': {
      const cidr = family === 4 ? detector.v4 : detector.v6;
      return cidr === undefined ? undefined : { source: `${not}${cidr}` };
    }
    case 'bridge':
      return { inInterface: `${not}${detector.interface}` };
    case 'prefix':
      return { inInterface: `${not}${detector.prefix}+` };
    case 'none':
      return undefined;
  }
}
