// Which of the host's links carries the overlay, by flannel's rules (flannel pkg/ipmatch): --iface names or addresses in
// order, then --iface-regex, else the link towards --iface-can-reach, else that of the default route. Pure: the host's
// links and addresses come in as plain data. An address once chosen is kept while the link has it, so that a second
// address (a VIP that comes and goes) does not move the node.
import { PodwireError } from '../../src/lib/errors.ts';
import { canonicalIp, type IpFamily } from '../../src/lib/ip.ts';
import type { Underlay } from './underlay.ts';

export interface UnderlayRequest {
  /** --iface: names or addresses, the first that is there. */
  ifaces: readonly string[];
  /** --iface-regex: tried on addresses, then on names. */
  regexes: readonly RegExp[];
  /** Addresses to prefer on the link: --public-ip, node-public-ip. */
  addresses: readonly string[];
  /** What the pod network needs; each must be on the link. */
  families: readonly IpFamily[];
}

export interface HostLink {
  index: number;
  name: string;
  mtuBytes: number;
  loopback: boolean;
}

export interface HostAddress {
  linkIndex: number;
  /** With prefix length. */
  address: string;
}

/** What there is to choose from. */
export interface HostNetwork {
  links: readonly HostLink[];
  /** Global ones that are in use, in the kernel's order. */
  addresses: readonly HostAddress[];
  /** Index of the link that leads out: to --iface-can-reach, or by the default route. */
  outward?: number;
}

function ipOf(address: HostAddress): string {
  return address.address.slice(0, address.address.indexOf('/'));
}

function refuse(why: string, host: HostNetwork): PodwireError {
  const names = host.links
    .filter(link => !link.loopback)
    .map(link => {
      const own = host.addresses.filter(address => address.linkIndex === link.index);
      return own.length > 0 ? `${link.name} (${own.map(ipOf).join(', ')})` : link.name;
    });
  return new PodwireError('NO_UNDERLAY', `${why}; there are ${names.join(', ') || 'no links but lo'}`);
}

interface Choice {
  link: HostLink;
  /** The address by which the link was found. */
  ip?: string;
}

function choose(host: HostNetwork, request: UnderlayRequest): Choice {
  const linkOf = (address: HostAddress | undefined): HostLink | undefined =>
    host.links.find(link => link.index === address?.linkIndex);
  for (const wanted of request.ifaces) {
    const ip = canonicalIp(wanted);
    const link =
      ip === undefined
        ? host.links.find(candidate => candidate.name === wanted)
        : linkOf(host.addresses.find(address => ipOf(address) === ip));
    if (link) return { link, ip };
  }
  for (const regex of request.regexes) {
    const found = host.addresses.find(address => regex.test(ipOf(address)));
    const byAddress = linkOf(found);
    if (found && byAddress) return { link: byAddress, ip: ipOf(found) };
    const byName = host.links.find(link => !link.loopback && regex.test(link.name));
    if (byName) return { link: byName };
  }
  const asked = [
    ...request.ifaces.map(iface => `--iface ${iface}`),
    ...request.regexes.map(regex => `--iface-regex ${regex.source}`),
  ];
  if (asked.length > 0) throw refuse(`no link matches ${asked.join(' or ')}`, host);
  const outward = host.links.find(link => link.index === host.outward);
  if (outward) return { link: outward };
  throw refuse('no default route leads to a link; name the one between the nodes with --iface', host);
}

/** Throws PodwireError('NO_UNDERLAY') that names what there is. `previous`: the answer of the last time. */
export function chooseUnderlay(host: HostNetwork, request: UnderlayRequest, previous?: Underlay): Underlay {
  // Without a word from the operator the node stays on the link it is on, wherever the default route goes.
  const explicit = request.ifaces.length + request.regexes.length > 0;
  const same = explicit ? undefined : host.links.find(link => link.name === previous?.link);
  const { link, ip } = same ? { link: same, ip: undefined } : choose(host, request);
  const own = host.addresses.filter(address => address.linkIndex === link.index);
  const rank = (address: HostAddress): number => {
    const text = ipOf(address);
    if (text === ip) return 0;
    if (request.addresses.includes(text)) return 1;
    return previous?.link === link.name && previous.addresses.includes(address.address) ? 2 : 3;
  };
  const addresses: string[] = [];
  for (const family of request.families) {
    const ofFamily = own
      .filter(address => address.address.includes(':') === (family === 6))
      .sort((left, right) => rank(left) - rank(right));
    if (ofFamily.length === 0) throw refuse(`link ${link.name} has no global IPv${family} address`, host);
    addresses.push(...ofFamily.map(address => address.address));
  }
  return { link: link.name, addresses, mtuBytes: link.mtuBytes };
}
