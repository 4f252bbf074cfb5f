// A netlink socket with synchronous requests. The kernel serves a request inside send(), so the answer is queued
// when send() returns and recv() never waits. Many requests go in one send() with one acknowledgement on the last:
// the kernel answers every failed one by itself and goes on with the next.
import { close as closeFile } from 'node:fs';
import { NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTI, NLMSG } from '../codec/netlink/constants.ts';
import {
  decodeError,
  decodeMessages,
  MessageWriter,
  type NetlinkErrorAnswer,
  type NetlinkMessage,
} from '../codec/netlink/message.ts';
import { KernelError, PodwireError } from '../lib/errors.ts';
import {
  AF_NETLINK,
  ENOBUFS,
  errnoName,
  int32,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_RCVTIMEO,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOCK_RAW,
  SOL_SOCKET,
  sysBind,
  sysClose,
  sysRecv,
  sysSend,
  sysSocket,
  trySetsockopt,
} from './ffi.ts';
import type { Netns } from './netns.ts';

const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;

/** Requests in one send(): more gain nothing (measured, 121,000 routes/s). */
const BATCH_SIZE = 512;
/** The kernel builds dump answers of at most 32 KiB. */
const RECEIVE_BYTES = 65536;
const BUFFER_BYTES = 4 << 20;
const DUMP_ATTEMPTS = 5;

/** Receive buffers of closed sockets: where sockets live for one request, most of the memory made was theirs. */
const spareBuffers: Buffer[] = [];
const MAX_SPARE_BUFFERS = 8;

export interface NetlinkSocketOptions {
  netns?: Netns;
}

/** One request of a batch that the kernel refused. */
export interface RequestFailure {
  /** Place in the batch. */
  index: number;
  answer: NetlinkErrorAnswer;
}

/** A raw netlink descriptor, bound, with large buffers where the kernel lets us have them. */
export function openNetlink(protocol: number, netns: Netns | undefined): number {
  const open = (): number => {
    const fd = sysSocket(AF_NETLINK, SOCK_RAW, protocol);
    try {
      const address = Buffer.alloc(12);
      address.writeUInt16LE(AF_NETLINK, 0);
      sysBind(fd, address, `bind netlink socket of protocol ${protocol}`);
    } catch (error) {
      sysClose(fd);
      throw error;
    }
    const size = int32(BUFFER_BYTES);
    if (!trySetsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, size)) trySetsockopt(fd, SOL_SOCKET, SO_RCVBUF, size);
    if (!trySetsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, size)) trySetsockopt(fd, SOL_SOCKET, SO_SNDBUF, size);
    return fd;
  };
  return netns === undefined ? open() : netns.run(open);
}

/** The kernel's refusal of `op` as an error. */
export function refusal(op: string, answer: NetlinkErrorAnswer): KernelError {
  return new KernelError(op, answer.errno, errnoName(answer.errno), answer);
}

export class NetlinkSocket implements Disposable {
  readonly #fd: number;
  readonly #buffer = spareBuffers.pop() ?? Buffer.allocUnsafeSlow(RECEIVE_BYTES);
  #sequence = 1;
  #closed = false;
  #portId = 0;

