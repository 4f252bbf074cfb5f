// Flannel's node annotations (flannel pkg/subnet/kube/annotations.go): reading what another node says of itself, with
// suspicion, and writing what we say. A malformed or hostile annotation refuses that one node (or that one address
// family of it), never throws, and is reported as a Problem on the node.
import type { Node } from '../../src/api/types.ts';
import { type Cidr, cidrContainsCidr, formatCidr, hasHostBits, parseCidr } from '../../src/lib/cidr.ts';
import {
  familyOf,
  formatIp,
  type IpFamily,
  isLinkLocal,
  isLoopback,
  isMulticast,
  isUnspecified,
  parseIp,
} from '../../src/lib/ip.ts';
import { formatMac, parseMac } from '../../src/lib/mac.ts';
import type { Problem } from '../../src/lib/problem.ts';

export const DEFAULT_ANNOTATION_PREFIX = 'flannel.alpha.coreos.com';

/** Flannel's names, below the prefix. */
export const ANNOTATION = {
  subnetManager: 'kube-subnet-manager',
  backendType: 'backend-type',
  backendData: 'backend-data',
  backendV6Data: 'backend-v6-data',
  publicIp: 'public-ip',
  publicIpv6: 'public-ipv6',
  publicIpOverwrite: 'public-ip-overwrite',
  publicIpv6Overwrite: 'public-ipv6-overwrite',
  nodePublicIp: 'node-public-ip',
  nodePublicIpv6: 'node-public-ipv6',
} as const;

export interface VtepData {
  vni: number;
  mac: string;
}

/** One address family of one node, checked. */
export interface FamilyLease {
  node: string;
  family: IpFamily;
  /** Canonical pod CIDR. */
  subnet: string;
  cidr: Cidr;
  /** Where encapsulated (or, for host-gw, plain) packets for this node go. */
  publicIp: string;
  /** Only when the backend is vxlan. */
  vtep?: VtepData;
}

/** What a node says of itself, checked. */
export interface NodeLease {
  node: string;
  backendType: string;
  createdAt: string;
  families: FamilyLease[];
}

export function annotationKey(prefix: string, name: string): string {
  return `${prefix}/${name}`;
}

/** Pod CIDRs of a node, at most one a family, the first of each. */
export function podCidrs(node: Node): { cidrs: Cidr[]; bad: string[] } {
  const texts = node.spec?.podCIDRs?.length
    ? node.spec.podCIDRs
    : node.spec?.podCIDR
      ? [node.spec.podCIDR]
      : [];
  const cidrs: Cidr[] = [];
  const bad: string[] = [];
  for (const text of texts) {
    const cidr = typeof text === 'string' ? parseCidr(text) : undefined;
    if (!cidr || hasHostBits(cidr)) bad.push(String(text));
    else if (!cidrs.some(other => other.family === cidr.family)) cidrs.push(cidr);
  }
  return { cidrs, bad };
}

/** `{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}`; the reason when it is not that. */
export function parseVtepData(text: string | undefined): VtepData | string {
  if (text === undefined) return 'is missing';
  if (text.length > 4096) return `is ${text.length} characters long`;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return `is not JSON: ${JSON.stringify(text.slice(0, 80))}`;
  }
  if (typeof json !== 'object' || json === null) return 'is not a JSON object';
  const { VNI, VtepMAC } = json as { VNI?: unknown; VtepMAC?: unknown };
  if (typeof VNI !== 'number' || !Number.isInteger(VNI) || VNI < 1 || VNI > 0xff_ffff)
    return `has no valid VNI`;
  const mac = typeof VtepMAC === 'string' ? parseMac(VtepMAC) : undefined;
  if (!mac) return 'has no valid VtepMAC';
  if ((mac[0]! & 1) !== 0 || mac.every(byte => byte === 0))
    return `has VtepMAC ${formatMac(mac)}, which no device can have`;
  return { vni: VNI, mac: formatMac(mac) };
}

/** Key order matters to old flanneld, which splits this string by hand. */
export function formatVtepData(data: VtepData): string {
  return JSON.stringify({ VNI: data.vni, VtepMAC: data.mac });
}

/** The canonical unicast address of this family, or the reason why the text is none. */
function parsePublicIp(text: string | undefined, family: IpFamily): { ip: string } | string {
  if (!text) return 'is missing';
  const bytes = parseIp(text);
  if (!bytes) return `is not an address: ${JSON.stringify(text.slice(0, 80))}`;
  if (familyOf(bytes) !== family) return `is ${formatIp(bytes)}, not an IPv${family} address`;
  if (isLoopback(bytes) || isMulticast(bytes) || isUnspecified(bytes) || isLinkLocal(bytes))
    return `is ${formatIp(bytes)}, which no node can be reached at`;
  if (family === 4 && bytes.every(byte => byte === 255)) return 'is the broadcast address';
  return { ip: formatIp(bytes) };
}

