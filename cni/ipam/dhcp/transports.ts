// What carries a DHCP client's messages: whole Ethernet frames while the interface has no address, UDP once it has.
// Both are opened inside the pod's namespace and used from outside of it.
import { createSocket } from 'node:dgram';
import { DHCP_CLIENT_PORT, DHCP_SERVER_PORT } from '../../../src/codec/dhcp/constants.ts';
import { decodeDhcpMessage, encodeDhcpMessage } from '../../../src/codec/dhcp/message.ts';
import { decodeUdpFrame, encodeUdpFrame } from '../../../src/codec/ip/udp-frame.ts';
import { BROADCAST_MAC } from '../../../src/lib/mac.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import { PacketSocket } from '../../../src/linux/packet-socket.ts';
import type { Link } from '../../../src/linux/rtnetlink.ts';
import { openUdpSocket, unsentBytes } from '../../../src/linux/socket-options.ts';
import type { Logger } from '../../../src/observe/log.ts';
import type { DhcpTransport } from './exchange.ts';

const ETH_P_IP = 0x0800;
const BROADCAST = '255.255.255.255';
/** For the kernel's ARP before a RELEASE can leave. */
const FLUSH_MS = 300;
const FLUSH_POLL_MS = 2;

/** Broadcasts from 0.0.0.0 on one link. */
export function openFrameTransport(netns: Netns, link: Link, log: Logger): DhcpTransport {
  const socket = new PacketSocket({
    ...{ netns, linkIndex: link.index, etherType: ETH_P_IP },
    onFrame(frame) {
      const datagram = tryDecode(() => decodeUdpFrame(frame));
      if (datagram?.destinationPort !== DHCP_CLIENT_PORT) return;
      const message = tryDecode(() => decodeDhcpMessage(datagram.payload));
      if (message !== undefined) transport.onMessage(message);
    },
    onError: error => log.debug({ err: error, link: link.name }, 'DHCP packet socket'),
  });
  const transport: DhcpTransport = {
    onMessage: () => {},
    send: message =>
      socket.send(
        encodeUdpFrame({
          ...{
            destinationMac: BROADCAST_MAC,
            sourceMac: link.mac,
            source: '0.0.0.0',
            destination: BROADCAST,
          },
          ...{ sourcePort: DHCP_CLIENT_PORT, destinationPort: DHCP_SERVER_PORT },
          payload: encodeDhcpMessage(message),
        }),
      ),
    [Symbol.dispose]: () => socket.close(),
  };
  return transport;
}

export interface UdpTransport extends DhcpTransport {
  /** Resolves when everything sent has left the interface, or will not soon. */
  flushed(): Promise<void>;
}

/** From the interface's own address; to the server, or to everybody when `server` is undefined. */
export function openUdpTransport(
  netns: Netns,
  device: string,
  server: string | undefined,
  log: Logger,
): UdpTransport {
  const fd = openUdpSocket(4, { netns, device, localPort: DHCP_CLIENT_PORT });
  const socket = createSocket('udp4');
  const onError = (error: unknown): void => log.debug({ err: error, device }, 'DHCP socket');
  socket.on('error', onError);
  socket.on('message', bytes => {
    const message = tryDecode(() => decodeDhcpMessage(bytes));
    if (message !== undefined) transport.onMessage(message);
  });
  const bound = new Promise<void>(resolve =>
    socket.once('listening', resolve).once('error', () => resolve()),
  );
  socket.bind({ fd });
  let last: Promise<void> = bound.then(() => socket.setBroadcast(server === undefined)).catch(onError);
  const transport: UdpTransport = {
    onMessage: () => {},
    send: message => {
      const bytes = encodeDhcpMessage(message);
      const { promise, resolve } = Promise.withResolvers<void>();
      last = promise;
      void bound.then(() =>
        socket.send(bytes, DHCP_SERVER_PORT, server ?? BROADCAST, error => {
          if (error !== null) onError(error);
          resolve();
        }),
      );
    },
    flushed: async () => {
      await last;
      for (let waited = 0; waited < FLUSH_MS && unsentBytes(fd) > 0; waited += FLUSH_POLL_MS)
        await new Promise(resolve => setTimeout(resolve, FLUSH_POLL_MS));
    },
    [Symbol.dispose]: () => void bound.then(() => socket.close()),
  };
  return transport;
}

/** What is no DHCP message, or no whole one, is nobody's business here. */
function tryDecode<T>(decode: () => T): T | undefined {
  try {
    return decode();
  } catch {
    return undefined;
  }
}
