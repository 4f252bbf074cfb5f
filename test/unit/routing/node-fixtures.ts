// Node objects as an API server gives them, for the overlay's tests.
import type { Node } from '../../../src/api/types.ts';

export interface NodeOptions {
  podCidrs?: string[];
  publicIp?: string;
  publicIpv6?: string;
  mac?: string;
  mac6?: string;
  vni?: number;
  backendType?: string;
  createdAt?: string;
  annotations?: Record<string, string>;
}

const P = 'flannel.alpha.coreos.com';

export function makeNode(name: string, options: NodeOptions = {}): Node {
  const vni = options.vni ?? 1;
  return {
    metadata: {
      name,
      uid: `uid-${name}`,
      creationTimestamp: options.createdAt ?? '2026-01-01T00:00:00Z',
      annotations: {
        [`${P}/kube-subnet-manager`]: 'true',
        [`${P}/backend-type`]: options.backendType ?? 'vxlan',
        ...(options.publicIp ? { [`${P}/public-ip`]: options.publicIp } : {}),
        ...(options.publicIpv6 ? { [`${P}/public-ipv6`]: options.publicIpv6 } : {}),
        ...(options.mac ? { [`${P}/backend-data`]: `{"VNI":${vni},"VtepMAC":"${options.mac}"}` } : {}),
        ...(options.mac6 ? { [`${P}/backend-v6-data`]: `{"VNI":${vni},"VtepMAC":"${options.mac6}"}` } : {}),
        ...options.annotations,
      },
    },
    spec: options.podCidrs ? { podCIDR: options.podCidrs[0], podCIDRs: options.podCidrs } : {},
    status: {},
  };
}

/** Peer number n of a big cluster: its own /24 of 10.0.0.0/8 pods, address and MAC. */
export function nthNode(n: number): Node {
  const byte = (shift: number): number => (n >> shift) & 255;
  return makeNode(`node-${String(n).padStart(5, '0')}`, {
    podCidrs: [`10.${byte(8)}.${byte(0)}.0/24`],
    publicIp: `172.16.${byte(8)}.${byte(0)}`,
    mac: `02:00:00:00:${byte(8).toString(16).padStart(2, '0')}:${byte(0).toString(16).padStart(2, '0')}`,
  });
}