  private constructor(fd: number) {
    this.#fd = fd;
    for (const option of [NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK])
      trySetsockopt(fd, SOL_NETLINK, option, int32(1));
    // No request is expected to wait; a kernel that does not answer must not hang the process for ever.
    const timeout = Buffer.alloc(16);
    timeout.writeBigInt64LE(10n, 0);
    trySetsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeout);
  }

  /** The socket stays in `netns` (or the current namespace) for its life. */
  static open(protocol: number, options: NetlinkSocketOptions = {}): NetlinkSocket {
    return new NetlinkSocket(openNetlink(protocol, options.netns));
  }

  #receive(op: string): Buffer {
    const got = sysRecv(this.#fd, this.#buffer);
    if (got < 0) throw new KernelError(op, -got, errnoName(-got));
    return this.#buffer.subarray(0, got);
  }

  #send(bytes: Buffer, op: string): void {
    if (this.#closed) throw new PodwireError('CLOSED', `${op}: the netlink socket is closed`);
    const sent = sysSend(this.#fd, bytes);
    if (sent < 0) throw new KernelError(op, -sent, errnoName(-sent));
  }

  /** The socket's address, which notifications of its changes carry; 0 before the first answer. */
  get portId(): number {
    return this.#portId;
  }

  /**
   * Sends the messages that begin at `offsets` of the writer, acknowledged; returns those that failed. `perSend` may be
   * Infinity where all must arrive at once.
   */
  transact(
    writer: MessageWriter,
    offsets: readonly number[],
    op = 'netlink batch',
    perSend = BATCH_SIZE,
  ): RequestFailure[] {
    const failures: RequestFailure[] = [];
    for (let first = 0; first < offsets.length; first += perSend) {
      const last = Math.min(first + perSend, offsets.length) - 1;
      const end = last + 1 < offsets.length ? offsets[last + 1]! : writer.length;
      this.#transactPart(writer.buffer, offsets, first, last, end, op, failures);
    }
    return failures;
  }

  #transactPart(
    buffer: Buffer,
    offsets: readonly number[],
    first: number,
    last: number,
    end: number,
    op: string,
    failures: RequestFailure[],
  ): void {
    const base = this.#sequence;
    this.#sequence = (base + (last - first) + 1) >>> 0;
    for (let i = first; i <= last; i++) buffer.writeUInt32LE((base + i - first) >>> 0, offsets[i]! + 8);
    const flagsAt = offsets[last]! + 6;
    buffer.writeUInt16LE(buffer.readUInt16LE(flagsAt) | NLM_F_ACK, flagsAt);
    this.#send(buffer.subarray(offsets[first]!, end), op);
    for (;;) {
      for (const message of decodeMessages(this.#receive(op))) {
        if (message.type !== NLMSG.ERROR) continue;
        const index = first + ((message.sequence - base) >>> 0);
        if (index > last) continue;
        this.#portId = message.port;
        const answer = decodeError(message);
        if (answer.errno !== 0) failures.push({ index, answer });
        if (index === last) return;
      }
    }
  }

  /** One request, acknowledged; throws the kernel's refusal. */
  request(encode: (writer: MessageWriter) => void, op: string): void {
    const writer = new MessageWriter(256);
    encode(writer);
    const [failure] = this.transact(writer, [0], op);
    if (failure !== undefined) throw refusal(op, failure.answer);
  }

  /** One request with one answer, which `decode` gets. */
  get<T>(encode: (writer: MessageWriter) => void, decode: (message: NetlinkMessage) => T, op: string): T {
    return this.find(encode, decode, op, 0) as T;
  }

  /** Like get; undefined when the kernel refuses with `missing`, without the cost of an error. */
  find<T>(
    encode: (writer: MessageWriter) => void,
    decode: (message: NetlinkMessage) => T,
    op: string,
    missing: number,
  ): T | undefined {
    const writer = new MessageWriter(256);
    encode(writer);
    const sequence = this.#stamp(writer);
    this.#send(writer.view(), op);
    for (;;) {
      for (const message of decodeMessages(this.#receive(op))) {
        if (message.sequence !== sequence) continue;
        if (message.type !== NLMSG.ERROR) return decode(message);
        const answer = decodeError(message);
        if (answer.errno === missing) return undefined;
        throw refusal(op, answer);
      }
    }
  }

  #stamp(writer: MessageWriter): number {
    const sequence = this.#sequence;
    this.#sequence = (sequence + 1) >>> 0;
    writer.buffer.writeUInt32LE(sequence, 8);
    return sequence;
  }

  /**
   * A whole table. `encode` gets NLM_F_DUMP to put into its flags. A table that changed while it was read
   * (NLM_F_DUMP_INTR) is read again; when it never holds still the error's code is DUMP_INTERRUPTED.
   */
  dump<T>(
    encode: (writer: MessageWriter, flags: number) => void,
    decode: (message: NetlinkMessage) => T | undefined,
    op: string,
  ): T[] {
    for (let attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
      const items = this.#dumpOnce(encode, decode, op);
      if (items !== undefined) return items;
    }
    throw new PodwireError('DUMP_INTERRUPTED', `${op}: the table changed during ${DUMP_ATTEMPTS} attempts`);
  }

  #dumpOnce<T>(
    encode: (writer: MessageWriter, flags: number) => void,
    decode: (message: NetlinkMessage) => T | undefined,
    op: string,
  ): T[] | undefined {
    const writer = new MessageWriter(256);
    encode(writer, NLM_F_DUMP);
    const sequence = this.#stamp(writer);
    this.#send(writer.view(), op);
    const items: T[] = [];
    let interrupted = false;
    for (;;) {
      for (const message of decodeMessages(this.#receive(op))) {
        if (message.sequence !== sequence) continue;
        if ((message.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true;
        if (message.type === NLMSG.ERROR) throw refusal(op, decodeError(message));
        if (message.type === NLMSG.DONE) {
          checkDone(message, op);
          return interrupted ? undefined : items;
        }
        const item = decode(message);
        if (item !== undefined) items.push(item);
        if ((message.flags & NLM_F_MULTI) === 0) return interrupted ? undefined : items;
      }
    }
  }

  /**
   * A dump read part by part, for tables so large that reading one at a stretch would hold everything up. Ends with true
   * when the table held still; after false what was read may be incomplete. Nothing else may be asked meanwhile.
   */
  *dumpParts(
    encode: (writer: MessageWriter, flags: number) => void,
    op: string,
  ): Generator<NetlinkMessage[], boolean> {
    const writer = new MessageWriter(256);
    encode(writer, NLM_F_DUMP);
    const sequence = this.#stamp(writer);
    this.#send(writer.view(), op);
    let consistent = true;
    for (;;) {
      const messages = decodeMessages(this.#receive(op)).filter(message => message.sequence === sequence);
      for (const message of messages) {
        if ((message.flags & NLM_F_DUMP_INTR) !== 0) consistent = false;
        if (message.type === NLMSG.ERROR) throw refusal(op, decodeError(message));
        if (message.type === NLMSG.DONE) {
          checkDone(message, op);
          return consistent;
        }
      }
      yield messages;
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    sysClose(this.#fd);
    this.#spareBuffer();
  }

  /** Answers are decoded into values of their own before the next question, so nobody looks at the bytes any more. */
  #spareBuffer(): void {
    if (spareBuffers.length < MAX_SPARE_BUFFERS) spareBuffers.push(this.#buffer);
  }

  /**
   * Closes on a thread of libuv's pool. Closing an nf_tables socket waits for a grace period when a transaction has just
   * removed something (nft_rcv_nl_event), 5 ms in which nothing else would run.
   */
  closeInBackground(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeFile(this.#fd, () => {});
    this.#spareBuffer();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** NLMSG_DONE carries an errno when the dump broke off. */
function checkDone(message: NetlinkMessage, op: string): void {
  if (message.payload.length < 4) return;
  const errno = -message.payload.readInt32LE(0);
  if (errno > 0) throw new KernelError(op, errno, errnoName(errno));
}

/** True for the error that means "answers were lost": the socket's receive buffer was too small. */
export function isOverrun(errno: number): boolean {
  return errno === ENOBUFS;
}
