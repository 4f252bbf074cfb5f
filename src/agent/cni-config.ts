// The network configuration list that containerd reads on this node: bridge + host-local over the node's podCIDRs, or a
// routed link with an address of an IP pool. Written only when the network between nodes stands, so that a node becomes
// Ready no earlier than its network works.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const NETWORK_NAME = 'podwire';
const FILE_NAME = '10-podwire.conflist';

/** Pods on a bridge, in the node's own subnets. */
export interface BridgeNetwork {
  kind: 'bridge';
  podCidrs: string[];
  mtuBytes: number;
  /** host-local's directory of reservations. */
  ipamDirectory: string;
}

/** Every pod on a link of its own, with addresses from IP pools (podwire-ipam). */
export interface RoutedNetwork {
  kind: 'routed';
  families: readonly (4 | 6)[];
  mtuBytes: number;
}

export type NodeNetwork = BridgeNetwork | RoutedNetwork;

/** A CNI 1.0.0 list, the newest version that containerd 1.6 sends. Pure. */
export function planConflist(network: NodeNetwork): object {
  return {
    cniVersion: '1.0.0',
    name: NETWORK_NAME,
    plugins: [
      network.kind === 'bridge' ? bridge(network) : routed(network),
      { type: 'portmap', capabilities: { portMappings: true }, snat: true },
      // kubernetes.io/ingress-bandwidth and egress-bandwidth of pods; nothing for pods without.
      { type: 'bandwidth', capabilities: { bandwidth: true } },
    ],
  };
}

function bridge(network: BridgeNetwork): object {
  return {
    type: 'bridge',
    bridge: 'cni0',
    isGateway: true,
    isDefaultGateway: true,
    hairpinMode: true,
    mtu: network.mtuBytes,
    ipam: {
      type: 'host-local',
      dataDir: network.ipamDirectory,
      ranges: network.podCidrs.map(subnet => [{ subnet }]),
    },
  };
}

function routed({ families, mtuBytes }: RoutedNetwork): object {
  return {
    type: 'ptp',
    mtu: mtuBytes,
    ipam: {
      type: 'podwire-ipam',
      assign_ipv4: String(families.includes(4)),
      assign_ipv6: String(families.includes(6)),
    },
  };
}

/** Writes the list into `directory` by rename, only when it differs. Returns whether it did. */
export function writeConflist(directory: string, network: NodeNetwork): boolean {
  const path = join(directory, FILE_NAME);
  const text = `${JSON.stringify(planConflist(network), null, 2)}\n`;
  mkdirSync(directory, { recursive: true });
  try {
    if (readFileSync(path, 'utf8') === text) return false;
  } catch {
    // Not there yet.
  }
  writeFileSync(`${path}.tmp`, text);
  renameSync(`${path}.tmp`, path);
  return true;
}
