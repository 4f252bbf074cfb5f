// VLANs on the bridge: `vlan` makes a pod's port an access port, `vlanTrunk` a trunk; the gateway of a VLAN is a veth of the
// host, named BRIDGE.VLAN, whose other end is an access port like a pod's. Needs CONFIG_BRIDGE_VLAN_FILTERING.
import { CniError, hasCode } from '../../../src/lib/errors.ts';
import { macFromSeed } from '../../../src/lib/mac.ts';
import { BridgeVlans, type PortVlan } from '../../../src/linux/bridge-vlans.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import type { Link, Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { digest } from '../../link/owner.ts';
import { gone, setIfThere } from '../../link/pod-interface.ts';
import { CNI_ERROR, configError } from '../../runtime/errors.ts';
import type { Fields } from '../../runtime/fields.ts';

const MAX_VLAN_ID = 4094;
const MAX_LINK_NAME = 15;

export interface VlanConfig {
  /** VLAN of an access port; its gateway is not the bridge itself. */
  access: number | undefined;
  /** Of the pod's port; none where VLANs are not asked for. */
  port: PortVlan[];
  /** The bridge's default VLAN stays beside them. */
  keepDefault: boolean;
}

export function readVlanConfig(config: Fields): VlanConfig {
  const vlan = config.integer('vlan', -0x80000000, 0x7fffffff) ?? 0;
  if (vlan < 0 || vlan > MAX_VLAN_ID)
    throw configError(`invalid VLAN ID ${vlan} (must be between 0 and ${MAX_VLAN_ID})`);
  const trunk = joinRanges(config.fieldsList('vlanTrunk').flatMap(readTrunkItem));
  if (vlan > 0 && trunk.length > 0) throw configError('cannot set vlan and vlanTrunk at the same time');
  return {
    access: vlan === 0 ? undefined : vlan,
    port: vlan === 0 ? trunk : [accessVlan(vlan)],
    keepDefault: config.boolean('preserveDefaultVlan') ?? true,
  };
}

function accessVlan(vlan: number): PortVlan {
  return { from: vlan, to: vlan, pvid: true, untagged: true };
}

/** `{id}`, `{minID, maxID}`, or both in one. */
function readTrunkItem(item: Fields): PortVlan[] {
  const number = (key: string): number | undefined => {
    const value = item.integer(key, -0x80000000, 0x7fffffff);
    if (value !== undefined && (value <= 0 || value > MAX_VLAN_ID))
      throw configError(`incorrect trunk ${key} parameter`, `${item.at(key)} must be 1 to ${MAX_VLAN_ID}`);
    return value;
  };
  const [min, max, id] = [number('minID'), number('maxID'), number('id')];
  if ((min === undefined) !== (max === undefined))
    throw configError(
      `minID and maxID should be configured simultaneously, ${min === undefined ? 'minID' : 'maxID'} is missing`,
    );
  if (min !== undefined && max !== undefined && max < min)
    throw configError('minID is greater than maxID in trunk parameter');
  return [
    ...(min === undefined || max === undefined ? [] : [{ from: min, to: max }]),
    ...(id === undefined ? [] : [{ from: id, to: id }]),
  ];
}

/** Sorted, and one where several touch or overlap. Pure. */
export function joinRanges(ranges: readonly PortVlan[]): PortVlan[] {
  const joined: PortVlan[] = [];
  for (const range of ranges.toSorted((a, b) => a.from - b.from)) {
    const last = joined.at(-1);
    if (last !== undefined && range.from <= last.to + 1) last.to = Math.max(last.to, range.to);
    else joined.push({ ...range });
  }
  return joined;
}

/** Where pods of a VLAN find their gateway: `br0.7`. Code 7 when that is no name for a link. */
export function vlanGatewayName(bridge: string, vlan: number): string {
  const name = `${bridge}.${vlan}`;
  if (name.length > MAX_LINK_NAME)
    throw configError(
      `bridge ${bridge}: the gateway of VLAN ${vlan} would be called ${name}`,
      `names of links have ${MAX_LINK_NAME} characters at most`,
    );
  return name;
}

