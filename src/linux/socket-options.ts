// TCP and UDP sockets with the options Node has no API for: a namespace, a source address, a device, TCP MD5
// signatures (RFC 2385), a TTL and the least TTL that is let in (GTSM, RFC 5082). The descriptors made here are handed
// to Node (`new net.Socket({ fd })`, `server.listen({ fd })`, `dgram bind({ fd })`), which closes them.
import type { Socket } from 'node:net';
import { PodwireError } from '../lib/errors.ts';
import { familyOf, type IpFamily, requireIp } from '../lib/ip.ts';
import {
  AF_INET,
  AF_INET6,
  int32,
  O_NONBLOCK,
  SO_REUSEADDR,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
  sysBind,
  sysClose,
  sysIoctl,
  sysSetsockopt,
  sysSocket,
  tryGetsockopt,
} from './ffi.ts';
import { encodeSockaddr } from './listen.ts';
import type { Netns } from './netns.ts';

// linux/in.h, linux/in6.h, asm-generic/socket.h, linux/tcp.h
const IPPROTO_IP = 0;
const IPPROTO_TCP = 6;
const IPPROTO_IPV6 = 41;
const IP_TTL = 2;
const IP_MINTTL = 21;
const IPV6_UNICAST_HOPS = 16;
const IPV6_V6ONLY = 26;
const IPV6_MINHOPCOUNT = 73;
const SO_BINDTODEVICE = 25;
const TCP_NODELAY = 1;
// asm-generic/ioctls.h, the same request as SIOCOUTQ
const TIOCOUTQ = 0x5411;
const TCP_SAVE_SYN = 27;
const TCP_SAVED_SYN = 28;
const TCP_MD5SIG_EXT = 32;
const TCP_MD5SIG_FLAG_PREFIX = 1;
const TCP_MD5SIG_MAXKEYLEN = 80;

export interface SocketOptions {
  readonly netns?: Netns;
  /** Bound before connecting. */
  readonly localAddress?: string;
  readonly localPort?: number;
  /** SO_BINDTODEVICE. */
  readonly device?: string;
  /** IP_TTL or IPV6_UNICAST_HOPS. */
  readonly ttl?: number;
  /** IP_MINTTL or IPV6_MINHOPCOUNT: what arrives with less is dropped by the kernel. */
  readonly minTtl?: number;
  /** TCP MD5 key for `peer`. */
  readonly md5?: { readonly peer: string; readonly key: string };
}

/** A non-blocking TCP socket, bound when an address is given, not yet connected. */
export function openTcpSocket(family: IpFamily, options: SocketOptions): number {
  return openSocket(family, SOCK_STREAM, options, fd => {
    sysSetsockopt(fd, IPPROTO_TCP, TCP_NODELAY, int32(1));
    if (options.md5 !== undefined) setTcpMd5(fd, options.md5.peer, options.md5.key);
  });
}

/** A non-blocking, bound UDP socket. */
export function openUdpSocket(family: IpFamily, options: SocketOptions): number {
  return openSocket(family, SOCK_DGRAM, options, () => undefined);
}

function openSocket(
  family: IpFamily,
  type: number,
  options: SocketOptions,
  prepare: (fd: number) => void,
): number {
  const open = (): number => {
    const fd = sysSocket(family === 4 ? AF_INET : AF_INET6, type | O_NONBLOCK, 0);
    try {
      sysSetsockopt(fd, SOL_SOCKET, SO_REUSEADDR, int32(1));
      if (family === 6) sysSetsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, int32(1));
      if (options.device !== undefined)
        sysSetsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, Buffer.from(`${options.device}\0`));
      if (options.ttl !== undefined) setTtl(fd, family, options.ttl);
      if (options.minTtl !== undefined) setMinTtl(fd, family, options.minTtl);
      prepare(fd);
      if (options.localAddress !== undefined || options.localPort !== undefined) {
        const address = options.localAddress ?? (family === 4 ? '0.0.0.0' : '::');
        const port = options.localPort ?? 0;
        sysBind(fd, encodeSockaddr(address, port), `bind ${address} port ${port}`);
      }
      return fd;
    } catch (error) {
      sysClose(fd);
      throw error;
    }
  };
  return options.netns === undefined ? open() : options.netns.run(open);
}

