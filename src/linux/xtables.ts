// The tables of legacy iptables without its programs: the same socket options that libiptc uses, the same lock.
//
//   const added = await editXtables({ netns }, 4, 'nat', edit => {
//     edit.ensureChain('MINE');
//     edit.append('MINE', '-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.2:8080');
//     return edit.insert('PREROUTING', '-m comment --comment "my port" -j MINE');
//   });
//
// Rules are written as `iptables -A` and iptables-save have them, without the command and the chain. What this cannot
// write for certain is refused with the code XTABLES_UNSUPPORTED before anything is changed; the caller then asks
// iptables-restore (Iptables.change does). Rules of others are kept as the bytes they are, with their counters.
//
// A table is always replaced as a whole: the kernel knows nothing smaller. It is read under the lock right before, so
// that nobody's change is lost; measured at 290,000 entries (10,000 Services with 5 endpoints): reading takes the kernel
// 0.17 s, replacing 0.43 s. Both run in a thread, this process goes on.

import type { LaidOut, Moved } from '../codec/xtables/assembly.ts';
import { TableEdit } from '../codec/xtables/edit.ts';
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
import { encode } from '../codec/xtables/transaction.ts';
import { hasCode, KernelError, PodwireError } from '../lib/errors.ts';
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
import { FileLock } from './file-lock.ts';
import type { Netns } from './netns.ts';

export interface XtablesPlace {
  netns?: Netns;
  /** What iptables locks: XTABLES_LOCKFILE of our environment, else /run/xtables.lock, unless told. */
  lockFile?: string;
  /** How long to wait for it; 10 s unless told. */
  lockWaitMs?: number;
  /** Makes the second and later times cheaper; one for one namespace. */
  cache?: XtablesCache;
}

const DEFAULT_LOCK_FILE = '/run/xtables.lock';
export const LOCK_WAIT_SECONDS = 10;
const IPPROTO_RAW = 255;
const REVISION_BYTES = 30;
const SOL_IP = 0;
const SOL_IPV6 = 41;
/** Somebody who does not take the lock may change the table between our look and our change. */
const ATTEMPTS = 10;
/** Smaller tables take the kernel less time than a change of threads. */
const THREAD_BYTES = 1 << 18;

/** What a caller of editXtables can do. Chains are made and rules found as they are at that moment of the edit. */
export class XtablesEditor {
  readonly #edit: TableEdit;
  readonly #encoder: RuleEncoder;

  constructor(edit: TableEdit, encoder: RuleEncoder) {
    this.#edit = edit;
    this.#encoder = encoder;
  }

  get chains(): string[] {
    return this.#edit.chainNames();
  }

  hasChain(chain: string): boolean {
    return this.#edit.hasChain(chain);
  }

  /** False for a chain that is not there. */
  hasRule(chain: string, rule: string): boolean {
    return this.hasChain(chain) && this.#find(chain, rule) >= 0;
  }

  ruleCount(chain: string): number {
    return this.#edit.rules(chain).length;
  }

  /** For each rule of a chain where it leads; undefined for those that lead to no chain. */
  jumps(chain: string): (string | undefined)[] {
    return this.#edit.rules(chain).map(rule => rule.jump || undefined);
  }

  /** False when it was there. */
  ensureChain(chain: string): boolean {
    return this.#edit.addChain(chain);
  }

  /** Makes the chain if need be; it holds these rules and nothing else. */
  setChain(chain: string, rules: readonly string[]): void {
    if (!this.#edit.addChain(chain)) this.#edit.flushChain(chain);
    for (const rule of rules) this.#edit.insertRule(chain, encode(this.#encoder, chain, rule));
  }

  /** Adds a rule at the end unless the chain has it somewhere; false when it has. */
  append(chain: string, rule: string): boolean {
    return this.#add(chain, rule, undefined);
  }

  /** Adds a rule at a position (from 1, the front unless told) unless the chain has it somewhere; false when it has. */
  insert(chain: string, rule: string, position = 1): boolean {
    return this.#add(chain, rule, position - 1);
  }

  /** Takes every copy of a rule away; false when there was none, or no such chain. */
  remove(chain: string, rule: string): boolean {
    if (!this.hasChain(chain)) return false;
    let found = false;
    for (let index = this.#find(chain, rule); index >= 0; index = this.#find(chain, rule)) {
      this.#edit.removeRuleAt(chain, index);
      found = true;
    }
    return found;
  }

  /** Empties and deletes a chain, and takes away the rules of `from` (built-in chains unless told) that lead to it. */
  deleteChain(chain: string, from?: readonly string[]): boolean {
    if (!this.hasChain(chain)) return false;
    for (const name of from ?? this.#builtIn) if (this.hasChain(name)) this.#removeJumps(name, chain);
    this.#edit.flushChain(chain);
    this.#edit.deleteChain(chain);
    return true;
  }

  get #builtIn(): string[] {
    const { names, hooks } = this.#edit.table.columns;
    return names.filter((_, i) => hooks[i]! >= 0);
  }

  #removeJumps(name: string, target: string): void {
    for (let i = this.ruleCount(name) - 1; i >= 0; i--)
      if (this.#edit.rules(name)[i]!.jump === target) this.#edit.removeRuleAt(name, i);
  }

  #find(chain: string, rule: string): number {
    return this.#edit.findRule(chain, encode(this.#encoder, chain, rule));
  }

