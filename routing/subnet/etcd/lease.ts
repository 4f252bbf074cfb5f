// A node's lease in etcd as flannel writes it, and the same as a Node object with flannel's annotations, so that the
// overlay has one way in for both subnet managers. What is wrong in a lease is found where annotations are checked. Pure.
import type { Node } from '../../../src/api/types.ts';
import { formatCidr } from '../../../src/lib/cidr.ts';
import { canonicalIp } from '../../../src/lib/ip.ts';
import { ANNOTATION, annotationKey, DEFAULT_ANNOTATION_PREFIX } from '../annotations.ts';
import type { SubnetPair } from './keys.ts';

/** flannel's LeaseAttrs; BackendData is whatever the backend put there. */
export interface LeaseAttributes {
  publicIp: string;
  publicIpv6?: string;
  backendType: string;
  backendData?: unknown;
  backendV6Data?: unknown;
}

const KEY = {
  manager: annotationKey(DEFAULT_ANNOTATION_PREFIX, ANNOTATION.subnetManager),
  type: annotationKey(DEFAULT_ANNOTATION_PREFIX, ANNOTATION.backendType),
  data: annotationKey(DEFAULT_ANNOTATION_PREFIX, ANNOTATION.backendData),
  v6Data: annotationKey(DEFAULT_ANNOTATION_PREFIX, ANNOTATION.backendV6Data),
  ip: annotationKey(DEFAULT_ANNOTATION_PREFIX, ANNOTATION.publicIp),
  ipv6: annotationKey(DEFAULT_ANNOTATION_PREFIX, ANNOTATION.publicIpv6),
} as const;

/** The reason when the text is no lease at all; what its fields hold is judged later. */
export function parseLease(text: string): LeaseAttributes | string {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return `is not JSON: ${JSON.stringify(text.slice(0, 80))}`;
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return 'is not a JSON object';
  const { PublicIP, PublicIPv6, BackendType, BackendData, BackendV6Data } = json as Record<string, unknown>;
  if (typeof PublicIP !== 'string') return 'has no PublicIP';
  return {
    publicIp: PublicIP,
    ...(typeof PublicIPv6 === 'string' ? { publicIpv6: PublicIPv6 } : {}),
    backendType: typeof BackendType === 'string' ? BackendType : '',
    ...(BackendData == null ? {} : { backendData: BackendData }),
    ...(BackendV6Data == null ? {} : { backendV6Data: BackendV6Data }),
  };
}

/** Key order is flannel's. */
export function formatLease(lease: LeaseAttributes): string {
  return JSON.stringify({
    PublicIP: lease.publicIp,
    PublicIPv6: lease.publicIpv6 ?? null,
    BackendType: lease.backendType,
    ...(lease.backendData == null ? {} : { BackendData: lease.backendData }),
    ...(lease.backendV6Data == null ? {} : { BackendV6Data: lease.backendV6Data }),
  });
}

/** What a node says of itself in annotations, as its lease. */
export function leaseOfAnnotations(annotations: Record<string, string>): LeaseAttributes {
  const data = (key: string): unknown => {
    const text = annotations[key];
    return text === undefined ? undefined : (JSON.parse(text) as unknown);
  };
  return {
    publicIp: annotations[KEY.ip] ?? '',
    ...(annotations[KEY.ipv6] ? { publicIpv6: annotations[KEY.ipv6] } : {}),
    backendType: annotations[KEY.type] ?? '',
    backendData: data(KEY.data),
    backendV6Data: data(KEY.v6Data),
  };
}

export function annotationsOfLease(lease: LeaseAttributes): Record<string, string> {
  return {
    [KEY.manager]: 'true',
    [KEY.type]: lease.backendType,
    [KEY.ip]: lease.publicIp,
    ...(lease.publicIpv6 ? { [KEY.ipv6]: lease.publicIpv6 } : {}),
    [KEY.data]: JSON.stringify(lease.backendData ?? null),
    ...(lease.publicIpv6 ? { [KEY.v6Data]: JSON.stringify(lease.backendV6Data ?? null) } : {}),
  };
}

export interface LeaseNode {
  name: string;
  subnets: SubnetPair;
  lease: LeaseAttributes;
  /** etcd's create_revision: among contradicting leases the older one holds. */
  createRevision: bigint;
}

export function nodeOfLease({ name, subnets, lease, createRevision }: LeaseNode): Node {
  const cidrs = [subnets.v4, ...(subnets.v6 ? [subnets.v6] : [])].map(formatCidr);
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name,
      uid: `${name} ${createRevision}`,
      creationTimestamp: String(createRevision).padStart(20, '0'),
      annotations: annotationsOfLease(lease),
    },
    spec: { podCIDR: cidrs[0], podCIDRs: cidrs },
    // There is nobody who waits for this condition.
    status: { conditions: [{ type: 'NetworkUnavailable', status: 'False' }] },
  };
}

/** Whether a lease is that of the node with this public IP. */
export function holdsPublicIp(lease: LeaseAttributes, publicIp: string): boolean {
  return canonicalIp(lease.publicIp) === canonicalIp(publicIp);
}
