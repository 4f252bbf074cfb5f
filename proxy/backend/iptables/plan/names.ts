// kube-proxy's chain names (Kubernetes pkg/proxy/iptables/proxier.go): people and tools read them, so they are the same
// here. The hash is the first 16 characters of base32(sha256(name + protocol [+ endpoint])). Pure.
import { hash } from 'node:crypto';

export const CHAIN = {
  services: 'KUBE-SERVICES',
  externalServices: 'KUBE-EXTERNAL-SERVICES',
  nodePorts: 'KUBE-NODEPORTS',
  postrouting: 'KUBE-POSTROUTING',
  markMasq: 'KUBE-MARK-MASQ',
  forward: 'KUBE-FORWARD',
  firewall: 'KUBE-PROXY-FIREWALL',
  /** Shared with kubelet, which writes the same rule. */
  kubeletFirewall: 'KUBE-FIREWALL',
  canary: 'KUBE-PROXY-CANARY',
} as const;

const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** The first 16 characters of RFC 4648 base32 of sha256. */
function hash16(text: string): string {
  const digest = hash('sha256', text, 'buffer');
  let result = '';
  for (let bit = 0; bit < 80; bit += 5) {
    const window = (digest[bit >> 3]! << 8) | digest[(bit >> 3) + 1]!;
    result += BASE32[(window >> (11 - (bit & 7))) & 31];
  }
  return result;
}

/** The names of one service port's chains. */
export interface PortChains {
  /** Cluster policy. */
  cluster: string;
  /** Local policy. */
  local: string;
  external: string;
  firewall: string;
}

/** `protocol` in lower case. */
export function portChains(name: string, protocol: string): PortChains {
  const hash = hash16(name + protocol);
  return {
    cluster: `KUBE-SVC-${hash}`,
    local: `KUBE-SVL-${hash}`,
    external: `KUBE-EXT-${hash}`,
    firewall: `KUBE-FW-${hash}`,
  };
}

/** `endpoint` as net.JoinHostPort gives it. */
export function endpointChain(name: string, protocol: string, endpoint: string): string {
  return `KUBE-SEP-${hash16(name + protocol + endpoint)}`;
}