  #add(chain: string, rule: string, index: number | undefined): boolean {
    const piece = encode(this.#encoder, chain, rule);
    if (this.#edit.findRule(chain, piece) >= 0) return false;
    this.#edit.insertRule(chain, piece, index);
    return true;
  }
}

/**
 * Reads a table under the lock, lets `edit` change it, and writes it when it was changed. `edit` is synchronous and is
 * called again when somebody who takes no lock was faster. Errors: XTABLES_UNSUPPORTED (see above), LOCK_TIMEOUT,
 * NO_CHAIN, NO_RULE, CHAIN_IN_USE and others of TableEdit, or the kernel's (EINVAL for a rule that does not fit its
 * table, ELOOP for chains in a circle, EPERM). A table that was never used is made.
 */
export function editXtables<T>(
  place: XtablesPlace,
  family: XtablesFamily,
  table: string,
  edit: (editor: XtablesEditor) => T,
): Promise<T> {
  return changeTable(place, family, table, (draft, encoder) => edit(new XtablesEditor(draft, encoder)));
}

/** editXtables on the codec's own terms. */
export async function changeTable<T>(
  place: XtablesPlace,
  family: XtablesFamily,
  table: string,
  change: (edit: TableEdit, encoder: RuleEncoder) => T,
): Promise<T> {
  using _lock = await takeLock(place);
  using socket = XtablesSocket.open(family, place.netns);
  for (let attempt = 1; ; attempt++) {
    const found = await readInto(place, socket, table);
    const edit = new TableEdit(found);
    const result = change(
      edit,
      encoderFor(family, name => edit.hasChain(name)),
    );
    if (!edit.changed) return result;
    const laidOut = edit.layOut(size => place.cache?.take(size) ?? Buffer.allocUnsafeSlow(size));
    if (await socket.replace(found, laidOut)) {
      place.cache?.keep(laidOut.table);
      return result;
    }
    if (attempt === ATTEMPTS)
      throw new PodwireError('EAGAIN', `table ${table} is changed all the time by somebody without the lock`);
  }
}

/** The table as it is, and a writer of rules for it; no lock is needed to look. A table that was never used is made. */
export async function readXtables(
  place: XtablesPlace,
  family: XtablesFamily,
  table: string,
): Promise<{ table: XtTable; encoder: RuleEncoder }> {
  using socket = XtablesSocket.open(family, place.netns);
  const found = await readInto(place, socket, table);
  return { table: found, encoder: encoderFor(family, name => found.indexOf(name) >= 0) };
}

async function readInto({ cache }: XtablesPlace, socket: XtablesSocket, table: string): Promise<XtTable> {
  const found = await socket.read(table, cache);
  cache?.keep(found);
  return found;
}

async function takeLock(place: XtablesPlace): Promise<FileLock> {
  const path = place.lockFile ?? process.env.XTABLES_LOCKFILE ?? DEFAULT_LOCK_FILE;
  const waitMs = place.lockWaitMs ?? LOCK_WAIT_SECONDS * 1000;
  try {
    return await FileLock.acquire(path, AbortSignal.timeout(waitMs));
  } catch (error) {
    if (!hasCode(error, 'LOCK_TIMEOUT')) throw error;
    throw new PodwireError(
      'LOCK_TIMEOUT',
      `another program has held the xtables lock ${path} for ${waitMs / 1000} seconds`,
      { cause: error },
    );
  }
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

/** A writer of rules for this kernel. */
export function encoderFor(family: XtablesFamily, isChain: (name: string) => boolean): RuleEncoder {
  return new RuleEncoder({
    family,
    isChain,
    supports: (kind, name, revision) => supportsRevision(family, kind, name, revision),
  });
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
