// What the nftables planner needs to know beside the model. Pure data.
import type { LocalDetector } from '../../iptables/plan/config.ts';

export interface NftablesConfig {
  /** --masquerade-bit as a mask: 0x4000. */
  masqueradeMark: number;
  masqueradeAll: boolean;
  localDetector: LocalDetector;
  /** Addresses that node ports answer on; absent means the node's own (upstream's `primary`), never localhost. */
  nodePortAddresses?: { v4: readonly string[]; v6: readonly string[] };
  /** The node's own addresses: for node ports, and for source ranges that contain the node. */
  nodeIps: readonly string[];
  randomFully: boolean;
  /** Where cluster IPs come from: new traffic to one that no Service has is dropped. */
  serviceCidrs: readonly string[];
}

export const DEFAULT_NFTABLES_CONFIG: NftablesConfig = {
  masqueradeMark: 1 << 14,
  masqueradeAll: false,
  localDetector: { mode: 'none' },
  nodeIps: [],
  randomFully: true,
  serviceCidrs: [],
};