/** The TTL (hop limit) of what the socket sends. */
export function setTtl(fd: number, family: IpFamily, ttl: number): void {
  if (family === 4) sysSetsockopt(fd, IPPROTO_IP, IP_TTL, int32(ttl));
  else sysSetsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, int32(ttl));
}

/** RFC 5082 section 3: the kernel drops segments that came with a smaller TTL. */
export function setMinTtl(fd: number, family: IpFamily, ttl: number): void {
  if (family === 4) sysSetsockopt(fd, IPPROTO_IP, IP_MINTTL, int32(ttl));
  else sysSetsockopt(fd, IPPROTO_IPV6, IPV6_MINHOPCOUNT, int32(ttl));
}

/**
 * Sets the MD5 key of a peer on a socket, listening or not yet connected (struct tcp_md5sig, linux/tcp.h). With a
 * prefix length it is the key of a whole range. An empty key takes it away.
 */
export function setTcpMd5(fd: number, peer: string, key: string, prefixLength?: number): void {
  const address = requireIp(peer, 'MD5 peer');
  const secret = Buffer.from(key, 'utf8');
  if (secret.length > TCP_MD5SIG_MAXKEYLEN)
    throw new PodwireError(
      'INVALID_PASSWORD',
      `a TCP MD5 password has at most ${TCP_MD5SIG_MAXKEYLEN} bytes, not ${secret.length}`,
    );
  const value = Buffer.alloc(216);
  encodeSockaddr(peer, 0).copy(value, 0);
  value[128] = TCP_MD5SIG_FLAG_PREFIX;
  value[129] = prefixLength ?? address.length * 8;
  value.writeUInt16LE(secret.length, 130);
  secret.copy(value, 136);
  sysSetsockopt(fd, IPPROTO_TCP, TCP_MD5SIG_EXT, value);
}

/** Bytes given to a UDP socket that have not left the machine yet: they wait for the interface, or for ARP. */
export function unsentBytes(fd: number): number {
  const value = Buffer.alloc(4);
  sysIoctl(fd, TIOCOUTQ, value, `read the send queue of fd ${fd}`);
  return value.readInt32LE(0);
}

/** The descriptor under a socket that Node accepted; Node has no public name for it. */
export function descriptorOf(socket: Socket): number | undefined {
  const handle = (socket as unknown as { _handle?: { fd?: number } | null })._handle;
  return typeof handle?.fd === 'number' && handle.fd >= 0 ? handle.fd : undefined;
}

/** Prepares a listening socket for setAcceptedMinTtl: the SYN of a connection is kept until somebody asks for it. */
export function prepareForMinTtl(fd: number, family: IpFamily): void {
  // The SYN+ACK leaves before anybody knows whose connection it is, and a peer with GTSM wants 255 of it, too.
  setTtl(fd, family, 255);
  sysSetsockopt(fd, IPPROTO_TCP, TCP_SAVE_SYN, int32(1));
}

/**
 * GTSM on an accepted connection. False when its SYN came from further away: what arrived between the handshake and
 * this call was let in by the kernel, so the socket option alone would come too late.
 */
export function setAcceptedMinTtl(socket: Socket, minTtl: number): boolean {
  const fd = descriptorOf(socket);
  if (fd === undefined || socket.remoteAddress === undefined) return false;
  const family = familyOf(requireIp(socket.remoteAddress));
  setMinTtl(fd, family, minTtl);
  const syn = Buffer.alloc(256);
  const length = tryGetsockopt(fd, IPPROTO_TCP, TCP_SAVED_SYN, syn);
  const ttl = syn[family === 4 ? 8 : 7]!;
  return length > 8 && ttl >= minTtl;
}
