// The calls of a relay's event loop: epoll, accept, connect, splice, datagrams. They answer as the kernel does, a number
// or -errno, for a loop branches on EAGAIN a hundred thousand times a second and must not throw. Only for threads that
// own their loop: `epollWait` blocks the thread.
import { lastErrno, lastError, nativeFunction, O_CLOEXEC, O_NONBLOCK } from './ffi.ts';

interface Calls {
  epoll_create1(flags: number): number;
  epoll_ctl(epoll: number, op: number, fd: number, event: Uint8Array): number;
  epoll_wait(epoll: number, events: Uint8Array, max: number, timeoutMs: number): number;
  eventfd(initial: number, flags: number): number;
  accept4(fd: number, address: Uint8Array | null, length: Int32Array | null, flags: number): number;
  connect(fd: number, address: Uint8Array, length: number): number;
  shutdown(fd: number, how: number): number;
  pipe2(fds: Int32Array, flags: number): number;
  splice(from: number, _: null, to: number, __: null, length: number, flags: number): number;
  read(fd: number, bytes: Uint8Array, length: number): number;
  write(fd: number, bytes: Uint8Array, length: number): number;
  recvfrom(
    fd: number,
    bytes: Uint8Array,
    length: number,
    flags: number,
    address: Uint8Array,
    addressLength: Int32Array,
  ): number;
  sendto(
    fd: number,
    bytes: Uint8Array,
    length: number,
    flags: number,
    address: Uint8Array,
    addressLength: number,
  ): number;
}

const DECLARATIONS: Record<keyof Calls, string> = {
  epoll_create1: 'int epoll_create1(int flags)',
  epoll_ctl: 'int epoll_ctl(int epoll, int op, int fd, void *event)',
  epoll_wait: 'int epoll_wait(int epoll, void *events, int max, int timeout)',
  eventfd: 'int eventfd(unsigned int initial, int flags)',
  accept4: 'int accept4(int fd, void *address, void *length, int flags)',
  connect: 'int connect(int fd, const void *address, uint32_t length)',
  shutdown: 'int shutdown(int fd, int how)',
  pipe2: 'int pipe2(void *fds, int flags)',
  splice:
    'long splice(int from, void *fromOffset, int to, void *toOffset, size_t length, unsigned int flags)',
  read: 'long read(int fd, void *bytes, size_t length)',
  write: 'long write(int fd, const void *bytes, size_t length)',
  recvfrom:
    'long recvfrom(int fd, void *bytes, size_t length, int flags, void *address, void *addressLength)',
  sendto:
    'long sendto(int fd, const void *bytes, size_t length, int flags, const void *address, uint32_t addressLength)',
};

let loaded: Calls | undefined;

function calls(): Calls {
  loaded ??= Object.fromEntries(
    Object.entries(DECLARATIONS).map(([name, declaration]) => [name, nativeFunction(declaration)]),
  ) as unknown as Calls;
  return loaded;
}

function answer(result: number): number {
  return result < 0 ? -lastErrno() : result;
}

/** sys/epoll.h */
export const EPOLLIN = 1;
export const EPOLLOUT = 4;
export const EPOLLERR = 8;
export const EPOLLHUP = 16;
export const EPOLLRDHUP = 0x2000;
export const EPOLLEXCLUSIVE = 1 << 28;
export const EPOLLET = 1 << 31;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;

export const EINTR = 4;
export const ENFILE = 23;
export const EMFILE = 24;
export const ECONNREFUSED = 111;
export const EINPROGRESS = 115;

export const SHUT_WR = 1;
export const SPLICE_F_MOVE = 1;
export const SPLICE_F_NONBLOCK = 2;
export const F_SETPIPE_SZ = 1031;

/** struct epoll_event is packed on x86_64 only. */
const EVENT_BYTES = process.arch === 'x64' ? 12 : 16;
const DATA_OFFSET = process.arch === 'x64' ? 4 : 8;

/** An epoll instance whose events carry the descriptor. */
export class Epoll {
  readonly #fd: number;
  readonly #event = Buffer.alloc(EVENT_BYTES);
  readonly #events: Buffer;
  readonly #max: number;

  constructor(max = 256) {
    this.#fd = calls().epoll_create1(O_CLOEXEC);
    if (this.#fd < 0) throw lastError('epoll_create1');
    this.#max = max;
    this.#events = Buffer.alloc(EVENT_BYTES * max);
  }

  /** 0 or -errno. */
  add(fd: number, events: number): number {
    this.#event.writeInt32LE(events | 0, 0);
    this.#event.writeInt32LE(fd, DATA_OFFSET);
    return answer(calls().epoll_ctl(this.#fd, EPOLL_CTL_ADD, fd, this.#event));
  }

  remove(fd: number): number {
    return answer(calls().epoll_ctl(this.#fd, EPOLL_CTL_DEL, fd, this.#event));
  }

  /** Waits at most `timeoutMs` and hands on what happened; how many events there were. */
  wait(timeoutMs: number, handle: (fd: number, events: number) => void): number {
    const count = calls().epoll_wait(this.#fd, this.#events, this.#max, timeoutMs);
    if (count < 0) {
      if (lastErrno() === EINTR) return 0;
      throw lastError('epoll_wait');
    }
    for (let n = 0, at = 0; n < count; n++, at += EVENT_BYTES)
      handle(this.#events.readInt32LE(at + DATA_OFFSET), this.#events.readInt32LE(at));
    return count;
  }
}

/** A counter that wakes a loop up: `signalEvent` from any thread, `drainEvent` in the loop. */
export function openEvent(): number {
  const fd = calls().eventfd(0, O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) throw lastError('eventfd');
  return fd;
}

export function signalEvent(fd: number): void {
  const one = Buffer.alloc(8);
  one.writeUInt8(1, 0);
  calls().write(fd, one, one.length);
}

export function drainEvent(fd: number): void {
  calls().read(fd, Buffer.alloc(8), 8);
}

/** The new, non-blocking descriptor or -errno. `peer` is filled with the client's sockaddr when given. */
export function acceptStream(fd: number, peer?: Uint8Array, length?: Int32Array): number {
  if (length) length[0] = peer?.length ?? 0;
  return answer(calls().accept4(fd, peer ?? null, length ?? null, O_NONBLOCK | O_CLOEXEC));
}

/** 0, or -errno: -EINPROGRESS is how a non-blocking connect begins. */
export function connectStream(fd: number, address: Uint8Array): number {
  return answer(calls().connect(fd, address, address.length));
}

export function shutdownWrite(fd: number): void {
  calls().shutdown(fd, SHUT_WR);
}

/** [read end, write end], or undefined when there are no descriptors left. */
export function openPipe(): [number, number] | undefined {
  const ends = new Int32Array(2);
  return calls().pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0 ? undefined : [ends[0]!, ends[1]!];
}

/** Moves up to `length` bytes without copying them through this program: their number, 0 at the end, or -errno. */
export function moveBytes(from: number, to: number, length: number): number {
  return answer(calls().splice(from, null, to, null, length, SPLICE_F_MOVE | SPLICE_F_NONBLOCK));
}

/** The length of the datagram, or -errno; `peer` gets the sender's sockaddr, `length` its size. */
export function receiveDatagram(fd: number, bytes: Uint8Array, peer: Uint8Array, length: Int32Array): number {
  length[0] = peer.length;
  return answer(calls().recvfrom(fd, bytes, bytes.length, 0, peer, length));
}

export function sendDatagram(fd: number, bytes: Uint8Array, length: number, peer: Uint8Array): number {
  return answer(calls().sendto(fd, bytes, length, 0, peer, peer.length));
}
