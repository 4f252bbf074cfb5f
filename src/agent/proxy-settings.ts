// From KubeProxyConfiguration, this Node's object and the addresses of the machine to what the service proxy is built
// of. Plain data: when it differs from what runs, the proxy is built anew over the same kernel.
import { DEFAULT_IPTABLES_CONFIG, type IptablesConfig } from '../../proxy/backend/iptables/plan/config.ts';
import type { UserspaceConfig } from '../../proxy/backend/userspace/backend.ts';
import type { ProxyMode } from '../../proxy/cleanup.ts';
import { parseClusterCidrs, parsePortRange } from '../../proxy/config/addresses.ts';
import type { ProxyConfiguration } from '../../proxy/config/config.ts';
import type { Family } from '../../proxy/model/types.ts';
import type { Node } from '../api/types.ts';
import { cidrContains, formatCidr, parseCidr } from '../lib/cidr.ts';
import { canonicalIp, ipFamily, isLinkLocal, isLoopback, isUnspecified, parseIp } from '../lib/ip.ts';

export interface ProxySettings {
  mode: ProxyMode;
  families: readonly Family[];
  rules: IptablesConfig;
  /** Undefined: as fast as syncs allow. */
  minSyncPeriodMs?: number;
  syncPeriodMs: number;
  /** Where health check node ports listen; undefined is everywhere. */
  healthCheckAddresses?: readonly string[];
  userspace: UserspaceConfig;
  /** Where cluster IPs come from, as far as the cluster says. */
  serviceCidrs: readonly string[];
  /** nftables mode: TCP node ports on localhost by a relay. */
  localhostRelay: boolean;
}

export interface Surroundings {
  /** Our Node, once there is one. */
  node: Node | undefined;
  /** Every address of the machine, canonical. */
  addresses: readonly string[];
  /** The networks of the cluster's ServiceCIDR objects. */
  serviceCidrs: readonly string[];
  /** False where the kernel has IPv6 switched off. */
  ipv6: boolean;
}

type PerFamily = { v4: readonly string[]; v6: readonly string[] };

function byFamily(addresses: readonly string[]): PerFamily {
  return {
    v4: addresses.filter(ip => ipFamily(ip) === 4),
    v6: addresses.filter(ip => ipFamily(ip) === 6),
  };
}

/** The Node's InternalIPs; before the Node is known, --bind-address or the machine's own. */
export function nodeIpsOf(configuration: ProxyConfiguration, around: Surroundings): string[] {
  const listed = (around.node?.status?.addresses ?? [])
    .filter(({ type }) => type === 'InternalIP')
    .flatMap(({ address }) => canonicalIp(address) ?? []);
  if (listed.length > 0) return [...new Set(listed)];
  const bind = parseIp(configuration.string('bindAddress'));
  if (bind && !isUnspecified(bind)) return [configuration.string('bindAddress')];
  return around.addresses.filter(ip => {
    const bytes = parseIp(ip);
    return bytes !== undefined && !isLoopback(bytes) && !isLinkLocal(bytes);
  });
}

/** Undefined: every address of the node (the default of iptables). */
function nodePortAddresses(
  configuration: ProxyConfiguration,
  mode: ProxyMode,
  nodeIps: readonly string[],
  around: Surroundings,
): PerFamily | undefined {
  const asked = configuration.strings('nodePortAddresses');
  if (asked.length === 0) return mode === 'nftables' ? byFamily(nodeIps) : undefined;
  if (asked[0] === 'primary') return byFamily(nodeIps);
  const networks = asked.flatMap(text => parseCidr(text) ?? []);
  const chosen = around.addresses.filter(ip => {
    const bytes = parseIp(ip);
    return bytes !== undefined && networks.some(network => cidrContains(network, bytes));
  });
  const found = byFamily(chosen);
  // Upstream: a family that no network speaks of has node ports everywhere.
  const all = byFamily(around.addresses);
  return {
    v4: networks.some(({ family }) => family === 4) ? found.v4 : all.v4,
    v6: networks.some(({ family }) => family === 6) ? found.v6 : all.v6,
  };
}

