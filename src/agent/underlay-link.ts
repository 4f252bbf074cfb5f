// Finds the link that carries the node's own addresses: the underlay the overlay runs on.
import type { Underlay } from '../../routing/subnet/underlay.ts';
import { PodwireError } from '../lib/errors.ts';
import type { Netns } from '../linux/netns.ts';
import { Rtnetlink } from '../linux/rtnetlink.ts';

/** Throws PodwireError('NO_UNDERLAY') with the addresses there are, when none of `nodeIps` is on a link. */
export function findUnderlay(netns: Netns, nodeIps: readonly string[]): Underlay {
  using links = Rtnetlink.open(netns);
  const addresses = links.listAddresses();
  const withoutLength = (address: string) => address.slice(0, address.indexOf('/'));
  const own = nodeIps.map(ip => addresses.find(entry => withoutLength(entry.address) === ip));
  const first = own.find(entry => entry !== undefined);
  const link = first && links.getLink(first.linkIndex);
  if (!link)
    throw new PodwireError(
      'NO_UNDERLAY',
      `none of the node's addresses ${nodeIps.join(', ')} is on a link here; there are ${addresses.map(entry => entry.address).join(', ')}. Set --node-ip`,
    );
  return {
    link: link.name,
    addresses: own.flatMap(entry => (entry && entry.linkIndex === link.index ? [entry.address] : [])),
    mtuBytes: link.mtuBytes,
  };
}
