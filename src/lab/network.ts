// The lab's underlay: one namespace with a bridge (the switch), one namespace for each member with a veth into it.
// Making is idempotent; removing needs only names. The root namespace's own network is never touched.
import { hasCode } from '../lib/errors.ts';
import { createNetns, deleteNetns, listNetns, Netns } from '../linux/netns.ts';
import { Rtnetlink } from '../linux/rtnetlink.ts';
import { writeSysctl } from '../linux/sysctl.ts';
import { type LabNode, type LabSpec, netnsName } from './spec.ts';

const SWITCH_BRIDGE = 'br0';
/** The name of a member's own end. */
export const UNDERLAY_LINK = 'eth0';
export const UNDERLAY_MTU_BYTES = 1500;

function ensureNetns(name: string): string {
  try {
    return createNetns(name);
  } catch (thrown) {
    if (!hasCode(thrown, 'EEXIST')) throw thrown;
    return `/run/netns/${name}`;
  }
}

function prefixLength(cidr: string): string {
  return cidr.slice(cidr.indexOf('/'));
}

/** Same as `ip netns add`, `ip link add … type veth`, `ip link set … master br0`, `ip address add …` for every member. */
export function createUnderlay(spec: LabSpec): void {
  using switchNs = Netns.open(ensureNetns(spec.switchNetns));
  using switchLinks = Rtnetlink.open(switchNs);
  if (!switchLinks.getLink(SWITCH_BRIDGE)) switchLinks.addLink({ name: SWITCH_BRIDGE, kind: 'bridge' });
  switchLinks.setLink(SWITCH_BRIDGE, { up: true });
  addAddresses(switchLinks, SWITCH_BRIDGE, spec.gateways, spec);
  for (const member of [spec.controlPlane, ...spec.nodes]) attachMember(spec, member, switchNs, switchLinks);
}

function attachMember(spec: LabSpec, member: LabNode, switchNs: Netns, switchLinks: Rtnetlink): void {
  using netns = Netns.open(ensureNetns(member.netns));
  using links = Rtnetlink.open(netns);
  const port = `p-${member.name}`;
  if (!links.getLink(UNDERLAY_LINK)) {
    links.addLink({
      name: UNDERLAY_LINK,
      kind: 'veth',
      mtuBytes: UNDERLAY_MTU_BYTES,
      peer: { name: port, netnsFd: switchNs.fd, mtuBytes: UNDERLAY_MTU_BYTES },
    });
  }
  switchLinks.setLink(port, { master: SWITCH_BRIDGE, up: true });
  // Addresses are the lab's own: a duplicate check would only delay them (RFC 4862 section 5.4).
  if (spec.families.includes('ipv6')) writeSysctl(netns, 'net/ipv6/conf/default/accept_dad', '0');
  links.setLink('lo', { up: true });
  links.setLink(UNDERLAY_LINK, { up: true });
  addAddresses(links, UNDERLAY_LINK, member.addresses, spec);
  // As on any host: a Service's address is routed somewhere before the proxy's rules rewrite it.
  for (const gateway of spec.gateways)
    links.addRoute({
      destination: gateway.includes(':') ? '::/0' : '0.0.0.0/0',
      gateway,
      link: UNDERLAY_LINK,
      protocol: RTPROT_STATIC,
      replace: true,
    });
}

/** rtnetlink(7): installed by an administrator. */
const RTPROT_STATIC = 4;

function addAddresses(links: Rtnetlink, link: string, addresses: string[], spec: LabSpec): void {
  addresses.forEach((address, i) => {
    links.addAddress({
      link,
      address: address + prefixLength(spec.underlayCidrs[i]!),
      noDad: true,
      replace: true,
    });
  });
}

/** Deletes the namespaces named after this lab, whether or not `nodes` are known any more. */
export function deleteUnderlay(labName: string): string[] {
  const mine = listNetns().filter(name => name.startsWith(netnsName(labName, '')));
  for (const name of mine) deleteNetns(name);
  return mine;
}
