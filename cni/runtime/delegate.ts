// Delegation to an IPAM plugin (SPEC.md section 4). The plugin is looked up in CNI_PATH as the specification says; when
// what is found there is our own binary its code runs in this process, anything else is executed in the host namespace.
import { readFileSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import { CniError } from '../../src/lib/errors.ts';
import { run } from '../../src/linux/exec.ts';
import type { Command } from './environment.ts';
import { CNI_ERROR, configError, decodeError, withContext } from './errors.ts';
import { Fields } from './fields.ts';
import { type Call, type Plugin, withCommand } from './plugin.ts';
import type { Result } from './result.ts';
import { decodeResult } from './result-versions.ts';
import { requireVersion } from './versions.ts';

/** A delegate that hangs must not hold the pod's ADD for longer than its runtime waits. */
const DELEGATE_TIMEOUT_MS = 100_000;
const MAX_OUTPUT_BYTES = 4 << 20;

/** `ipam.type`; undefined when the configuration has no IPAM. */
export function ipamType(call: Call): string | undefined {
  return call.config.fields('ipam')?.string('type') || undefined;
}

export async function ipamAdd(call: Call): Promise<Result> {
  const type = requireIpamType(call);
  const result = await delegate(call, type, 'ADD');
  if (result === undefined) throw decodeError(`IPAM plugin ${type} printed no result`);
  return result;
}

/** DEL, CHECK, STATUS and GC; nothing happens without an IPAM. */
export async function ipamForward(call: Call, command: Command): Promise<void> {
  const type = ipamType(call);
  if (type !== undefined) await delegate(call, type, command);
}

export function requireIpamType(call: Call): string {
  const type = ipamType(call);
  if (type === undefined) throw configError('ipam.type is missing');
  return type;
}

/** Runs any plugin by name with the call's own configuration, or with `config` in its place. */
export async function delegate(
  call: Call,
  type: string,
  command: Command,
  config?: Fields,
): Promise<Result | undefined> {
  const given = config === undefined ? call : { ...call, config, stdin: JSON.stringify(config.object) };
  const { file, stats } = findPlugin(type, call.path);
  const own = isOwnBinary(file, stats, call.site.exe) ? call.site.plugins.get(type) : undefined;
  try {
    return own === undefined ? await execute(given, file, command) : await inProcess(given, own, command);
  } catch (error) {
    throw withContext(`plugin ${type} ${command}`, error);
  }
}

function findPlugin(type: string, path: readonly string[]): { file: string; stats: Stats } {
  if (type.includes('/')) throw configError(`invalid plugin name: ${type}`);
  for (const directory of path) {
    const file = join(directory, type);
    const stats = fileStats(file);
    if (stats?.isFile()) return { file, stats };
  }
  throw configError(`failed to find plugin ${JSON.stringify(type)} in path [${path.join(' ')}]`);
}

function fileStats(file: string): Stats | undefined {
  return statSync(file, { throwIfNoEntry: false });
}

/** Plugins are one program under many names: the same inode, or a copy with the same bytes. */
function isOwnBinary(file: string, b: Stats, exe: string): boolean {
  const a = exe === '' ? undefined : fileStats(exe);
  if (a === undefined) return false;
  if (a.dev === b.dev && a.ino === b.ino) return true;
  return a.size === b.size && sameBytes(file, b, exe, a);
}

/** Comparing costs a read of 0.7 MB, so an answer is kept for as long as neither file changes. */
const compared = new Map<string, boolean>();

function sameBytes(a: string, aStats: Stats, b: string, bStats: Stats): boolean {
  const key = [aStats, bStats].map(one => `${one.dev}:${one.ino}:${one.size}:${one.mtimeMs}`).join(' ');
  let same = compared.get(key);
  if (same === undefined) {
    same = readFileSync(a).equals(readFileSync(b));
    if (compared.size > 256) compared.clear();
    compared.set(key, same);
  }
  return same;
}

/** Calls one verb of a plugin. */
export async function callVerb(plugin: Plugin, call: Call): Promise<Result | undefined> {
  switch (call.command) {
    case 'ADD':
      return plugin.add(call);
    case 'DEL':
      await plugin.del(call);
      return undefined;
    case 'CHECK':
      await plugin.check(call);
      return undefined;
    case 'STATUS':
      await plugin.status(call);
      return undefined;
    case 'GC':
      await plugin.gc(call);
      return undefined;
    case 'VERSION':
      return undefined;
  }
}

async function inProcess(call: Call, plugin: Plugin, command: Command): Promise<Result | undefined> {
  requireVersion(call.cniVersion, plugin.versions);
  return callVerb(plugin, withCommand(call, command));
}

async function execute(call: Call, file: string, command: Command): Promise<Result | undefined> {
  const output = await run(file, [], {
    input: call.stdin,
    env: { ...call.site.environment, CNI_COMMAND: command },
    netnsPath: `/proc/${process.pid}/fd/${call.site.hostNetns.fd}`,
    timeoutMs: DELEGATE_TIMEOUT_MS,
    maxOutputBytes: MAX_OUTPUT_BYTES,
  });
  if (output.stderr !== '') call.site.stderr.push(output.stderr);
  const text = output.stdout.trim();
  if (output.code !== 0) throw delegateError(text, output.stderr, output.signal);
  if (command !== 'ADD') return undefined;
  if (text === '' || text === 'null') return undefined;
  return decodeResult(Fields.parse(text, 'the result of the delegate'), call.cniVersion);
}

/** What a failed plugin said of itself, or that it said nothing sensible. */
function delegateError(stdout: string, stderr: string, signal: string | null | undefined): CniError {
  try {
    const fields = Fields.parse(stdout, 'error');
    const code = fields.integer('code');
    const message = fields.string('msg');
    if (code !== undefined && message !== undefined)
      return new CniError(code, message, fields.string('details') ?? '');
  } catch {
    // Falls through: it printed something that is no CNI error.
  }
  if (signal)
    return new CniError(CNI_ERROR.TRY_AGAIN_LATER, `netplugin was stopped by ${signal}`, stderr.trim());
  return new CniError(
    CNI_ERROR.INTERNAL,
    `netplugin failed: ${JSON.stringify(stderr.trim().slice(0, 2000))}`,
  );
}
