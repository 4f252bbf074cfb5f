// SCTP Services without an SCTP stack: hand-made INIT and INIT-ACK chunks (RFC 9260) from raw sockets show that the kernel
// rewrites address and port on the way to the endpoint, and back on the way to the client.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  AF_INET,
  AF_INET6,
  O_NONBLOCK,
  SOCK_RAW,
  sysBind,
  sysClose,
  sysRecv,
  sysSend,
  sysSocket,
} from '../../../src/linux/ffi.ts';
import { encodeSockaddr } from '../../../src/linux/listen.ts';
import { connectStream } from '../../../src/linux/stream-io.ts';
import { type LabNamespace, SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { endpoint, service, slice } from '../../unit/proxy/object-fixtures.ts';
import { NODE_IP, ProxyNode } from './node.ts';

const IPPROTO_SCTP = 132;
const INIT = 1;
const INIT_ACK = 2;
const CLIENT_PORT = 45_132;
const TARGET_PORT = 9899;

/** The Castagnoli polynomial, bit by bit. */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/** Common header and one INIT or INIT-ACK chunk. */
function chunk(type: number, sourcePort: number, destinationPort: number, tag: number): Buffer {
  const packet = Buffer.alloc(32);
  packet.writeUInt16BE(sourcePort, 0);
  packet.writeUInt16BE(destinationPort, 2);
  packet.writeUInt32BE(tag, 4);
  packet.writeUInt8(type, 12);
  packet.writeUInt16BE(20, 14);
  packet.writeUInt32BE(0x01020304, 16);
  packet.writeUInt32BE(65_536, 20);
  packet.writeUInt16BE(1, 24);
  packet.writeUInt16BE(1, 26);
  packet.writeUInt32BE(1, 28);
  packet.writeUInt32LE(crc32c(packet), 8);
  return packet;
}

class Raw implements Disposable {
  readonly #fd: number;
  readonly #v6: boolean;

  constructor(from: LabNamespace, options: { local?: string; remote?: string }) {
    this.#v6 = (options.local ?? options.remote ?? '').includes(':');
    this.#fd = from.netns.run(() => {
      const fd = sysSocket(this.#v6 ? AF_INET6 : AF_INET, SOCK_RAW | O_NONBLOCK, IPPROTO_SCTP);
      if (options.local) sysBind(fd, encodeSockaddr(options.local, 0), 'bind');
      if (options.remote) assert.equal(connectStream(fd, encodeSockaddr(options.remote, 0)), 0);
      return fd;
    });
  }

  send(packet: Buffer): void {
    assert.equal(sysSend(this.#fd, packet), packet.length);
  }

  /** Type of the first chunk and the two ports of the next packet. */
  async receive(): Promise<{ type: number; source: number; destination: number } | undefined> {
    const buffer = Buffer.alloc(2048);
    for (let waited = 0; waited < 1000; waited += 10) {
      const length = sysRecv(this.#fd, buffer);
      if (length > 0) {
        // Only IPv4 gives its header too.
        const at = this.#v6 ? 0 : (buffer[0]! & 15) * 4;
        return {
          type: buffer[at + 12]!,
          source: buffer.readUInt16BE(at),
          destination: buffer.readUInt16BE(at + 2),
        };
      }
      await sleep(10);
    }
    return undefined;
  }

  [Symbol.dispose](): void {
    sysClose(this.#fd);
  }
}

const FAMILIES = [
  { family: 4, vip: '10.96.5.', node: NODE_IP.v4, pod: '10.244.1.3', bridge: '10.244.1.1' },
  { family: 6, vip: 'fd96::5:', node: NODE_IP.v6, pod: 'fd00:244:1::3', bridge: 'fd00:244:1::1' },
] as const;

for (const mode of ['nftables', 'iptables'] as const)
  describe(`SCTP, ${mode}`, { skip: SKIP_UNLESS_ROOT }, () => {
    for (const { family, vip, node, pod, bridge } of FAMILIES)
      for (const sessionAffinity of ['None', 'ClientIP'])
        test(`IPv${family}, affinity ${sessionAffinity}: there and back`, { timeout: 60_000 }, async () => {
          const net = new ProxyNode(`sctp${mode[0]}${family}${sessionAffinity[0]}`, { mode });
          try {
            await net.start();
            const clusterIP = `${vip}1`;
            const ports = [{ port: 132, nodePort: 30132, protocol: 'SCTP' }];
            net.proxy.upsertService(
              service('test/sctp', { type: 'NodePort', clusterIP, sessionAffinity, ports }),
            );
            net.proxy.upsertEndpointSlice({
              ...slice('test/sctp', [endpoint(pod)], [{ port: TARGET_PORT, protocol: 'SCTP' }]),
              addressType: family === 4 ? 'IPv4' : 'IPv6',
            });
            await net.proxy.settled();
            for (const [n, [address, port]] of (
              [
                [clusterIP, 132],
                [node, 30132],
              ] as const
            ).entries()) {
              using there = new Raw(net.pods[1]!, { local: pod });
              using caller = new Raw(net.client, { remote: address });
              caller.send(chunk(INIT, CLIENT_PORT + n, port, 0));
              const came = await there.receive();
              assert.equal(came?.type, INIT, `${address}:${port}`);
              assert.equal(came.destination, TARGET_PORT);
              // Both ways in are masqueraded, as the client is outside the cluster: the node is the source by now.
              using back = new Raw(net.pods[1]!, { remote: bridge });
              back.send(chunk(INIT_ACK, TARGET_PORT, came.source, 0x01020304));
              // This socket hears only what comes from the address that it called.
              const answer = await caller.receive();
              assert.deepEqual(answer, { type: INIT_ACK, source: port, destination: CLIENT_PORT + n });
            }
          } finally {
            await net.close();
          }
        });
  });
