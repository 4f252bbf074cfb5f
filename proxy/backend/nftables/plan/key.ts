// Bytes of element keys and data, as latin1 strings: each field padded to four bytes, as the kernel concatenates. Pure.
import { formatIp, requireIp } from '../../../../src/lib/ip.ts';
import type { Protocol } from '../../../model/types.ts';
import type { ProtocolName } from './state.ts';

/** IPPROTO_* */
const NUMBERS: Record<Protocol, number> = { TCP: 6, UDP: 17, SCTP: 132 };
export const PROTOCOL_NAMES: Record<Protocol, ProtocolName> = { TCP: 'tcp', UDP: 'udp', SCTP: 'sctp' };

export function addressKey(ip: string): string {
  return String.fromCharCode(...requireIp(ip));
}

function portBytes(port: number): string {
  return `${String.fromCharCode(port >> 8, port & 255)}\0\0`;
}

/** `inet_proto . inet_service` */
export function nodePortKey(protocol: Protocol, port: number): string {
  return `${String.fromCharCode(NUMBERS[protocol])}\0\0\0${portBytes(port)}`;
}

/** `ip_addr . inet_proto . inet_service` */
export function vipKey(ip: string, protocol: Protocol, port: number): string {
  return addressKey(ip) + nodePortKey(protocol, port);
}

/** The reverse of `vipKey` and `nodePortKey`, told apart by their length. */
export function decodeFrontend(key: string): { ip?: string; protocol: number; port: number } {
  const bytes = Buffer.from(key, 'latin1');
  const at = bytes.length - 8;
  const [protocol, port] = [bytes[at] ?? 0, bytes.readUInt16BE(at + 4)];
  return at === 0 ? { protocol, port } : { ip: formatIp(bytes.subarray(0, at)), protocol, port };
}

/** `ip_addr . inet_service` */
export function endpointData(ip: string, port: number): string {
  return addressKey(ip) + portBytes(port);
}

/** What is looked up for the sake of what follows it begins with a word that says nothing; see layout.ts. */
const NOTHING = '\0\0\0\0';

/** `mark . ip_addr . inet_proto . inet_service`: which service port a sticky frontend belongs to. */
export function identityData(vip: string): string {
  return NOTHING + vip;
}

/** `mark . ip_addr . inet_service` */
export function stickyData(endpoint: string): string {
  return NOTHING + endpoint;
}

/** What numgen gives: a number in the host's byte order, which is little-endian on every machine we run on. */
export function randomKey(n: number): string {
  return String.fromCharCode(n & 255, (n >> 8) & 255, (n >> 16) & 255, n >>> 24);
}
