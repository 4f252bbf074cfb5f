// Everything of a lab outside its directory, found without trusting any record: processes by their environment or
// cgroup, mounts by their path, namespaces by their name, containerd's shim sockets by the bundles' own notes.
import { globSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { errorMessage } from '../lib/errors.ts';
import { findProcessesByEnv, killProcesses, mountsBelow, unmount } from '../linux/process.ts';
import { cgroupParent, LAB_MARKER } from './components.ts';
import { deleteUnderlay } from './network.ts';
import type { LabSpec } from './spec.ts';

const CGROUP_ROOT = '/sys/fs/cgroup';

export interface Removed {
  processes: number;
  mounts: number;
  namespaces: number;
  problems: string[];
}

/** Kills, unmounts and deletes until nothing of the lab is left. Safe to call at any time, any number of times. */
export async function removeRemains(lab: Pick<LabSpec, 'name' | 'directory'>): Promise<Removed> {
  const removed: Removed = { processes: 0, mounts: 0, namespaces: 0, problems: [] };
  // First what would start others again, then the rest: a few rounds, because a dying parent may still fork.
  for (let round = 0; round < 5; round++) {
    const pids = labProcesses(lab);
    if (pids.length === 0) break;
    removed.processes += await killProcesses(pids);
  }
  const shimSockets = findShimSockets(lab.directory);
  for (const mount of mountsBelow(lab.directory).reverse()) {
    try {
      unmount(mount);
      removed.mounts += 1;
    } catch (thrown) {
      removed.problems.push(errorMessage(thrown));
    }
  }
  for (const socket of shimSockets) rmSync(socket, { force: true });
  removed.namespaces = deleteUnderlay(lab.name).length;
  for (const directory of cgroupDirectories(lab)) removeCgroupTree(directory, removed.problems);
  return removed;
}

/** Pids that carry the lab's mark, or live in its cgroups (a container's own environment has no mark). */
export function labProcesses(lab: Pick<LabSpec, 'name' | 'directory'>): number[] {
  const pids = new Set(findProcessesByEnv(LAB_MARKER, lab.directory));
  for (const directory of cgroupDirectories(lab))
    for (const file of globSync('**/cgroup.procs', { cwd: directory }))
      for (const pid of readLines(join(directory, file))) pids.add(Number(pid));
  pids.delete(process.pid);
  return [...pids];
}

function readLines(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n').filter(Boolean);
  } catch {
    return [];
  }
}

/** The lab's directory in each cgroup v1 hierarchy, or the one of cgroup v2. */
function cgroupDirectories(lab: Pick<LabSpec, 'name'>): string[] {
  return [CGROUP_ROOT, ...globSync(`${CGROUP_ROOT}/*`)]
    .map(root => join(root, cgroupParent(lab)))
    .filter(path => readDirectory(path) !== undefined);
}

function readDirectory(path: string): string[] | undefined {
  try {
    return readdirSync(path, { withFileTypes: true })
      .filter(entry => entry.isDirectory())
      .map(entry => entry.name);
  } catch {
    return undefined;
  }
}

function removeCgroupTree(path: string, problems: string[]): void {
  for (const child of readDirectory(path) ?? []) removeCgroupTree(join(path, child), problems);
  try {
    rmdirSync(path);
  } catch (thrown) {
    problems.push(errorMessage(thrown));
  }
}

/** containerd's shims listen below /run/containerd/s; each task's bundle notes the address of its own. */
function findShimSockets(directory: string): string[] {
  return globSync('nodes/*/containerd/state/io.containerd.runtime.v2.task/*/*/address', { cwd: directory })
    .flatMap(file => readLines(join(directory, file)))
    .filter(address => address.startsWith('unix://'))
    .map(address => address.slice('unix://'.length));
}

/** The lab's own programs, without containers, their shims and relay hosts: what may be restarted without hurting a pod. */
export function componentProcesses(lab: Pick<LabSpec, 'directory'>): number[] {
  return findProcessesByEnv(LAB_MARKER, lab.directory).filter(
    pid =>
      pid !== process.pid &&
      !readLines(`/proc/${pid}/comm`)[0]?.startsWith('containerd-shim') &&
      !readLines(`/proc/${pid}/cmdline`)[0]?.includes('/relay-host.'),
  );
}
