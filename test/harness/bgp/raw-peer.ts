// A peer made of bytes, for unit tests: it says what a real speaker would never say, as slowly or as much as a test
// likes, and keeps what it is answered.
import { connect, type Socket } from 'node:net';
import { type Capabilities, NO_CAPABILITIES } from '../../../routing/bgp/packet/capability/capabilities.ts';
import { HEADER_BYTES } from '../../../routing/bgp/packet/header.ts';
import { MESSAGE } from '../../../routing/bgp/packet/iana.ts';
import { encodeKeepalive } from '../../../routing/bgp/packet/message/keepalive.ts';
import { encodeOpen, type OpenMessage } from '../../../routing/bgp/packet/message/open.ts';
import { until } from './bench-net.ts';
import { PORT } from './loopback.ts';

export class RawPeer implements Disposable {
  readonly socket: Socket;
  /** Whole messages, in order. */
  readonly messages: Buffer[] = [];
  closed = false;
  #rest: Buffer = Buffer.alloc(0);

  constructor(to: string, from: string) {
    this.socket = connect({ host: to, port: PORT, localAddress: from });
    this.socket.on('data', chunk => this.#take(chunk));
    this.socket.on('error', () => undefined);
    this.socket.on('close', () => {
      this.closed = true;
    });
  }

  #take(chunk: Buffer): void {
    let bytes = Buffer.concat([this.#rest, chunk]);
    while (bytes.length >= HEADER_BYTES && bytes.length >= bytes.readUInt16BE(16)) {
      const length = bytes.readUInt16BE(16);
      this.messages.push(bytes.subarray(0, length));
      bytes = bytes.subarray(length);
    }
    this.#rest = bytes;
  }

  send(...messages: readonly Buffer[]): void {
    this.socket.write(Buffer.concat(messages));
  }

  open(
    changes: Partial<OpenMessage> & Pick<OpenMessage, 'asn'>,
    capabilities: Partial<Capabilities> = {},
  ): void {
    const all = { ...NO_CAPABILITIES, families: [4 as const], as4: changes.asn, ...capabilities };
    this.send(encodeOpen({ holdTimeSeconds: 90, routerId: 77, capabilities: all, ...changes }));
  }

  /** OPEN and KEEPALIVE both ways. */
  async establish(
    changes: Parameters<RawPeer['open']>[0],
    capabilities: Partial<Capabilities> = {},
  ): Promise<void> {
    this.open(changes, capabilities);
    this.send(encodeKeepalive());
    await until(() => this.of(MESSAGE.KEEPALIVE).length > 0, 5000);
  }

  of(type: number): Buffer[] {
    return this.messages.filter(message => message[18] === type);
  }

  /** `code/subcode` of the NOTIFICATION that ended the session; undefined while there is none. */
  get notification(): string | undefined {
    const [message] = this.of(MESSAGE.NOTIFICATION);
    return message === undefined ? undefined : `${message[19]}/${message[20]}`;
  }

  async notified(timeoutMs = 5000): Promise<string | undefined> {
    await until(() => this.notification !== undefined || this.closed, timeoutMs);
    return this.notification;
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}
