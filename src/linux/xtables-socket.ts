// The socket options that read and replace a table of legacy iptables (linux/netfilter_ipv4/ip_tables.h), and what this
// process remembers of tables, so that what did not change is not taken apart again.
import type { LaidOut, Moved } from '../codec/xtables/assembly.ts';
import {
  COUNTERS_BYTES,
  COUNTERS_HEADER,
  decodeInfo,
  GET_ENTRIES_HEADER,
  GETINFO_BYTES,
  type TableInfo,
  writeReplaceHeader,
  XT_SO,
  type XtablesFamily,
} from '../codec/xtables/layout.ts';
import { RuleEncoder } from '../codec/xtables/rule.ts';
import { decodeTable, isUnchanged, type XtTable } from '../codec/xtables/table.ts';
import { KernelError } from '../lib/errors.ts';
import {
  AF_INET,
  AF_INET6,
  addressOf,
  EAGAIN,
  errnoName,
  getsockoptInThread,
  lastErrno,
  SOCK_RAW,
  setsockoptInThread,
  sysClose,
  sysSocket,
  tryGetsockopt,
  trySetsockopt,
} from './ffi.ts';
import type { Netns } from './netns.ts';

const IPPROTO_RAW = 255;
const REVISION_BYTES = 30;
const SOL_IP = 0;
const SOL_IPV6 = 41;
/** Somebody who does not take the lock may change the table between our look and our change. */
export const ATTEMPTS = 10;
/** Smaller tables take the kernel less time than a change of threads. */
const THREAD_BYTES = 1 << 18;

/** A writer of rules for this kernel. */
export function encoderFor(family: XtablesFamily, isChain: (name: string) => boolean): RuleEncoder {
  return new RuleEncoder({
    family,
    isChain,
    supports: (kind, name, revision) => supportsRevision(family, kind, name, revision),
  });
}

function isSameInfo(a: TableInfo, b: TableInfo): boolean {
  // What stands for a hook that the table has not is anything.
  const same = (x: readonly number[], y: readonly number[]): boolean =>
    x.every((value, hook) => (a.validHooks & (1 << hook)) === 0 || value === y[hook]);
  return (
    a.entries === b.entries &&
    a.size === b.size &&
    a.validHooks === b.validHooks &&
    same(a.hookEntries, b.hookEntries) &&
    same(a.underflows, b.underflows)
  );
}

/** Smaller buffers are made anew faster than they are kept. */
const KEPT_BYTES = 1 << 20;

/**
 * Tables of one namespace as this process last saw them, so that what did not change meanwhile is not taken apart again,
 * and the big buffers, which are dear to make: memory for time, two to three times what the kernel has in its tables.
 * A table is good until the next change or look through the same cache, unless it was lent.
 */
export class XtablesCache {
  readonly #tables = new Map<string, XtTable>();
  readonly #lent = new WeakSet<XtTable>();
  #spare: ArrayBufferLike | undefined;

  get(family: XtablesFamily, table: string): XtTable | undefined {
    return this.#tables.get(`${family} ${table}`);
  }

  keep(table: XtTable): void {
    const name = `${table.family} ${table.info.name}`;
    const before = this.#tables.get(name);
    if (before === table) return;
    this.#tables.set(name, table);
    if (before !== undefined && !this.#lent.has(before)) this.give(before.bytes);
  }

  /** Somebody may look at this table for longer: its memory is not used again. */
  lend(table: XtTable): void {
    this.#lent.add(table);
  }

  /** A buffer with anything in it; undefined for those that should be made anew. */
  take(size: number): Buffer | undefined {
    if (size < KEPT_BYTES) return undefined;
    const spare = this.#spare;
    this.#spare = undefined;
    if (spare !== undefined && spare.byteLength >= size && spare.byteLength <= size * 2)
      return Buffer.from(spare, 0, size);
    // Room for the table to grow.
    return Buffer.allocUnsafeSlow(Math.ceil(size * 1.05)).subarray(0, size);
  }

  /** Takes the memory of a buffer back that nobody uses any more. */
  give(bytes: Buffer): void {
    if (bytes.buffer.byteLength >= KEPT_BYTES) this.#spare = bytes.buffer;
  }
}

/** What the running kernel has does not change, so it is asked once. */
const revisions = new Map<string, boolean>();

/** IPT_SO_GET_REVISION_MATCH and _TARGET. */
function supportsRevision(
  family: XtablesFamily,
  kind: 'match' | 'target',
  name: string,
  revision: number,
): boolean {
  const key = `${family} ${kind} ${name} ${revision}`;
  let known = revisions.get(key);
  if (known === undefined) {
    using socket = XtablesSocket.open(family);
    known = socket.hasRevision(kind, name, revision);
    revisions.set(key, known);
  }
  return known;
}

export class XtablesSocket implements Disposable {
  readonly #fd: number;
  readonly #family: XtablesFamily;
  readonly #level: number;

  private constructor(fd: number, family: XtablesFamily) {
    this.#fd = fd;
    this.#family = family;
    this.#level = family === 4 ? SOL_IP : SOL_IPV6;
  }

