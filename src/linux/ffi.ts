// The system calls podwire needs and Node does not offer, through koffi. The only user of koffi.
// Symbols come from the C library that Node itself is linked with, looked up at first use. A failure is a
// KernelError whose code is the errno's name. Nothing here waits, except recv on a socket without a reply.
import { constants } from 'node:os';
import koffi from 'koffi';
import { KernelError } from '../lib/errors.ts';

const ERRNO_NAMES = new Map<number, string>(
  Object.entries(constants.errno).map(([name, value]) => [value, name]),
);
// Names that one number shares, or that Node's table lacks (asm-generic/errno.h).
ERRNO_NAMES.set(11, 'EAGAIN')
  .set(95, 'EOPNOTSUPP')
  .set(93, 'EPROTONOSUPPORT')
  .set(96, 'EPFNOSUPPORT')
  .set(94, 'ESOCKTNOSUPPORT')
  .set(117, 'EUCLEAN')
  .set(85, 'ERESTART');

/** `ENOENT` for 2; an unknown number becomes `E<number>`. */
export function errnoName(errno: number): string {
  return ERRNO_NAMES.get(errno) ?? `E${errno}`;
}

interface SystemCalls {
  open(path: string, flags: number, mode: number): number;
  close(fd: number): number;
  setns(fd: number, type: number): number;
  unshare(flags: number): number;
  mount(source: string, target: string, type: string | null, flags: number, data: string | null): number;
  umount2(target: string, flags: number): number;
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Uint8Array, length: number): number;
  listen(fd: number, backlog: number): number;
  getsockname(fd: number, address: Uint8Array, length: Int32Array): number;
  setsockopt(fd: number, level: number, name: number, value: Uint8Array, length: number): number;
  getsockopt(fd: number, level: number, name: number, value: Uint8Array, length: Int32Array): number;
  send(fd: number, bytes: Uint8Array, length: number, flags: number): number;
  recv(fd: number, bytes: Uint8Array, length: number, flags: number): number;
  fcntl(fd: number, command: number, argument: number): number;
  flock(fd: number, operation: number): number;
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  ioctlNumber(fd: number, request: number, argument: number): number;
}

let loaded: SystemCalls | undefined;

function calls(): SystemCalls {
  if (loaded !== undefined) return loaded;
  const lib = koffi.load(null);
  loaded = {
    open: lib.func('int open(const char *path, int flags, int mode)'),
    close: lib.func('int close(int fd)'),
    setns: lib.func('int setns(int fd, int type)'),
    unshare: lib.func('int unshare(int flags)'),
    mount: lib.func(
      'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
    ),
    umount2: lib.func('int umount2(const char *target, int flags)'),
    socket: lib.func('int socket(int domain, int type, int protocol)'),
    bind: lib.func('int bind(int fd, const void *address, uint32_t length)'),
    listen: lib.func('int listen(int fd, int backlog)'),
    getsockname: lib.func('int getsockname(int fd, void *address, void *length)'),
    setsockopt: lib.func('int setsockopt(int fd, int level, int name, const void *value, uint32_t length)'),
    getsockopt: lib.func('int getsockopt(int fd, int level, int name, void *value, void *length)'),
    send: lib.func('long send(int fd, const void *bytes, size_t length, int flags)'),
    recv: lib.func('long recv(int fd, void *bytes, size_t length, int flags)'),
    flock: lib.func('int flock(int fd, int operation)'),
    fcntl: lib.func('int fcntl(int fd, int command, ...)') as unknown as SystemCalls['fcntl'],
    ioctl: lib.func('int ioctl(int fd, unsigned long request, ...)') as unknown as SystemCalls['ioctl'],
    ioctlNumber: () => -1,
  };
  // The C declarations of these two end in `...`; koffi wants the type before each variadic argument.
  const fcntl = loaded.fcntl as unknown as (
    fd: number,
    command: number,
    type: string,
    value: number,
  ) => number;
  const ioctl = loaded.ioctl as unknown as (
    fd: number,
    request: number,
    type: string,
    value: Uint8Array | number,
  ) => number;
  loaded.fcntl = (fd, command, argument) => fcntl(fd, command, 'int', argument);
  loaded.ioctl = (fd, request, argument) => ioctl(fd, request, 'void *', argument);
  loaded.ioctlNumber = (fd, request, argument) => ioctl(fd, request, 'long', argument);
  return loaded;
}

/**
 * A C function by its declaration, for rooms of calls that have a file of their own (stream-io.ts). Answers below zero
 * are turned into -errno with `lastErrno`.
 */
export function nativeFunction<F>(declaration: string): F {
  return koffi.load(null).func(declaration) as F;
}

export function lastErrno(): number {
  return koffi.errno();
}

/** The KernelError of the call that just failed. `op` says what was attempted, with its object. */
export function lastError(op: string): KernelError {
  const errno = koffi.errno();
  return new KernelError(op, errno, errnoName(errno));
}

function check(result: number, op: () => string): number {
  if (result < 0) throw lastError(op());
  return result;
}

