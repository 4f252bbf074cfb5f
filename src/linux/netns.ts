// Network namespaces: open, enter for the length of a synchronous function, create and delete by name.
// The setns window changes the calling thread's namespace, so nothing may await inside it, and Node's own network
// calls must not be used in it: they resolve host names and open their sockets later, outside the window.
import { fstatSync, mkdirSync, readdirSync, unlinkSync } from 'node:fs';
import { hasCode, PodwireError } from '../lib/errors.ts';
import {
  CLONE_NEWNET,
  MNT_DETACH,
  MS_BIND,
  MS_REC,
  MS_SHARED,
  O_CREAT,
  O_EXCL,
  O_RDONLY,
  sysClose,
  sysMount,
  sysOpen,
  sysSetns,
  sysUmount,
  sysUnshare,
} from './ffi.ts';

/** Where `ip netns` keeps its names, and so do we. */
export const NETNS_DIRECTORY = '/run/netns';

const OWN = '/proc/thread-self/ns/net';

interface Place {
  fd: number;
  inode: bigint;
}

/**
 * Where this thread is: its own namespace, kept open from the first look on, or that of the window it is in. Workers have
 * a module, and so a place, of their own.
 */
let here: Place | undefined;

function whereWeAre(): Place {
  if (here === undefined) {
    const fd = sysOpen(OWN, O_RDONLY);
    here = { fd, inode: fstatSync(fd, { bigint: true }).ino };
  }
  return here;
}

export class Netns implements Disposable {
  readonly fd: number;
  readonly inode: bigint;
  /** The path it was opened by, for messages. */
  readonly path: string | undefined;
  readonly #owned: boolean;
  #closed = false;

  private constructor(fd: number, owned: boolean, path?: string) {
    this.fd = fd;
    this.inode = fstatSync(fd, { bigint: true }).ino;
    this.path = path;
    this.#owned = owned;
  }

  /** `/run/netns/NAME`, `/proc/PID/ns/net`, or any other bind mount of a namespace. */
  static open(path: string): Netns {
    const fd = sysOpen(path, O_RDONLY);
    try {
      return new Netns(fd, true, path);
    } catch (error) {
      sysClose(fd);
      throw error;
    }
  }

  /** The namespace this thread is in now. */
  static current(): Netns {
    return Netns.open(OWN);
  }

  /** A namespace whose descriptor somebody else closes. */
  static fromFd(fd: number): Netns {
    return new Netns(fd, false);
  }

  /** True when both are the same namespace. */
  equals(other: Netns): boolean {
    return this.inode === other.inode;
  }

  /** Runs `fn` inside this namespace and comes back. `fn` must be synchronous; a promise is refused. */
  run<T>(fn: () => T): T {
    if (this.#closed) throw new PodwireError('CLOSED', `namespace ${this.path ?? this.inode} is closed`);
    const home = whereWeAre();
    let result: T;
    if (home.inode === this.inode) {
      result = fn();
    } else {
      sysSetns(this.fd, CLONE_NEWNET);
      here = this;
      try {
        result = fn();
      } finally {
        returnTo(home.fd);
        here = home;
      }
    }
    if (typeof (result as { then?: unknown } | null | undefined)?.then === 'function')
      throw new PodwireError('NOT_SYNCHRONOUS', 'a function run inside a namespace must not be asynchronous');
    return result;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#owned) sysClose(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A thread that cannot leave a foreign namespace would configure the wrong network: better no process than that. */
function returnTo(home: number): void {
  try {
    sysSetns(home, CLONE_NEWNET);
  } catch (error) {
    process.stderr.write(`podwire: cannot return to the own network namespace: ${String(error)}\n`);
    process.abort();
  }
}

function checkName(name: string): string {
  if (!/^[A-Za-z0-9_.@-]{1,200}$/.test(name) || name === '.' || name === '..')
    throw new PodwireError('INVALID_NAME', `${JSON.stringify(name)} cannot be a namespace's name`);
  return `${NETNS_DIRECTORY}/${name}`;
}

/** As iproute2 does: makes /run/netns a shared mount, so that later mounts are seen in every mount namespace. */
function shareDirectory(): void {
  mkdirSync(NETNS_DIRECTORY, { recursive: true, mode: 0o755 });
  try {
    sysMount('', NETNS_DIRECTORY, 'none', MS_SHARED | MS_REC);
  } catch (error) {
    if (!hasCode(error, 'EINVAL')) throw error;
    sysMount(NETNS_DIRECTORY, NETNS_DIRECTORY, 'none', MS_BIND | MS_REC);
    sysMount('', NETNS_DIRECTORY, 'none', MS_SHARED | MS_REC);
  }
}

/** Same as `ip netns add NAME`; EEXIST when the name is taken. Returns the path. */
export function createNetns(name: string): string {
  const path = checkName(name);
  shareDirectory();
  sysClose(sysOpen(path, O_RDONLY | O_CREAT | O_EXCL, 0o444));
  const home = sysOpen(OWN, O_RDONLY);
  try {
    sysUnshare(CLONE_NEWNET);
    try {
      sysMount(OWN, path, 'none', MS_BIND);
    } finally {
      returnTo(home);
    }
  } catch (error) {
    unlinkSync(path);
    throw error;
  } finally {
    sysClose(home);
  }
  return path;
}

/** Same as `ip netns delete NAME`; a name that is not there is fine. The namespace dies with its last user. */
export function deleteNetns(name: string): void {
  const path = checkName(name);
  try {
    sysUmount(path, MNT_DETACH);
  } catch (error) {
    if (!hasCode(error, 'EINVAL') && !hasCode(error, 'ENOENT')) throw error;
  }
  try {
    unlinkSync(path);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}

/** The names below /run/netns, sorted. */
export function listNetns(): string[] {
  try {
    return readdirSync(NETNS_DIRECTORY).sort();
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  }
}
