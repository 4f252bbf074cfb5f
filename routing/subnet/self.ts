// What this node contributes to the overlay: its pod CIDRs within the pod networks, its public addresses, the MAC of its
// VTEPs, and the annotations and the condition that tell the others. Pure.
import type { Node } from '../../src/api/types.ts';
import { type Cidr, cidrContainsCidr, formatCidr } from '../../src/lib/cidr.ts';
import { PodwireError } from '../../src/lib/errors.ts';
import { canonicalIp, type IpFamily, ipFamily } from '../../src/lib/ip.ts';
import { macFromSeed } from '../../src/lib/mac.ts';
import { ANNOTATION, annotationKey, formatVtepData, parseVtepData, podCidrs } from './annotations.ts';
import { type NetConf, networkOf } from './net-conf.ts';
import type { SelfClaims } from './peers.ts';
import { type Underlay, underlayAddress } from './underlay.ts';

export interface SelfFamily {
  family: IpFamily;
  network: Cidr;
  subnet: Cidr;
  /** An address of the underlay link: where envelopes leave from. */
  localIp: string;
  /** Where peers send to; differs from localIp only behind NAT (public-ip-overwrite). */
  publicIp: string;
  /** Only for vxlan. */
  vtepMac?: string;
}

export interface Self {
  node: string;
  families: SelfFamily[];
}

/** The MAC in our own annotation if it is a good one, else one derived from the node's name: it survives a reboot. */
function vtepMac(node: Node, prefix: string, family: IpFamily, vni: number): string {
  const key = family === 4 ? ANNOTATION.backendData : ANNOTATION.backendV6Data;
  const kept = parseVtepData(node.metadata?.annotations?.[annotationKey(prefix, key)]);
  if (typeof kept !== 'string' && kept.vni === vni) return kept.mac;
  return macFromSeed(`vtep ${node.metadata?.name} ${family} ${vni}`);
}

/**
 * This node's share; throws a PodwireError with a sentence for the operator when it has none:
 * NO_POD_CIDR (not assigned yet: wait), POD_CIDR_OUTSIDE, NO_UNDERLAY_ADDRESS.
 */
export function planSelf(node: Node, config: NetConf, underlay: Underlay, prefix: string): Self {
  const name = node.metadata?.name ?? '';
  const annotations = node.metadata?.annotations ?? {};
  const read = (key: string): string | undefined => annotations[annotationKey(prefix, key)];
  const { cidrs } = podCidrs(node);
  const families: SelfFamily[] = [];
  for (const family of [4, 6] as const) {
    const network = networkOf(config, family);
    if (!network) continue;
    const subnet = cidrs.find(cidr => cidr.family === family);
    if (!subnet)
      throw new PodwireError(
        'NO_POD_CIDR',
        `node "${name}" pod cidr not assigned (IPv${family}); waiting for it`,
      );
    if (!cidrContainsCidr(network, subnet))
      throw new PodwireError(
        'POD_CIDR_OUTSIDE',
        `subnet "${formatCidr(network)}" specified in the flannel net config doesn't contain "${formatCidr(subnet)}" PodCIDR of the "${name}" node`,
      );
    const wanted = read(family === 4 ? ANNOTATION.nodePublicIp : ANNOTATION.nodePublicIpv6);
    const localIp = underlayAddress(underlay, family, wanted && canonicalIp(wanted));
    if (!localIp)
      throw new PodwireError(
        'NO_UNDERLAY_ADDRESS',
        `link ${underlay.link} has no IPv${family} address to reach the other nodes from`,
      );
    const overwrite = read(family === 4 ? ANNOTATION.publicIpOverwrite : ANNOTATION.publicIpv6Overwrite);
    const publicIp = overwrite && ipFamily(overwrite) === family ? canonicalIp(overwrite)! : localIp;
    families.push({
      family,
      network,
      subnet,
      localIp,
      publicIp,
      ...(config.backend.type === 'vxlan'
        ? { vtepMac: vtepMac(node, prefix, family, config.backend.vni) }
        : {}),
    });
  }
  return { node: name, families };
}

/** The annotations that tell the others about us. */
export function selfAnnotations(self: Self, config: NetConf, prefix: string): Record<string, string> {
  const annotations: Record<string, string> = {
    [annotationKey(prefix, ANNOTATION.subnetManager)]: 'true',
    [annotationKey(prefix, ANNOTATION.backendType)]: config.backend.type,
  };
  for (const family of self.families) {
    const v6 = family.family === 6;
    annotations[annotationKey(prefix, v6 ? ANNOTATION.publicIpv6 : ANNOTATION.publicIp)] = family.publicIp;
    annotations[annotationKey(prefix, v6 ? ANNOTATION.backendV6Data : ANNOTATION.backendData)] =
      config.backend.type === 'vxlan' && family.vtepMac
        ? formatVtepData({ vni: config.backend.vni, mac: family.vtepMac })
        : 'null';
  }
  return annotations;
}

/** A strategic merge patch for `nodes/<name>/status`. */
export interface NodeStatusPatch {
  metadata?: { annotations: Record<string, string> };
  status?: { conditions: Record<string, string>[] };
}

/** What must be written to our Node, or undefined when it says so already. `now` is RFC 3339. */
export function planPublication(
  node: Node,
  self: Self,
  config: NetConf,
  prefix: string,
  now: string,
): NodeStatusPatch | undefined {
  const wanted = selfAnnotations(self, config, prefix);
  const present = node.metadata?.annotations ?? {};
  const changed = Object.entries(wanted).filter(([key, value]) => present[key] !== value);
  const condition = node.status?.conditions?.find(entry => entry.type === 'NetworkUnavailable');
  const patch: NodeStatusPatch = {};
  if (changed.length > 0) patch.metadata = { annotations: Object.fromEntries(changed) };
  if (condition?.status !== 'False')
    patch.status = {
      conditions: [
        {
          type: 'NetworkUnavailable',
          status: 'False',
          reason: 'FlannelIsUp',
          message: 'Flannel is running on this node',
          lastTransitionTime: now,
          lastHeartbeatTime: now,
        },
      ],
    };
  return patch.metadata || patch.status ? patch : undefined;
}

/** What no peer may claim. */
export function claimsOf(self: Self): SelfClaims {
  return {
    node: self.node,
    subnets: self.families.map(family => family.subnet),
    publicIps: [...new Set(self.families.flatMap(family => [family.publicIp, family.localIp]))],
    vtepMacs: self.families.flatMap(({ family, vtepMac: mac }) => (mac ? [{ family, mac }] : [])),
  };
}