/** Turns filtering on; code 50 names what the kernel lacks. */
export function ensureFiltering(hostNetns: Netns, bridge: Link): void {
  requireFiltering(bridge);
  if (bridge.bridge?.vlanFiltering) return;
  using vlans = BridgeVlans.open(hostNetns);
  vlans.enableFiltering(bridge.index);
}

/** Bridges of a kernel without the feature have no default VLAN. */
export function requireFiltering(bridge: Link): void {
  if (bridge.bridge?.defaultVlan === undefined)
    throw new CniError(
      CNI_ERROR.NOT_AVAILABLE,
      'bridge: vlan and vlanTrunk need a kernel with CONFIG_BRIDGE_VLAN_FILTERING; this one was built without',
    );
}

/** Puts a port into its VLANs and out of the bridge's default one, unless that is to stay. */
export function setPortVlans(hostNetns: Netns, bridge: Link, portIndex: number, config: VlanConfig): void {
  using vlans = BridgeVlans.open(hostNetns);
  const initial = bridge.bridge?.defaultVlan ?? 0;
  const wanted = config.port.some(vlan => vlan.from <= initial && initial <= vlan.to);
  if (!config.keepDefault && initial !== 0 && !wanted)
    vlans.remove(portIndex, [{ from: initial, to: initial }]);
  vlans.add(portIndex, config.port);
}

/** Makes the gateway's link and sees that it is up; several ADDs may do this at once. */
export function ensureVlanGateway(
  host: Rtnetlink,
  hostNetns: Netns,
  bridge: Link,
  vlan: number,
  config: VlanConfig,
): Link {
  const name = vlanGatewayName(bridge.name, vlan);
  const seed = `podwire cni bridge ${hostNetns.inode} ${name}`;
  try {
    host.addLink({
      ...{ name, kind: 'veth', mac: macFromSeed(seed), mtuBytes: bridge.mtuBytes },
      peer: {
        ...{ name: `veth${digest(seed, 8)}`, mac: macFromSeed(`${seed} port`) },
        ...{ master: bridge.index, mtuBytes: bridge.mtuBytes },
      },
    });
    for (const key of ['accept_dad', 'accept_ra']) setIfThere(hostNetns, `net/ipv6/conf/${name}/${key}`, '0');
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
  }
  const link = host.getLink(name);
  if (link === undefined) throw gone(`gateway ${name} disappeared while it was being set up`);
  // Somebody's vlan link on the bridge is as good.
  const port =
    link.kind === 'veth' && link.linkIndex !== undefined ? host.getLink(link.linkIndex) : undefined;
  if (port !== undefined) {
    if (port.masterIndex !== bridge.index || !port.up)
      host.setLink(port.index, { master: bridge.index, up: true });
    setPortVlans(hostNetns, bridge, port.index, { ...config, port: [accessVlan(vlan)] });
  }
  if (!link.up) host.setLink(link.index, { up: true });
  return link;
}

/** CHECK: the bridge filters, and the port is in its VLANs. */
export function checkPortVlans(hostNetns: Netns, bridge: Link, port: Link, config: VlanConfig): void {
  if (config.port.length === 0) return;
  if (bridge.bridge?.vlanFiltering !== true) throw gone(`bridge ${bridge.name} does not filter VLANs`);
  using vlans = BridgeVlans.open(hostNetns);
  const present = vlans.list().get(port.index) ?? [];
  for (const { from, to, pvid = false, untagged = false } of config.port)
    for (let vlan = from; vlan <= to; vlan++) {
      const found = present.find(one => one.from <= vlan && vlan <= one.to);
      if (found === undefined || (found.pvid ?? false) !== pvid || (found.untagged ?? false) !== untagged)
        throw gone(`${port.name} is not in VLAN ${vlan} as configured`);
    }
}
