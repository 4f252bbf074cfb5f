// Pods' control groups, in version 1 (one tree a controller) and version 2 (one tree): finding what runs in one, ending
// it, removing the empty directories that runtimes leave behind. Paths are as CRI's cgroup_parent: `/podwire/lab/node`.
import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../lib/errors.ts';

const ROOT = '/sys/fs/cgroup';

/** The directory of a group in every mounted hierarchy that has it. */
export function cgroupDirectories(path: string, root = ROOT): string[] {
  const hierarchies = existsSync(join(root, 'cgroup.controllers'))
    ? [root]
    : readdirSync(root, { withFileTypes: true })
        .filter(entry => entry.isDirectory())
        .map(entry => join(root, entry.name));
  return hierarchies.map(hierarchy => join(hierarchy, path)).filter(directory => existsSync(directory));
}

function* treeBottomUp(directory: string): Generator<string> {
  let entries: string[] = [];
  try {
    entries = readdirSync(directory, { withFileTypes: true })
      .filter(entry => entry.isDirectory())
      .map(entry => join(directory, entry.name));
  } catch (thrown) {
    if (!hasCode(thrown, 'ENOENT')) throw thrown;
  }
  for (const entry of entries) yield* treeBottomUp(entry);
  yield directory;
}

/** Ids of all processes in the group and the groups below it. */
export function cgroupProcesses(path: string, root = ROOT): number[] {
  const pids = new Set<number>();
  for (const top of cgroupDirectories(path, root))
    for (const directory of treeBottomUp(top)) {
      try {
        const text = readFileSync(join(directory, 'cgroup.procs'), 'utf8');
        for (const pid of text.split('\n')) if (pid !== '') pids.add(Number(pid));
      } catch (thrown) {
        if (!hasCode(thrown, 'ENOENT') && !hasCode(thrown, 'ENODEV')) throw thrown;
      }
    }
  return [...pids];
}

/** Removes the group and what is below it, where empty. Returns false if something still lives in it. */
export function removeCgroup(path: string, root = ROOT): boolean {
  let gone = true;
  for (const top of cgroupDirectories(path, root))
    for (const directory of treeBottomUp(top)) {
      try {
        rmdirSync(directory);
      } catch (thrown) {
        if (hasCode(thrown, 'EBUSY')) gone = false;
        else if (!hasCode(thrown, 'ENOENT')) throw thrown;
      }
    }
  return gone;
}

/** KILLs everything in the group, then removes it: the last resort when no runtime is left to ask. */
export async function killCgroup(path: string, timeoutMs = 5_000): Promise<boolean> {
  for (const deadline = Date.now() + timeoutMs; ; ) {
    const pids = cgroupProcesses(path);
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch (thrown) {
        if (!hasCode(thrown, 'ESRCH')) throw thrown;
      }
    }
    if (pids.length === 0 && removeCgroup(path)) return true;
    if (Date.now() > deadline) return false;
    await sleep(10);
  }
}
