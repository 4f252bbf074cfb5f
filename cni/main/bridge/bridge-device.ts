// The bridge itself: made once for all pods, race-free because the kernel makes it whole in one request (name, MAC, MTU)
// and says EEXIST to everyone else. Its MAC is fixed from the start, so that it does not change with its ports.
import { cidrContains, parseCidr, requireCidr } from '../../../src/lib/cidr.ts';
import { CniError, hasCode } from '../../../src/lib/errors.ts';
import { macFromSeed } from '../../../src/lib/mac.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import type { Link, Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { broadcastOf, setIfThere } from '../../link/pod-interface.ts';
import { CNI_ERROR } from '../../runtime/errors.ts';
import type { BridgeConfig } from './config.ts';
import type { Gateway } from './gateways.ts';
import { ensureFiltering } from './vlans.ts';

/** From names only: two ADDs that race ask for the same MAC, and a bridge made again keeps its neighbours' entries true. */
function ownMac(hostNetns: Netns, name: string): string {
  return macFromSeed(`podwire cni bridge ${hostNetns.inode} ${name}`);
}

/** The bridge as it is with its new port: one that was made without a MAC takes the lowest of its ports'. */
export function withPort(host: Rtnetlink, hostNetns: Netns, bridge: Link): Link {
  return bridge.mac === ownMac(hostNetns, bridge.name) ? bridge : (host.getLink(bridge.index) ?? bridge);
}

/** Creates the bridge when it is missing, and sees that it is one, is up, and promiscuous when asked. */
export function ensureBridge(host: Rtnetlink, hostNetns: Netns, config: BridgeConfig): Link {
  let link = host.getLink(config.bridge);
  let made = false;
  if (link === undefined) {
    try {
      host.addLink({
        name: config.bridge,
        kind: 'bridge',
        mac: ownMac(hostNetns, config.bridge),
        ...(config.mtuBytes === undefined ? {} : { mtuBytes: config.mtuBytes }),
      });
      made = true;
      // Before it goes up: with its link-local address in doubt the bridge does not resolve pods for a second or two.
      setIfThere(hostNetns, `net/ipv6/conf/${config.bridge}/accept_dad`, '0');
      setIfThere(hostNetns, `net/ipv6/conf/${config.bridge}/accept_ra`, '0');
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
    }
    link = host.getLink(config.bridge);
  }
  if (link === undefined) throw new CniError(CNI_ERROR.INTERNAL, `could not create bridge ${config.bridge}`);
  if (link.kind !== 'bridge')
    throw new CniError(CNI_ERROR.INTERNAL, `${config.bridge} already exists but is not a bridge`);
  if (config.vlans.port.length > 0)
    try {
      ensureFiltering(hostNetns, link);
    } catch (error) {
      if (made) host.delLink(link.index);
      throw error;
    }
  if (!link.up) host.setLink(link.index, { up: true });
  if (config.promiscMode && !link.promiscuous) host.setLink(link.index, { promiscuous: true });
  return link;
}

/** Gives the bridge, or the link that stands for it in a VLAN, a gateway address and turns forwarding on. */
export function ensureGateway(
  host: Rtnetlink,
  hostNetns: Netns,
  bridge: Link,
  gateway: Gateway,
  force: boolean,
): void {
  ensureAddress(host, bridge, gateway, force);
  setIfThere(hostNetns, gateway.family === 4 ? 'net/ipv4/ip_forward' : 'net/ipv6/conf/all/forwarding', '1');
}

/** Tries it first: with every ADD but the first the address is there, and the kernel's word for that is all it takes. */
function ensureAddress(host: Rtnetlink, bridge: Link, gateway: Gateway, force: boolean): void {
  const [failure] = host.batch(batch =>
    batch.addAddress({
      link: bridge.index,
      address: gateway.address,
      noDad: true,
      ...broadcastOf(gateway.address),
    }),
  );
  if (failure !== undefined) {
    if (hasCode(failure, 'EEXIST')) return;
    throw failure;
  }
  const others = conflicting(host, bridge, gateway);
  if (others.length > 0 && !force) {
    host.delAddress({ link: bridge.index, address: gateway.address });
    throw new CniError(
      CNI_ERROR.INTERNAL,
      `"${bridge.name}" already has an IP address different from ${gateway.address}`,
      `it has ${others.join(', ')}; forceAddress replaces it`,
    );
  }
  for (const address of others) host.delAddress({ link: bridge.index, address });
  // The reference does so for bridges that it did not make: an address that is set stays when ports come and go.
  host.setLink(bridge.index, { mac: bridge.mac });
}

/** IPv6 bridges may have many addresses (the link-local one to begin with) as long as the subnets are apart. */
function conflicting(host: Rtnetlink, bridge: Link, gateway: Gateway): string[] {
  const wanted = requireCidr(gateway.address, 'gateway');
  return host
    .listAddresses({ link: bridge.index, family: gateway.family })
    .map(one => one.address)
    .filter(address => {
      const other = parseCidr(address);
      if (address === gateway.address || other === undefined) return false;
      return (
        gateway.family === 4 || cidrContains(other, wanted.address) || cidrContains(wanted, other.address)
      );
    });
}
