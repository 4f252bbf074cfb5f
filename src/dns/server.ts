// A small DNS server (RFC 1035, over UDP and TCP) for cluster names; everything else goes to upstream resolvers.
// dns-packet does the wire format. Sizes, clients' idle time and the number of open upstream questions are bounded.
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { createServer, type Server, type Socket as TcpSocket } from 'node:net';
import * as packet from 'dns-packet';
import { errorMessage } from '../lib/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { RecordType, Resolution } from './records.ts';

const RCODE = { NOERROR: 0, SERVFAIL: 2, NXDOMAIN: 3, REFUSED: 5 } as const;
/** Without EDNS(0) (RFC 6891) a UDP answer has at most this many bytes. */
const CLASSIC_UDP_BYTES = 512;
const MAX_UDP_BYTES = 4096;
const TCP_IDLE_MS = 10_000;
const MAX_TCP_CLIENTS = 100;
const MAX_TCP_BUFFER_BYTES = 66 * 1024;
const UPSTREAM_TIMEOUT_MS = 2000;
const MAX_UPSTREAM_QUESTIONS = 512;

export interface DnsServerOptions {
  /** Addresses to serve on; each must be on a link already. */
  addresses: string[];
  port?: number;
  resolve: (name: string, type: RecordType) => Resolution | undefined;
  /** Asked in order for names that `resolve` does not know; none: such names are REFUSED. */
  upstream?: string[];
  log: Logger;
}

export class DnsServer {
  readonly #options: DnsServerOptions;
  readonly #sockets: Socket[] = [];
  readonly #servers: Server[] = [];
  #openQuestions = 0;

  constructor(options: DnsServerOptions) {
    this.#options = options;
  }

  /** Rejects when an address cannot be bound. */
  async start(): Promise<void> {
    const port = this.#options.port ?? 53;
    await Promise.all(
      this.#options.addresses.flatMap(address => [
        this.#listenUdp(address, port),
        this.#listenTcp(address, port),
      ]),
    );
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets.splice(0)) socket.close();
    for (const server of this.#servers.splice(0)) server.close();
  }

  /** The answer to one encoded query; undefined when it is no query at all. */
  async answer(query: Buffer): Promise<{ answer: Buffer; maxUdpBytes: number } | undefined> {
    let question: packet.DecodedPacket;
    try {
      question = packet.decode(query);
    } catch {
      return undefined;
    }
    const [asked] = question.questions ?? [];
    if (question.type !== 'query' || !asked) return undefined;
    const opt = question.additionals?.find(record => record.type === 'OPT') as packet.OptAnswer | undefined;
    const maxUdpBytes = Math.min(Math.max(opt?.udpPayloadSize ?? 0, CLASSIC_UDP_BYTES), MAX_UDP_BYTES);
    const resolution = this.#options.resolve(asked.name, asked.type as RecordType);
    if (!resolution) return { answer: await this.#forward(query, question), maxUdpBytes };
    const rcode = resolution.exists ? RCODE.NOERROR : RCODE.NXDOMAIN;
    return { answer: this.#respond(question, rcode, resolution.answers as packet.Answer[]), maxUdpBytes };
  }

  #respond(question: packet.Packet, rcode: number, answers: packet.Answer[]): Buffer {
    const RECURSION_AVAILABLE = this.#options.upstream?.length ? packet.RECURSION_AVAILABLE : 0;
    const flags =
      packet.AUTHORITATIVE_ANSWER |
      RECURSION_AVAILABLE |
      ((question.flags ?? 0) & packet.RECURSION_DESIRED) |
      rcode;
    return packet.encode({
      type: 'response',
      id: question.id,
      flags,
      questions: question.questions,
      answers,
    });
  }

  async #forward(query: Buffer, question: packet.Packet): Promise<Buffer> {
    const { upstream = [], log } = this.#options;
    if (upstream.length === 0) return this.#respond(question, RCODE.REFUSED, []);
    if (this.#openQuestions >= MAX_UPSTREAM_QUESTIONS) return this.#respond(question, RCODE.SERVFAIL, []);
    this.#openQuestions += 1;
    try {
      for (const server of upstream) {
        try {
          return await askUpstream(server, query);
        } catch (thrown) {
          log.debug({ server, error: errorMessage(thrown) }, 'upstream did not answer');
        }
      }
      return this.#respond(question, RCODE.SERVFAIL, []);
    } finally {
      this.#openQuestions -= 1;
    }
  }

  async #listenUdp(address: string, port: number): Promise<void> {
    const socket = createSocket({
      type: address.includes(':') ? 'udp6' : 'udp4',
      ipv6Only: address.includes(':'),
    });
    this.#sockets.push(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.bind({ address, port, exclusive: true }, () => {
        socket.off('error', reject);
        resolve();
      });
    });
    socket.on('error', thrown => this.#options.log.warn({ address, error: thrown.message }, 'DNS socket'));
    socket.on('message', (query, from) => void this.#answerUdp(socket, query, from));
  }

  async #answerUdp(socket: Socket, query: Buffer, from: RemoteInfo): Promise<void> {
    const result = await this.answer(query);
    if (!result) return;
    const fits = result.answer.length <= result.maxUdpBytes;
    socket.send(fits ? result.answer : truncated(result.answer), from.port, from.address, () => {});
  }

  async #listenTcp(address: string, port: number): Promise<void> {
    const server = createServer(client => this.#serveTcp(client));
    server.maxConnections = MAX_TCP_CLIENTS;
    this.#servers.push(server);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: address, port, ipv6Only: true }, () => {
        server.off('error', reject);
        resolve();
      });
    });
  }

  #serveTcp(client: TcpSocket): void {
    let buffered = Buffer.alloc(0);
    client.setTimeout(TCP_IDLE_MS, () => client.destroy());
    client.on('error', () => client.destroy());
    client.on('data', async (chunk: Buffer) => {
      buffered = Buffer.concat([buffered, chunk]);
      if (buffered.length > MAX_TCP_BUFFER_BYTES) return client.destroy();
      // Each message is preceded by its length in two bytes (RFC 1035 section 4.2.2).
      while (buffered.length >= 2 && buffered.length >= 2 + buffered.readUInt16BE(0)) {
        const end = 2 + buffered.readUInt16BE(0);
        const query = buffered.subarray(2, end);
        buffered = buffered.subarray(end);
        const result = await this.answer(query);
        if (!result) return client.destroy();
        const length = Buffer.alloc(2);
        length.writeUInt16BE(result.answer.length);
        client.write(Buffer.concat([length, result.answer]));
      }
      return client;
    });
  }
}

/** Header and question only, with the TC flag: the client asks again over TCP. */
function truncated(answer: Buffer): Buffer {
  const whole = packet.decode(answer);
  return packet.encode({
    type: 'response',
    id: whole.id,
    flags: (whole.flags ?? 0) | packet.TRUNCATED_RESPONSE,
    questions: whole.questions,
  });
}

function askUpstream(server: string, query: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(server.includes(':') ? 'udp6' : 'udp4');
    const finish = (end: () => void) => {
      clearTimeout(timer);
      socket.close();
      end();
    };
    const timer = setTimeout(() => finish(() => reject(new Error('no answer'))), UPSTREAM_TIMEOUT_MS);
    socket.on('error', thrown => finish(() => reject(thrown)));
    socket.connect(53, server, () => {
      socket.on('message', answer => {
        if (answer.length >= 2 && answer.readUInt16BE(0) === query.readUInt16BE(0))
          finish(() => resolve(answer));
      });
      socket.send(query);
    });
  });
}
