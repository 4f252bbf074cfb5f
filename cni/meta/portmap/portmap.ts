// The portmap plugin: ports of the host lead to ports of a pod, by elements of the owned nftables table keyed by port, or
// by chains of iptables; one transaction a pod. A port that another pod has is refused. DEL needs only the network, container and interface names.
import type { Cidr } from '../../../src/lib/cidr.ts';
import { CniError, hasCode } from '../../../src/lib/errors.ts';
import { formatIp } from '../../../src/lib/ip.ts';
import { Nftables } from '../../../src/linux/nftables.ts';
import { Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { readIptables } from '../../iptables/host.ts';
import { orphanTest, ownerName } from '../../link/owner.ts';
import { gone, setIfThere } from '../../link/pod-interface.ts';
import type { SetName } from '../../nft/layout.ts';
import { PodRules } from '../../nft/pod-rules.ts';
import { delReferenceHostPorts } from '../../nft/reference-tables.ts';
import { removeFromAll } from '../../nft/removal.ts';
import { CNI_ERROR } from '../../runtime/errors.ts';
import { type Call, type Plugin, requirePrevResult, validAttachments } from '../../runtime/plugin.ts';
import type { Result } from '../../runtime/result.ts';
import { CNI_VERSIONS } from '../../runtime/versions.ts';
import { type PortmapConfig, PROTOCOLS, podAddresses, readPortmapConfig } from './config.ts';
import { addPortChains, checkPortChains, collectPortChains, delPortChains } from './iptables.ts';
import { planPortMappings, readPortKey } from './nftables-plan.ts';
import { flushUdpFlows, type HostPort } from './udp-flows.ts';

const SETS = new Set<SetName>([
  'hostports4',
  'hostports6',
  'hostip_hostports4',
  'hostip_hostports6',
  'conditional_hostports4',
  'conditional_hostports6',
  'conditional_hostip_hostports4',
  'conditional_hostip_hostports6',
  'snat4',
  'snat6',
]);

export const portmap: Plugin = {
  name: 'portmap',
  versions: CNI_VERSIONS,

  async add(call: Call): Promise<Result> {
    const config = readPortmapConfig(call);
    const result = requirePrevResult(call);
    if (config.mappings.length === 0) return result;
    const pods = podAddresses(result);
    const udp =
      config.backend === 'iptables'
        ? await addPortChains(call, config, pods)
        : addElements(call, config, pods);
    const pod4 = pods.find(pod => pod.family === 4);
    if (config.snat && pod4 !== undefined) allowLocalhost(call, formatIp(pod4.address));
    flushUdpFlows(call.site.hostNetns, udp);
    return result;
  },

  async del(call: Call): Promise<void> {
    const owner = ownerName(call.networkName, call);
    await removeFromAll(
      'portmap DEL',
      () => removeElements(call, holder => holder === owner),
      async () => flushUdpFlows(call.site.hostNetns, await delPortChains(call)),
      () => delReferenceHostPorts(call),
    );
  },

  async check(call: Call): Promise<void> {
    const config = readPortmapConfig(call);
    const pods = podAddresses(requirePrevResult(call));
    if (config.mappings.length === 0) return;
    if (config.backend === 'iptables') {
      await checkPortChains(call, config, pods);
      return;
    }
    using rules = PodRules.open(call.site.hostNetns);
    const missing = rules.missing(ownerName(call.networkName, call), planPortMappings(config, pods));
    if (missing !== undefined) throw gone(`${missing} is missing in nftables`);
  },

  async status(call: Call): Promise<void> {
    const { backend } = readPortmapConfig(call);
    try {
      if (backend === 'iptables') {
        await readIptables(call, 4, 'nat', table => table.hasChain('PREROUTING'));
        return;
      }
      using nft = Nftables.open(call.site.hostNetns);
      nft.generation();
    } catch (cause) {
      throw new CniError(CNI_ERROR.NOT_AVAILABLE, `the kernel has no ${backend}`, '', { cause });
    }
  },

  async gc(call: Call): Promise<void> {
    const valid = validAttachments(call.config);
    await removeFromAll(
      'portmap GC',
      () => removeElements(call, orphanTest(call.networkName, valid)),
      async () => flushUdpFlows(call.site.hostNetns, await collectPortChains(call, valid)),
    );
  },
};

function addElements(call: Call, config: PortmapConfig, pods: readonly Cidr[]): HostPort[] {
  using rules = PodRules.open(call.site.hostNetns);
  const plan = planPortMappings(config, pods);
  rules.add(ownerName(call.networkName, call), plan);
  return udpPorts(plan);
}

function removeElements(call: Call, chosen: (owner: string) => boolean): void {
  using rules = PodRules.open(call.site.hostNetns);
  const removed = rules.remove((holder, name) => SETS.has(name) && chosen(holder));
  const keys = removed.map(({ set, element }) => ({ set, key: element.key }));
  flushUdpFlows(call.site.hostNetns, udpPorts(keys));
}

/** The UDP host ports among a pod's rules. */
function udpPorts(rules: readonly { set: SetName; key: Uint8Array }[]): HostPort[] {
  return rules
    .filter(({ set }) => set.includes('hostports'))
    .map(({ set, key }) => ({ ...readPortKey(key), family: set.endsWith('4') ? (4 as const) : (6 as const) }))
    .filter(one => one.protocol === PROTOCOLS.udp);
}

/** Lets 127.0.0.1:PORT be translated: the kernel drops packets from 127/8 on other interfaces unless told. */
function allowLocalhost(call: Call, podIp: string): void {
  using host = Rtnetlink.open(call.site.hostNetns);
  try {
    const index = host.getRoute(podIp).linkIndex;
    const link = index === undefined ? undefined : host.getLink(index);
    if (link !== undefined) setIfThere(call.site.hostNetns, `net/ipv4/conf/${link.name}/route_localnet`, '1');
  } catch (error) {
    // Without a route to the pod there is nothing to allow.
    if (!hasCode(error, 'ENETUNREACH') && !hasCode(error, 'EHOSTUNREACH')) throw error;
  }
}
