// Kernel parameters below /proc/sys, of a network namespace. Paths have slashes: `net/ipv4/conf/eth0.1/rp_filter`,
// because an interface's name may hold a dot. /proc/sys/net shows the namespace of the thread that opens the file.
import { readFileSync, writeFileSync } from 'node:fs';
import { KernelError, PodwireError } from '../lib/errors.ts';
import type { Netns } from './netns.ts';

function file(path: string): string {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.:@+-]*(\/[A-Za-z0-9_@.:+-]+)*$/.test(path) || path.split('/').includes('..'))
    throw new PodwireError('INVALID_PATH', `${JSON.stringify(path)} is no path below /proc/sys`);
  return `/proc/sys/${path}`;
}

function within<T>(netns: Netns | undefined, op: string, fn: () => T): T {
  try {
    return netns === undefined ? fn() : netns.run(fn);
  } catch (error) {
    if (error instanceof PodwireError) throw error;
    const system = error as NodeJS.ErrnoException;
    throw new KernelError(op, -(system.errno ?? 0), system.code ?? 'EIO', { cause: error });
  }
}

/** The value without its trailing newline; ENOENT when the parameter does not exist. */
export function readSysctl(netns: Netns | undefined, path: string): string {
  const name = file(path);
  return within(netns, `read sysctl ${path}`, () => readFileSync(name, 'utf8').trim());
}

export function writeSysctl(netns: Netns | undefined, path: string, value: string): void {
  const name = file(path);
  within(netns, `write sysctl ${path}=${value}`, () => writeFileSync(name, value));
}

/** Writes only when the value differs (runs of blanks are equal to the kernel); true when it wrote. */
export function ensureSysctl(netns: Netns | undefined, path: string, value: string): boolean {
  if (sameSysctlValue(readSysctl(netns, path), value)) return false;
  writeSysctl(netns, path, value);
  return true;
}

/** Values of several fields come back with tabs between them. */
export function sameSysctlValue(a: string, b: string): boolean {
  return a === b || a.trim().split(/\s+/).join(' ') === b.trim().split(/\s+/).join(' ');
}
