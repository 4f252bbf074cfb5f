// Calico's resources as they are stored (crd.projectcalico.org/v1), as far as routing reads or writes them. Field names
// and defaults follow projectcalico/calico, api/pkg/apis/projectcalico/v3 and libcalico-go/lib/apis; deploy/crds/ has
// the definitions. All kinds are cluster-scoped.
import type { KubeObject } from '../../../src/api/types.ts';

export const CALICO_GROUP = 'crd.projectcalico.org';
export const CALICO_VERSION = 'v1';

interface CalicoObject<Spec> extends KubeObject {
  spec?: Spec;
}

export type EncapsulationMode = 'Always' | 'CrossSubnet' | 'Never' | '';

export type IPPool = CalicoObject<{
  cidr: string;
  ipipMode?: EncapsulationMode;
  vxlanMode?: EncapsulationMode;
  natOutgoing?: boolean;
  disabled?: boolean;
  disableBGPExport?: boolean;
  /** 26 or 122 when absent. */
  blockSize?: number;
  nodeSelector?: string;
  namespaceSelector?: string;
  allowedUses?: string[];
  assignmentMode?: 'Automatic' | 'Manual';
}>;

/** A number, or text such as `65001` or `1.10`. */
export type AsNumberText = number | string;

export interface SecretKeyRef {
  secretKeyRef?: { name: string; key: string };
}

/** podwire's own: Calico's open-source resources have no BFD (calico#4607). All optional; `{}` is BFD with the defaults. */
export interface BfdSpec {
  /** Go duration, `300ms` when absent. */
  minimumSendInterval?: string;
  /** Go duration, `300ms` when absent. */
  minimumReceiveInterval?: string;
  /** 3 when absent. */
  multiplier?: number;
  /** `Auto`: single hop (RFC 5881) to what is in the node's own subnet, multihop (RFC 5883) to the rest. */
  hops?: 'Auto' | 'Single' | 'Multi';
}

export type BGPConfiguration = CalicoObject<{
  logSeverityScreen?: string;
  nodeToNodeMeshEnabled?: boolean;
  asNumber?: AsNumberText;
  serviceClusterIPs?: { cidr: string }[];
  serviceExternalIPs?: { cidr: string }[];
  serviceLoadBalancerIPs?: { cidr: string }[];
  serviceLoadBalancerAggregation?: 'Enabled' | 'Disabled';
  communities?: { name: string; value: string }[];
  prefixAdvertisements?: { cidr: string; communities: string[] }[];
  listenPort?: number;
  nodeMeshPassword?: SecretKeyRef;
  nodeMeshMaxRestartTime?: string;
  /** podwire's own: in a mesh of more nodes than this, some become route reflectors by themselves; 0 never, 100 when absent. */
  automaticReflectorsAbove?: number;
  /** podwire's own: BFD between the nodes of the mesh. */
  nodeMeshBFD?: BfdSpec;
  bindMode?: 'None' | 'NodeIP';
  ignoredInterfaces?: string[];
  ipv4NormalRoutePriority?: number;
  ipv6NormalRoutePriority?: number;
}>;

export type BGPPeer = CalicoObject<{
  node?: string;
  nodeSelector?: string;
  peerIP?: string;
  asNumber?: AsNumberText;
  peerSelector?: string;
  localASNumber?: AsNumberText;
  keepOriginalNextHop?: boolean;
  nextHopMode?: 'Auto' | 'Self' | 'Keep';
  password?: SecretKeyRef;
  sourceAddress?: 'UseNodeIP' | 'None';
  maxRestartTime?: string;
  keepaliveTime?: string;
  numAllowedLocalASNumbers?: number;
  ttlSecurity?: number;
  reachableBy?: string;
  /** Pods of the node, instead of peerIP or peerSelector; with asNumber. */
  localWorkloadSelector?: string;
  filters?: string[];
  reversePeering?: 'Auto' | 'Manual';
  /** podwire's own. */
  bfd?: BfdSpec;
}>;

export interface BGPFilterRule {
  cidr?: string;
  matchOperator?: 'Equal' | 'NotEqual' | 'In' | 'NotIn';
  prefixLength?: { min?: number; max?: number };
  source?: 'RemotePeers';
  interface?: string;
  peerType?: 'eBGP' | 'iBGP';
  communities?: { values: string[] };
  asPathPrefix?: AsNumberText[];
  priority?: number;
  action: 'Accept' | 'Reject';
  operations?: {
    addCommunity?: { value: string };
    prependASPath?: { prefix: AsNumberText[] };
    setPriority?: { value: number };
  }[];
}

export type BGPFilter = CalicoObject<{
  exportV4?: BGPFilterRule[];
  importV4?: BGPFilterRule[];
  exportV6?: BGPFilterRule[];
  importV6?: BGPFilterRule[];
}>;

export type BlockAffinity = CalicoObject<{
  state: 'pending' | 'confirmed' | 'pendingDeletion';
  node: string;
  /** `host` when absent. */
  type?: string;
  cidr: string;
  /** A string in v1 storage. */
  deleted: string;
}>;

export interface AllocationAttribute {
  handle_id?: string | null;
  secondary?: Record<string, string> | null;
}

export type IPAMBlock = CalicoObject<{
  cidr: string;
  /** `host:NODE`, `virtual:NAME`, or absent. */
  affinity?: string | null;
  affinityClaimTime?: string | null;
  /** Index into `attributes` by ordinal. */
  allocations: (number | null)[];
  /** Ordinals, first in first out. */
  unallocated: number[];
  attributes: AllocationAttribute[];
  sequenceNumber?: number;
  sequenceNumberForAllocation?: Record<string, number>;
  deleted?: boolean;
  /** Deprecated, still required. */
  strictAffinity: boolean;
}>;

export type IPAMHandle = CalicoObject<{
  handleID: string;
  block: Record<string, number>;
  deleted?: boolean;
}>;

export type IPAMConfig = CalicoObject<{
  strictAffinity: boolean;
  autoAllocateBlocks: boolean;
  /** 0 is 20. */
  maxBlocksPerHost?: number;
  ipCooldownSeconds?: number;
}>;

export type IPReservation = CalicoObject<{ reservedCIDRs?: string[] }>;