  static open(family: XtablesFamily, netns?: Netns): XtablesSocket {
    const open = (): number => sysSocket(family === 4 ? AF_INET : AF_INET6, SOCK_RAW, IPPROTO_RAW);
    return new XtablesSocket(netns === undefined ? open() : netns.run(open), family);
  }

  close(): void {
    sysClose(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** IPT_SO_GET_INFO. Makes the table if this kernel can. */
  info(table: string): TableInfo {
    const bytes = Buffer.alloc(GETINFO_BYTES);
    bytes.write(table.slice(0, 31), 0, 'latin1');
    const got = tryGetsockopt(this.#fd, this.#level, XT_SO.GET_INFO, bytes);
    if (got < 0) throw this.#error('look at', table, -got);
    return decodeInfo(bytes);
  }

  /** struct xt_get_revision: char name[29], u8 revision. */
  hasRevision(kind: 'match' | 'target', name: string, revision: number): boolean {
    const bytes = Buffer.alloc(REVISION_BYTES);
    bytes.write(name, 0, 'latin1');
    bytes[REVISION_BYTES - 1] = revision;
    const option = kind === 'match' ? XT_SO.GET_REVISION_MATCH : XT_SO.GET_REVISION_TARGET;
    return tryGetsockopt(this.#fd, this.#level, option[this.#family], bytes) >= 0;
  }

  async read(table: string, cache?: XtablesCache): Promise<XtTable> {
    const known = cache?.get(this.#family, table);
    for (let attempt = 1; ; attempt++) {
      const info = this.info(table);
      const size = GET_ENTRIES_HEADER + info.size;
      // Zeros: the kernel leaves out what follows the names of matches and targets.
      const bytes = cache?.take(size)?.fill(0) ?? Buffer.alloc(size);
      bytes.write(table.slice(0, 31), 0, 'latin1');
      bytes.writeUInt32LE(info.size, 32);
      const errno = await this.#get(bytes);
      if (errno === 0) {
        const entries = bytes.subarray(GET_ENTRIES_HEADER);
        const isKnown = known !== undefined && isSameInfo(known.info, info) && isUnchanged(known, entries);
        if (!isKnown) return decodeTable(this.#family, info, entries);
        cache?.give(bytes);
        return known;
      }
      // Another size by now.
      if (errno !== EAGAIN || attempt === ATTEMPTS) throw this.#error('read', table, errno);
    }
  }

  /** 0 or the error's number. */
  async #get(bytes: Buffer): Promise<number> {
    const inThread = bytes.length > THREAD_BYTES;
    if (inThread && (await getsockoptInThread(this.#fd, this.#level, XT_SO.GET_ENTRIES, bytes))) return 0;
    return Math.max(0, -tryGetsockopt(this.#fd, this.#level, XT_SO.GET_ENTRIES, bytes));
  }

  /** Replaces `old`; false when the table is not as old any more. Counters of what stays are kept. */
  async replace(old: XtTable, { bytes, table, moved }: LaidOut): Promise<boolean> {
    const { info } = table;
    const counters = Buffer.alloc(old.info.entries * COUNTERS_BYTES);
    writeReplaceHeader(bytes, info, old.info.entries, addressOf(counters));
    const errno = await this.#set(bytes);
    if (errno === EAGAIN) return false;
    if (errno !== 0) throw this.#error('replace', info.name, errno);
    this.#keepCounters(info, counters, moved);
    return true;
  }

  async #set(bytes: Buffer): Promise<number> {
    const inThread = bytes.length > THREAD_BYTES;
    if (inThread && (await setsockoptInThread(this.#fd, this.#level, XT_SO.SET_REPLACE, bytes))) return 0;
    return trySetsockopt(this.#fd, this.#level, XT_SO.SET_REPLACE, bytes) ? 0 : lastErrno();
  }

  /** A new table counts from zero: what the old one had counted is added. Best effort, as nothing depends on it. */
  #keepCounters(info: TableInfo, counters: Buffer, moved: readonly Moved[]): void {
    const words = new Int32Array(counters.buffer, counters.byteOffset, counters.length >> 2);
    let some = 0;
    for (let i = 0; some === 0 && i < words.length; i++) some = words[i]!;
    if (some === 0) return;
    const bytes = Buffer.alloc(COUNTERS_HEADER + info.entries * COUNTERS_BYTES);
    bytes.write(info.name, 0, 'latin1');
    bytes.writeUInt32LE(info.entries, 32);
    for (const { from, to, count } of moved)
      counters.copy(
        bytes,
        COUNTERS_HEADER + to * COUNTERS_BYTES,
        from * COUNTERS_BYTES,
        (from + count) * COUNTERS_BYTES,
      );
    trySetsockopt(this.#fd, this.#level, XT_SO.SET_ADD_COUNTERS, bytes);
  }

  #error(verb: string, table: string, errno: number): KernelError {
    const program = this.#family === 4 ? 'iptables' : 'ip6tables';
    return new KernelError(`${verb} the ${program} table ${table}`, errno, errnoName(errno));
  }
}