/** The parts of a Node that the overlay reads: equal keys mean nothing to do. */
export function leaseKey(node: Node, prefix: string): string {
  const annotations = node.metadata?.annotations ?? {};
  const read = (name: string): string | undefined => annotations[annotationKey(prefix, name)];
  return JSON.stringify([
    node.metadata?.uid,
    read(ANNOTATION.subnetManager),
    read(ANNOTATION.backendType),
    read(ANNOTATION.backendData),
    read(ANNOTATION.backendV6Data),
    read(ANNOTATION.publicIp),
    read(ANNOTATION.publicIpv6),
    read(ANNOTATION.publicIpOverwrite),
    read(ANNOTATION.publicIpv6Overwrite),
    node.spec?.podCIDR,
    node.spec?.podCIDRs,
  ]);
}

export interface LeaseRules {
  prefix: string;
  /** The cluster's pod networks: a subnet outside them is refused. */
  networks: readonly Cidr[];
  backendType: string;
  /** The VNI every peer must use; only for vxlan. */
  vni?: number;
}

/**
 * What a peer says of itself. A node without kube-subnet-manager takes no part and is no problem; one that takes part
 * wrongly is left out, by family where only one is wrong.
 */
export function readLease(node: Node, rules: LeaseRules): { lease?: NodeLease; problems: Problem[] } {
  const name = node.metadata?.name ?? '';
  const annotations = node.metadata?.annotations ?? {};
  const read = (key: string): string | undefined => annotations[annotationKey(rules.prefix, key)];
  const problems: Problem[] = [];
  const refuse = (reason: string, message: string): void => {
    problems.push({ kind: 'Node', name, reason, message: `${message}; the overlay leaves this node out` });
  };
  if (name === '' || read(ANNOTATION.subnetManager) !== 'true') return { problems };
  const backendType = read(ANNOTATION.backendType) ?? '';
  if (backendType !== rules.backendType) {
    refuse('BackendMismatch', `backend-type is ${JSON.stringify(backendType)}, ours is ${rules.backendType}`);
    return { problems };
  }
  const { cidrs, bad } = podCidrs(node);
  for (const text of bad) refuse('BadPodCIDR', `podCIDR ${JSON.stringify(text)} is not a network`);
  const families: FamilyLease[] = [];
  for (const cidr of cidrs) {
    const network = rules.networks.find(candidate => candidate.family === cidr.family);
    if (!network) continue;
    if (!cidrContainsCidr(network, cidr) || cidr.prefixLength === network.prefixLength) {
      refuse(
        'BadPodCIDR',
        `podCIDR ${formatCidr(cidr)} is not a part of the pod network ${formatCidr(network)}`,
      );
      continue;
    }
    const v6 = cidr.family === 6;
    const overwrite = read(v6 ? ANNOTATION.publicIpv6Overwrite : ANNOTATION.publicIpOverwrite);
    const publicName = v6 ? ANNOTATION.publicIpv6 : ANNOTATION.publicIp;
    const publicIp = parsePublicIp(overwrite || read(publicName), cidr.family);
    if (typeof publicIp === 'string') {
      refuse('BadPublicIP', `annotation ${publicName} ${publicIp}`);
      continue;
    }
    const lease: FamilyLease = {
      node: name,
      family: cidr.family,
      subnet: formatCidr(cidr),
      cidr,
      publicIp: publicIp.ip,
    };
    if (rules.backendType === 'vxlan') {
      const dataName = v6 ? ANNOTATION.backendV6Data : ANNOTATION.backendData;
      const vtep = parseVtepData(read(dataName));
      if (typeof vtep === 'string') {
        refuse('BadBackendData', `annotation ${dataName} ${vtep}`);
        continue;
      }
      if (vtep.vni !== rules.vni) {
        refuse('BadBackendData', `annotation ${dataName} has VNI ${vtep.vni}, ours is ${rules.vni}`);
        continue;
      }
      lease.vtep = vtep;
    }
    families.push(lease);
  }
  if (families.length === 0) return { problems };
  const createdAt = String(node.metadata?.creationTimestamp ?? '');
  return { lease: { node: name, backendType, createdAt, families }, problems };
}
