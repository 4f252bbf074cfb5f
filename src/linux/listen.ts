// A listening TCP socket made inside another network namespace, for `server.listen({ fd })`.
// Node's own listen() with a host string opens its socket after the setns window has closed, in the wrong namespace.
import { familyOf, requireIp } from '../lib/ip.ts';
import {
  AF_INET,
  AF_INET6,
  int32,
  O_NONBLOCK,
  SO_REUSEADDR,
  SOCK_STREAM,
  SOL_SOCKET,
  sysBind,
  sysClose,
  sysGetsockname,
  sysListen,
  sysSetsockopt,
  sysSocket,
} from './ffi.ts';
import type { Netns } from './netns.ts';

const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;

/** struct sockaddr_in (netinet/in.h) or sockaddr_in6. */
export function encodeSockaddr(address: string, port: number): Buffer {
  const ip = requireIp(address);
  const bytes = Buffer.alloc(ip.length === 4 ? 16 : 28);
  bytes.writeUInt16LE(ip.length === 4 ? AF_INET : AF_INET6, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(ip, ip.length === 4 ? 4 : 8);
  return bytes;
}

/** The descriptor of a listening, non-blocking socket. Port 0 lets the kernel choose: see boundPort. */
export function listenTcp(options: {
  netns?: Netns;
  address: string;
  port: number;
  backlog?: number;
}): number {
  const open = (): number => openListener(options.address, options.port, options.backlog ?? 511);
  return options.netns === undefined ? open() : options.netns.run(open);
}

function openListener(address: string, port: number, backlog: number): number {
  const op = `listen on ${address.includes(':') ? `[${address}]` : address}:${port}`;
  const v6 = familyOf(requireIp(address)) === 6;
  const fd = sysSocket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | O_NONBLOCK, 0);
  try {
    sysSetsockopt(fd, SOL_SOCKET, SO_REUSEADDR, int32(1));
    if (v6) sysSetsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, int32(1));
    sysBind(fd, encodeSockaddr(address, port), op);
    sysListen(fd, backlog, op);
    return fd;
  } catch (error) {
    sysClose(fd);
    throw error;
  }
}

/** The port a socket is bound to. */
export function boundPort(fd: number): number {
  return sysGetsockname(fd).readUInt16BE(2);
}
