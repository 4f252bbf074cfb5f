// The kernel's TCP as a Transport, in one network namespace (the current one when none is given).
import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import { hasCode } from '../../../src/lib/errors.ts';
import { familyOf, requireIp } from '../../../src/lib/ip.ts';
import { boundPort, listenTcp } from '../../../src/linux/listen.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import {
  descriptorOf,
  openTcpSocket,
  prepareForMinTtl,
  setAcceptedMinTtl,
  setTcpMd5,
} from '../../../src/linux/socket-options.ts';
import type { ConnectOptions, Listener, ListenOptions, Transport } from './transport.ts';

const MAX_TTL = 255;

export class TcpTransport implements Transport {
  readonly #netns: Netns | undefined;

  constructor(netns?: Netns) {
    this.#netns = netns;
  }

  async listen(options: ListenOptions): Promise<Listener> {
    const namespace = this.#netns === undefined ? {} : { netns: this.#netns };
    const fd = listenTcp({ ...namespace, address: options.address, port: options.port });
    prepareForMinTtl(fd, familyOf(requireIp(options.address)));
    const port = boundPort(fd);
    const server = createServer({ noDelay: true }, options.onConnection);
    server.listen({ fd });
    await once(server, 'listening');
    return {
      address: options.address,
      port,
      setPassword: (peer, key) => setTcpMd5(fd, peer, key ?? ''),
      close: () => {
        server.close();
      },
    };
  }

  connect(options: ConnectOptions): Socket {
    const family = familyOf(requireIp(options.address, 'peer address'));
    const ttl = options.minTtl === undefined ? options.ttl : MAX_TTL;
    const fd = openTcpSocket(family, {
      ...(this.#netns === undefined ? {} : { netns: this.#netns }),
      ...(options.localAddress === undefined ? {} : { localAddress: options.localAddress }),
      ...(ttl === undefined ? {} : { ttl }),
      ...(options.minTtl === undefined ? {} : { minTtl: options.minTtl }),
      ...(options.password === undefined ? {} : { md5: { peer: options.address, key: options.password } }),
    });
    const socket = new Socket({ fd, readable: true, writable: true });
    socket.connect({ host: options.address, port: options.port });
    return socket;
  }

  setPassword(socket: Socket, peer: string, key: string | undefined): void {
    const fd = descriptorOf(socket);
    if (fd === undefined) return;
    try {
      setTcpMd5(fd, peer, key ?? '');
    } catch (error) {
      // There was none to take away.
      if (key !== undefined || !hasCode(error, 'ENOENT')) throw error;
    }
  }

  secureAccepted(socket: Socket, minTtl: number): boolean {
    return setAcceptedMinTtl(socket, minTtl);
  }
}
