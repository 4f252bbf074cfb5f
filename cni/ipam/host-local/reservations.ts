// Reservations on disk, shared with the reference host-local: `<dataDir>/<network>/<ip>` holds `<container>\r\n<ifname>`,
// `last_reserved_ip.<set>` the last address given, `lock` is held with flock(2) by whoever changes anything.
//
// The reference reads every file on every request. We keep what we read in memory and know that it still holds by the
// directory's mtime: after each change of ours we set it to a moment in the past that the kernel will not set again,
// so whatever another program adds or removes shows. Then, and only then, everything is read anew.
//
// Crash safety. A reservation appears by link(2), whole or not at all. It is not synced to disk: it is worth nothing
// after a power cut, because no container outlives one, and reservations of an earlier boot are dropped (`boot.ts`).
import {
  closeSync,
  constants,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { CniError, hasCode } from '../../../src/lib/errors.ts';
import { canonicalIp, type IpBytes, parseIp } from '../../../src/lib/ip.ts';
import { FileLock } from '../../../src/linux/file-lock.ts';
import type { Site } from '../../runtime/plugin.ts';
import { dropEarlierBoots } from './boot.ts';

/** One name is enough for unfinished files, because only the holder of the lock writes. */
const UNFINISHED = '.podwire-new';

export interface Reservation {
  ip: string;
  containerId: string;
  /** Undefined in files of reference versions before 0.8, which hold the container only. */
  ifName: string | undefined;
}

export class ReservationStore {
  readonly #directory: string;
  readonly #byIp = new Map<string, string>();
  readonly #byOwner = new Map<string, Set<string>>();
  /** Set number → text of its `last_reserved_ip`. */
  readonly #last = new Map<number, string>();
  /** What the directory looked like after our last change; undefined when the maps hold nothing yet. */
  #stamp: string | undefined;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Runs `work` with the lock held and the index true. `create` makes the directory; without it a missing one is empty. */
  async locked<T>(site: Site, create: boolean, work: (open: OpenReservations) => T): Promise<T | undefined> {
    return site.locks.run(this.#directory, site.signal, async () => {
      using lock = await this.#lock(site.signal, create);
      if (lock === undefined) return undefined;
      if (this.#stamp === undefined || this.#stamp !== this.#readStamp()) this.#load();
      const open = new OpenReservations(this.#directory, this.#byIp, this.#byOwner, this.#last);
      try {
        return work(open);
      } catch (error) {
        // A refusal leaves the index true; after a failure of the disk nothing is sure.
        open.unsure ||= !(error instanceof CniError);
        throw error;
      } finally {
        if (open.unsure) this.#stamp = undefined;
        else if (open.changed) this.#writeStamp();
      }
    });
  }

  /** Undefined when there is no directory and none is wanted. */
  async #lock(signal: AbortSignal, create: boolean): Promise<FileLock | undefined> {
    const path = join(this.#directory, 'lock');
    try {
      return await FileLock.acquire(path, signal);
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
    }
    if (!create) return undefined;
    mkdirSync(this.#directory, { recursive: true, mode: 0o755 });
    return FileLock.acquire(path, signal);
  }

  #readStamp(): string {
    const { dev, ino, mtimeNs } = statSync(this.#directory, { bigint: true });
    return `${dev}:${ino}:${mtimeNs}`;
  }

  #writeStamp(): void {
    const past = Date.now() / 1000 - 1 - Math.random();
    utimesSync(this.#directory, past, past);
    this.#stamp = this.#readStamp();
  }

  #load(): void {
    this.#byIp.clear();
    this.#byOwner.clear();
    this.#last.clear();
    dropEarlierBoots(this.#directory);
    for (const name of readdirSync(this.#directory)) {
      if (name === UNFINISHED) rmSync(join(this.#directory, name), { force: true });
      if (canonicalIp(name) === undefined) continue;
      const file = join(this.#directory, name);
      const owner = readFileSync(file, 'utf8').trim();
      // Somebody died between creating and writing it. Whoever does that holds the lock, so it is nobody's now.
      if (owner === '') unlinkSync(file);
      else index(this.#byIp, this.#byOwner, name, owner);
    }
    this.#writeStamp();
  }
}

/** The reservations of one network while the lock is held. */
export class OpenReservations {
  readonly #directory: string;
  readonly #byIp: Map<string, string>;
  readonly #byOwner: Map<string, Set<string>>;
  readonly #last: Map<number, string>;
  changed = false;
  unsure = false;

  constructor(
    directory: string,
    byIp: Map<string, string>,
    byOwner: Map<string, Set<string>>,
    last: Map<number, string>,
  ) {
    this.#directory = directory;
    this.#byIp = byIp;
    this.#byOwner = byOwner;
    this.#last = last;
  }

  get size(): number {
    return this.#byIp.size;
  }

  isTaken(ip: string): boolean {
    return this.#byIp.has(ip);
  }

  /** Addresses of a container's interface, also those in old files that do not name the interface. */
  find(containerId: string, ifName: string): string[] {
    const own = this.#byOwner.get(ownerKey(containerId, ifName)) ?? this.#byOwner.get(containerId);
    return own === undefined ? [] : [...own];
  }

  all(): Reservation[] {
    return [...this.#byIp].map(([ip, owner]) => {
      const [containerId, ifName] = owner.split(/\r?\n/);
      return { ip, containerId: containerId!, ifName };
    });
  }

  /** False when the address is taken, by our index or by a file that nobody should have written now. */
  reserve(ip: string, containerId: string, ifName: string, set: number): boolean {
    if (this.#byIp.has(ip)) return false;
    const owner = ownerKey(containerId, ifName);
    const unfinished = join(this.#directory, UNFINISHED);
    this.changed = true;
    try {
      writeNew(unfinished, owner);
      linkSync(unfinished, join(this.#directory, ip));
    } catch (error) {
      rmSync(unfinished, { force: true });
      if (hasCode(error, 'EEXIST')) return false;
      throw error;
    }
    index(this.#byIp, this.#byOwner, ip, owner);
    // The second name of the reservation's inode goes.
    unlinkSync(unfinished);
    overwrite(this.#lastFile(set), ip, this.#last.get(set)?.length);
    this.#last.set(set, ip);
    return true;
  }

  /** Gives back everything the container's interface has; the addresses. */
  release(containerId: string, ifName: string): string[] {
    const ips = this.find(containerId, ifName);
    for (const ip of ips) this.releaseIp(ip);
    return ips;
  }

  releaseIp(ip: string): void {
    this.changed = true;
    rmSync(join(this.#directory, ip), { force: true });
    const owner = this.#byIp.get(ip);
    this.#byIp.delete(ip);
    if (owner === undefined) return;
    const ips = this.#byOwner.get(owner);
    ips?.delete(ip);
    if (ips?.size === 0) this.#byOwner.delete(owner);
  }

  /** Read once: who else writes it also makes a reservation, after which everything is read anew. */
  lastReserved(set: number): IpBytes | undefined {
    let text = this.#last.get(set);
    if (text === undefined) {
      text = readIfThere(this.#lastFile(set));
      this.#last.set(set, text);
    }
    return parseIp(text.trim());
  }

  #lastFile(set: number): string {
    return join(this.#directory, `last_reserved_ip.${set}`);
  }
}

/** Empty when there is no such file. */
function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return '';
    throw error;
  }
}

/** Never writes through an existing name: a killed writer may have left one that is a second name of a reservation. */
function writeNew(file: string, text: string): void {
  try {
    writeFileSync(file, text, { flag: 'wx', mode: 0o600 });
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
    unlinkSync(file);
    writeFileSync(file, text, { flag: 'wx', mode: 0o600 });
  }
}

/**
 * In place: replacing a file by rename makes ext4 write it out at once, which costs more than all the rest of an ADD's
 * files. The text is a hint of where to go on; what a kill may leave of the old and the new one harms nobody. `oldLength`: characters it holds, where that is known.
 */
function overwrite(file: string, text: string, oldLength: number | undefined): void {
  const fd = openSync(file, constants.O_WRONLY | constants.O_CREAT, 0o600);
  try {
    const length = writeSync(fd, text, 0);
    if (oldLength === undefined || oldLength > length) ftruncateSync(fd, length);
  } finally {
    closeSync(fd);
  }
}

function ownerKey(containerId: string, ifName: string): string {
  return `${containerId}\r\n${ifName}`;
}

function index(
  byIp: Map<string, string>,
  byOwner: Map<string, Set<string>>,
  ip: string,
  owner: string,
): void {
  byIp.set(ip, owner);
  const ips = byOwner.get(owner);
  if (ips === undefined) byOwner.set(owner, new Set([ip]));
  else ips.add(ip);
}
