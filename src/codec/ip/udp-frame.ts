// Ethernet frames with one UDP datagram over IPv4, for hosts that have no address yet. Pure. The UDP checksum of what
// arrives is not looked at: on a veth it was never computed (checksum offload), and the receiver's protocol has its own.
//
//   Ethernet: | destination 6 | source 6 | 08 00 |
//   IPv4 (RFC 791): | 45 | tos | total length | id | flags, fragment | ttl | 17 | checksum | source | destination |
//   UDP (RFC 768):  | source port | destination port | length | checksum |
import { ByteReader, ByteWriter } from '../../lib/bytes.ts';
import { formatIp, requireIp } from '../../lib/ip.ts';
import { requireMac } from '../../lib/mac.ts';

const ETHERTYPE_IPV4 = 0x0800;
const IPPROTO_UDP = 17;
const ETHERNET_BYTES = 14;
const IPV4_BYTES = 20;
const UDP_BYTES = 8;
const TTL = 64;
const DONT_FRAGMENT = 0x4000;
const FRAGMENT_OFFSET_OR_MORE = 0x3fff;

export interface UdpFrame {
  destinationMac: string;
  sourceMac: string;
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
  payload: Buffer;
}

export function encodeUdpFrame(frame: UdpFrame): Buffer {
  const source = requireIp(frame.source);
  const destination = requireIp(frame.destination);
  const udpLength = UDP_BYTES + frame.payload.length;
  const w = new ByteWriter(ETHERNET_BYTES + IPV4_BYTES + udpLength);
  w.bytes(requireMac(frame.destinationMac)).bytes(requireMac(frame.sourceMac)).u16be(ETHERTYPE_IPV4);
  w.u8(0x45)
    .u8(0)
    .u16be(IPV4_BYTES + udpLength);
  w.u16be(0).u16be(DONT_FRAGMENT);
  w.u8(TTL).u8(IPPROTO_UDP).u16be(0).bytes(source).bytes(destination);
  w.u16be(frame.sourcePort).u16be(frame.destinationPort).u16be(udpLength).u16be(0).bytes(frame.payload);
  const bytes = w.toBuffer();
  const ip = bytes.subarray(ETHERNET_BYTES, ETHERNET_BYTES + IPV4_BYTES);
  ip.writeUInt16BE(fold(sum(ip)), 10);
  const udp = bytes.subarray(ETHERNET_BYTES + IPV4_BYTES);
  const pseudoHeader = sum(source) + sum(destination) + IPPROTO_UDP + udpLength;
  // A computed zero is sent as all ones; zero means "none".
  udp.writeUInt16BE(fold(pseudoHeader + sum(udp)) || 0xffff, 6);
  return bytes;
}

/** Undefined for frames that hold no whole UDP datagram over IPv4; DecodeError for those that are cut off. */
export function decodeUdpFrame(
  bytes: Uint8Array,
): Omit<UdpFrame, 'destinationMac' | 'sourceMac'> | undefined {
  const r = new ByteReader(bytes, 'udp-frame');
  r.skip(12, 'Ethernet addresses');
  if (r.u16be('EtherType') !== ETHERTYPE_IPV4) return undefined;
  const start = r.offset;
  const versionAndLength = r.u8('version');
  const headerBytes = (versionAndLength & 0x0f) * 4;
  if (versionAndLength >> 4 !== 4 || headerBytes < IPV4_BYTES) return undefined;
  r.skip(1, 'tos');
  const totalBytes = r.u16be('total length');
  r.skip(2, 'id');
  if ((r.u16be('fragment') & FRAGMENT_OFFSET_OR_MORE) !== 0) return undefined;
  r.skip(1, 'ttl');
  if (r.u8('protocol') !== IPPROTO_UDP) return undefined;
  r.skip(2, 'checksum');
  const source = formatIp(r.bytes(4, 'source'));
  const destination = formatIp(r.bytes(4, 'destination'));
  r.skip(headerBytes - IPV4_BYTES, 'IP options');
  if (fold(sum(r.buffer.subarray(start, start + headerBytes))) !== 0) return undefined;
  const sourcePort = r.u16be('source port');
  const destinationPort = r.u16be('destination port');
  const udpBytes = r.u16be('UDP length');
  r.skip(2, 'UDP checksum');
  if (udpBytes < UDP_BYTES || headerBytes + udpBytes > totalBytes) return undefined;
  const payload = Buffer.from(r.bytes(udpBytes - UDP_BYTES, 'payload'));
  return { source, destination, sourcePort, destinationPort, payload };
}

/** The sum of 16-bit words, the last one padded with zero. */
function sum(bytes: Uint8Array): number {
  let total = 0;
  for (let i = 0; i < bytes.length; i += 2) total += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  return total;
}

/** The Internet checksum of a sum: its one's complement, carries folded in (RFC 1071). */
function fold(total: number): number {
  let folded = total;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000);
  return ~folded & 0xffff;
}
