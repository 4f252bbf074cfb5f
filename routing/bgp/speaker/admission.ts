// Whose connection is it? Configured neighbours are known by their addresses; others may be in a range of dynamic ones.
import { cidrContains } from '../../../src/lib/cidr.ts';
import { parseIp } from '../../../src/lib/ip.ts';
import type { PeerConfig } from '../session/peer-config.ts';
import type { Neighbour } from './neighbour.ts';
import type { SpeakerConfig } from './speaker-config.ts';

export function neighbourAt(neighbours: Iterable<Neighbour>, address: string): Neighbour | undefined {
  for (const neighbour of neighbours) if (neighbour.peer.config.address === address) return neighbour;
  return undefined;
}

/** The configuration of a dynamic neighbour at this address; undefined when no range has it, or its range is full. */
export function dynamicPeerAt(
  ranges: SpeakerConfig['dynamicPeers'],
  neighbours: Iterable<Neighbour>,
  address: string,
): PeerConfig | undefined {
  const bytes = parseIp(address);
  const range = bytes && ranges?.find(({ cidr }) => cidrContains(cidr, bytes));
  if (range === undefined) return undefined;
  const own = [...neighbours].filter(
    ({ dynamic, peer }) => dynamic && peer.name.startsWith(`${range.name}:`),
  );
  if (own.length >= range.limit) return undefined;
  return { ...range.template, name: `${range.name}:${address}`, address, passive: true };
}