export const O_RDONLY = 0;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_CLOEXEC = 0o2000000;
export const O_ASYNC = 0o20000;
export const O_NONBLOCK = 0o4000;
export const CLONE_NEWNET = 0x40000000;
export const MS_BIND = 4096;
export const MS_REC = 16384;
export const MS_SHARED = 1 << 20;
export const MNT_DETACH = 2;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const AF_BRIDGE = 7;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_CLOEXEC = 0o2000000;
export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
export const SO_RCVTIMEO = 20;
export const SO_SNDBUFFORCE = 32;
export const SO_RCVBUFFORCE = 33;
export const MSG_DONTWAIT = 0x40;
export const MSG_TRUNC = 0x20;
export const F_GETFL = 3;
export const F_SETFL = 4;
export const F_SETOWN = 8;
export const EAGAIN = 11;
export const ENOBUFS = 105;

export function sysOpen(path: string, flags: number, mode = 0): number {
  return check(calls().open(path, flags | O_CLOEXEC, mode), () => `open ${path}`);
}

export function sysClose(fd: number): void {
  calls().close(fd);
}

export function sysSetns(fd: number, type: number): void {
  check(calls().setns(fd, type), () => `setns to fd ${fd}`);
}

export function sysUnshare(flags: number): void {
  check(calls().unshare(flags), () => `unshare 0x${flags.toString(16)}`);
}

export function sysMount(source: string, target: string, type: string | null, flags: number): void {
  check(calls().mount(source, target, type, flags, null), () => `mount ${source} on ${target}`);
}

export function sysUmount(target: string, flags: number): void {
  check(calls().umount2(target, flags), () => `umount ${target}`);
}

export function sysSocket(domain: number, type: number, protocol: number): number {
  return check(
    calls().socket(domain, type | SOCK_CLOEXEC, protocol),
    () => `socket(${domain}, ${type}, ${protocol})`,
  );
}

export function sysBind(fd: number, address: Uint8Array, op: string): void {
  check(calls().bind(fd, address, address.length), () => op);
}

export function sysListen(fd: number, backlog: number, op: string): void {
  check(calls().listen(fd, backlog), () => op);
}

/** The local address as the kernel's sockaddr. */
export function sysGetsockname(fd: number): Buffer {
  const address = Buffer.alloc(128);
  const length = Int32Array.of(address.length);
  check(calls().getsockname(fd, address, length), () => `getsockname of fd ${fd}`);
  return address.subarray(0, length[0]);
}

/** False when the kernel refused, for options that are a wish. */
export function trySetsockopt(fd: number, level: number, name: number, value: Uint8Array): boolean {
  return calls().setsockopt(fd, level, name, value, value.length) === 0;
}

export function sysSetsockopt(fd: number, level: number, name: number, value: Uint8Array): void {
  check(
    calls().setsockopt(fd, level, name, value, value.length),
    () => `setsockopt(${level}, ${name}) of fd ${fd}`,
  );
}

/** Fills `value` and returns how many bytes the kernel wrote, or -errno. */
export function tryGetsockopt(fd: number, level: number, name: number, value: Uint8Array): number {
  const length = Int32Array.of(value.length);
  return calls().getsockopt(fd, level, name, value, length) === 0 ? length[0]! : -koffi.errno();
}

interface AsyncCall {
  async(...args: [...unknown[], (error: unknown, result: number) => void]): void;
}

function inThread(call: unknown, args: readonly unknown[]): Promise<number> {
  return new Promise((resolve, reject) =>
    (call as AsyncCall).async(...args, (error: unknown, result: number) => {
      if (error) reject(error);
      else resolve(result);
    }),
  );
}

/** setsockopt in a thread of the pool, for options that take the kernel long. False when refused; errno is lost. */
export async function setsockoptInThread(
  fd: number,
  level: number,
  name: number,
  value: Uint8Array,
): Promise<boolean> {
  return (await inThread(calls().setsockopt, [fd, level, name, value, value.length])) === 0;
}

/** getsockopt in a thread of the pool. False when refused; errno is lost. */
export async function getsockoptInThread(
  fd: number,
  level: number,
  name: number,
  value: Uint8Array,
): Promise<boolean> {
  return (await inThread(calls().getsockopt, [fd, level, name, value, Int32Array.of(value.length)])) === 0;
}

/** Where bytes are in memory, for structures with pointers; good as long as the caller keeps the bytes. */
export function addressOf(bytes: Uint8Array): bigint {
  return BigInt(koffi.address(bytes));
}

/** Bytes sent, or -errno: hot paths branch on the number. */
export function sysSend(fd: number, bytes: Uint8Array, flags = 0): number {
  const sent = calls().send(fd, bytes, bytes.length, flags);
  return sent < 0 ? -koffi.errno() : sent;
}

/** Bytes received (with MSG_TRUNC the true length), or -errno. */
export function sysRecv(fd: number, bytes: Uint8Array, flags = 0): number {
  const got = calls().recv(fd, bytes, bytes.length, flags);
  return got < 0 ? -koffi.errno() : got;
}

export function sysFcntl(fd: number, command: number, argument: number): number {
  return check(calls().fcntl(fd, command, argument), () => `fcntl(${command}) of fd ${fd}`);
}

/** flock(2): 0, or -errno (EAGAIN when somebody else holds the lock). */
export function sysFlock(fd: number, operation: number): number {
  return calls().flock(fd, operation) < 0 ? -koffi.errno() : 0;
}

export function sysIoctl(fd: number, request: number, argument: Uint8Array, op: string): number {
  return check(calls().ioctl(fd, request, argument), () => op);
}

/** For requests that take a number instead of a pointer. */
export function sysIoctlNumber(fd: number, request: number, argument: number, op: string): number {
  return check(calls().ioctlNumber(fd, request, argument), () => op);
}

/** A C int as setsockopt wants it. */
export function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}
