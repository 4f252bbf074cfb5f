// What host port rules in iptables say, read from their bytes: which ports lead to which pod's chain. To refuse a port that
// another pod has, and to know a pod's UDP ports when it goes. Pure.
import { cString, type FamilyLayout, LAYOUT } from '../../../src/codec/xtables/layout.ts';
import { matchesOf, targetOf } from '../../../src/codec/xtables/nft-rule.ts';
import type { Piece } from '../../../src/codec/xtables/rule.ts';
import { isUnspecified } from '../../../src/lib/ip.ts';
import { type PortMapping, PROTOCOLS } from './config.ts';

type Family = 4 | 6;

/** struct xt_multiport_v1: flags, count, ports. */
const MULTIPORT = { COUNT: 1, PORTS: 2, BYTES: 32 } as const;
/** Where the first destination port is in struct xt_tcp, xt_udp and xt_sctp_info. */
const PORT_AT: Readonly<Record<string, number>> = { tcp: 4, udp: 4, sctp: 0 };

/** The ports of a rule of CNI-HOSTPORT-DNAT. */
export function entryPorts(piece: Piece, family: Family): { protocol: number; ports: number[] } {
  const info = matchesOf(piece, family).find(match => match.name === 'multiport')?.info;
  if (info === undefined || info.length < MULTIPORT.BYTES) return { protocol: 0, ports: [] };
  const count = Math.min(info[MULTIPORT.COUNT]!, 15);
  const ports = Array.from({ length: count }, (_, i) => info.readUInt16LE(MULTIPORT.PORTS + 2 * i));
  return { protocol: protocolOf(piece, LAYOUT[family]), ports };
}

function protocolOf({ bytes, at }: Piece, layout: FamilyLayout): number {
  return bytes.readUInt16LE(at + layout.protocol);
}

/** Whether an entry rule looks at more than the ports: somebody's conditions. */
export function hasConditions(piece: Piece, family: Family): boolean {
  const known = matchesOf(piece, family).every(({ name }) => name === 'comment' || name === 'multiport');
  // Addresses, interfaces and their masks stand before the protocol.
  const { bytes, at } = piece;
  return !known || bytes.subarray(at, at + LAYOUT[family].protocol).some(byte => byte !== 0);
}

/** Whether a rule of a pod's chain translates what this mapping would. */
export function translates(piece: Piece, family: Family, mapping: PortMapping): boolean {
  const layout = LAYOUT[family];
  if (targetOf(piece, family)?.name !== 'DNAT') return false;
  const match = matchesOf(piece, family).find(({ name }) => name === mapping.protocol);
  if (match === undefined || match.info.length < 8) return false;
  if (protocolOf(piece, layout) !== PROTOCOLS[mapping.protocol]) return false;
  if (match.info.readUInt16LE(PORT_AT[mapping.protocol]!) !== mapping.hostPort) return false;
  const { hostIp } = mapping;
  const wanted = hostIp === undefined || isUnspecified(hostIp) ? Buffer.alloc(layout.addressSize) : hostIp;
  const from = piece.at + layout.destination;
  return piece.bytes.subarray(from, from + layout.addressSize).equals(wanted);
}

/** The comment's `name: "net" id: "container"` without its wrapping, for a message. */
export function holderOf(piece: Piece, family: Family): string {
  const info = matchesOf(piece, family).find(match => match.name === 'comment')?.info;
  const text = info === undefined ? '' : cString(info, 0, info.length);
  const names = /name: "([^"]*)" id: "([^"]*)/.exec(text);
  return names === null ? text : `${names[1]}:${names[2]}`;
}
