// Finds and ends processes, and finds and ends mounts, by what the kernel says of them in /proc; never by name.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../lib/errors.ts';
import { MNT_DETACH, sysUmount } from './ffi.ts';

const KILL_TIMEOUT_MS = 5000;

/** All process ids, ours included. */
export function listProcesses(): number[] {
  return readdirSync('/proc')
    .filter(name => /^[0-9]+$/.test(name))
    .map(Number);
}

/** A process may end between two looks at it: whatever cannot be read does not match. */
function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Processes whose environment held NAME=VALUE when they were started. */
export function findProcessesByEnv(name: string, value: string): number[] {
  const wanted = `${name}=${value}`;
  return listProcesses().filter(pid => readOrEmpty(`/proc/${pid}/environ`).split('\0').includes(wanted));
}

/** Processes inside the network namespace with this inode number. */
export function findProcessesByNetns(inode: bigint): number[] {
  const wanted = `net:[${inode}]`;
  return listProcesses().filter(pid => {
    try {
      return readlinkSync(`/proc/${pid}/ns/net`) === wanted;
    } catch {
      return false;
    }
  });
}

/** True while the process exists and is not a zombie. */
export function isAlive(pid: number): boolean {
  const stat = readOrEmpty(`/proc/${pid}/stat`);
  if (stat === '') return false;
  const state = stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3);
  return state !== 'Z' && state !== 'X';
}

/** Field 22 of /proc/PID/stat: tells a process from a later one with the same number. */
export function startTime(pid: number): string | undefined {
  const stat = readOrEmpty(`/proc/${pid}/stat`);
  return stat === '' ? undefined : stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
}

/** Sends a signal; false when there is no such process any more. */
export function signalProcess(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch (error) {
    if (hasCode(error, 'ESRCH')) return false;
    throw error;
  }
}

/**
 * Ends processes and waits until they are gone; SIGKILL unless told, and SIGKILL anyway after `graceMs`.
 * Returns how many there were. Our own process is left out.
 */
export async function killProcesses(
  pids: Iterable<number>,
  options: { signal?: NodeJS.Signals; graceMs?: number } = {},
): Promise<number> {
  const signal = options.signal ?? 'SIGKILL';
  let left = [...new Set(pids)].filter(pid => pid > 1 && pid !== process.pid && isAlive(pid));
  const count = left.length;
  const started = new Map(left.map(pid => [pid, startTime(pid)]));
  for (const pid of left) signalProcess(pid, signal);
  const begin = Date.now();
  const graceMs = signal === 'SIGKILL' ? 0 : (options.graceMs ?? 3000);
  let forced = signal === 'SIGKILL';
  for (let waitMs = 1; Date.now() - begin < graceMs + KILL_TIMEOUT_MS; waitMs = Math.min(waitMs * 2, 50)) {
    left = left.filter(pid => isAlive(pid) && startTime(pid) === started.get(pid));
    if (left.length === 0) break;
    if (!forced && Date.now() - begin >= graceMs) {
      for (const pid of left) signalProcess(pid, 'SIGKILL');
      forced = true;
    }
    await sleep(waitMs);
  }
  return count;
}

/** Mount points at or below a directory, in the order they were mounted (proc_pid_mountinfo(5), octal escapes). */
export function mountsBelow(directory: string): string[] {
  const root = directory.replace(/\/+$/, '');
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map(line => line.split(' ')[4] ?? '')
    .map(field =>
      field.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8))),
    )
    .filter(path => path === root || path.startsWith(`${root}/`));
}

/** Unmounts lazily: out of sight at once, gone with its last user. What is no mount point is fine. */
export function unmount(path: string): void {
  try {
    sysUmount(path, MNT_DETACH);
  } catch (error) {
    if (!hasCode(error, 'EINVAL') && !hasCode(error, 'ENOENT')) throw error;
  }
}