function localDetector(
  configuration: ProxyConfiguration,
  node: Node | undefined,
): IptablesConfig['localDetector'] | undefined {
  const cidr = configuration.string('clusterCIDR');
  switch (configuration.string('detectLocalMode') || (cidr ? 'ClusterCIDR' : '')) {
    case 'ClusterCIDR': {
      const parsed = parseClusterCidrs(cidr);
      if (!parsed?.v4 && !parsed?.v6) return { mode: 'none' };
      return {
        mode: 'cidr',
        ...(parsed.v4 ? { v4: formatCidr(parsed.v4) } : {}),
        ...(parsed.v6 ? { v6: formatCidr(parsed.v6) } : {}),
      };
    }
    case 'NodeCIDR': {
      const cidrs = node?.spec?.podCIDRs ?? (node?.spec?.podCIDR ? [node.spec.podCIDR] : []);
      const parsed = parseClusterCidrs(cidrs.join(','));
      if (!parsed?.v4 && !parsed?.v6) return undefined;
      return {
        mode: 'cidr',
        ...(parsed.v4 ? { v4: formatCidr(parsed.v4) } : {}),
        ...(parsed.v6 ? { v6: formatCidr(parsed.v6) } : {}),
      };
    }
    case 'BridgeInterface':
      return { mode: 'bridge', interface: configuration.string('detectLocal.bridgeInterface') };
    case 'InterfaceNamePrefix':
      return { mode: 'prefix', prefix: configuration.string('detectLocal.interfaceNamePrefix') };
    default:
      return { mode: 'none' };
  }
}

/** Undefined as long as something is missing that only the Node can tell: mode NodeCIDR without podCIDRs. */
export function settingsFrom(
  configuration: ProxyConfiguration,
  around: Surroundings,
): ProxySettings | undefined {
  const mode = (configuration.string('mode') || 'iptables') as ProxyMode;
  const section = mode === 'nftables' ? 'nftables' : 'iptables';
  const detector = localDetector(configuration, around.node);
  if (!detector) return undefined;
  const nodeIps = nodeIpsOf(configuration, around);
  const nodePorts = nodePortAddresses(configuration, mode, nodeIps, around);
  const minSync = `${section}.minSyncPeriod`;
  const range = parsePortRange(configuration.string('portRange'));
  return {
    mode,
    families: around.ipv6 ? [4, 6] : [4],
    rules: {
      ...DEFAULT_IPTABLES_CONFIG,
      masqueradeMark: (1 << configuration.number(`${section}.masqueradeBit`)) >>> 0,
      masqueradeAll: configuration.boolean(`${section}.masqueradeAll`),
      localDetector: detector,
      localhostNodePorts: mode === 'iptables' && configuration.boolean('iptables.localhostNodePorts'),
      ...(nodePorts ? { nodePortAddresses: nodePorts } : {}),
      nodeIps,
      dropInvalid: !configuration.boolean('conntrack.tcpBeLiberal'),
    },
    // Upstream's default of one second is for its own slow syncs; ours adapt unless somebody asks.
    ...(configuration.isSet(minSync) ? { minSyncPeriodMs: configuration.number(minSync) } : {}),
    syncPeriodMs: configuration.number(`${section}.syncPeriod`),
    ...(nodePorts ? { healthCheckAddresses: [...nodePorts.v4, ...nodePorts.v6] } : {}),
    serviceCidrs: around.serviceCidrs,
    localhostRelay: mode === 'nftables' && configuration.boolean('nftables.localhostNodePorts'),
    userspace: {
      ...(typeof range === 'object' ? { portRange: range } : {}),
      ...(nodePorts ? { nodePortAddresses: nodePorts } : {}),
      udpIdleMs: configuration.number('udpIdleTimeout'),
      listen: {
        v4: byFamily(nodeIps).v4[0] ?? '0.0.0.0',
        v6: byFamily(nodeIps).v6[0] ?? '::',
      },
    },
  };
}
