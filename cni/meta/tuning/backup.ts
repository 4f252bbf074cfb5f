// What an interface was like before tuning changed it, in the reference's file and form:
// `<dataDir>/<container>_<ifname>.json`. `network` is ours, so that GC knows whose a file is.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hasCode } from '../../../src/lib/errors.ts';
import { Fields, type JsonObject } from '../../runtime/fields.ts';
import type { Attachment } from '../../runtime/plugin.ts';
import type { LinkTuning } from './config.ts';

function fileOf(dataDir: string, attachment: Attachment): string {
  return join(dataDir, `${attachment.containerId}_${attachment.ifName}.json`);
}

export function writeBackup(
  dataDir: string,
  network: string,
  attachment: Attachment,
  before: LinkTuning,
): void {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const file = fileOf(dataDir, attachment);
  const unfinished = `${file}.new`;
  writeFileSync(unfinished, JSON.stringify({ ...before, network } satisfies JsonObject), { mode: 0o600 });
  renameSync(unfinished, file);
}

/** Undefined when there is none, or none that can be read: then there is nothing to restore. */
export function readBackup(dataDir: string, attachment: Attachment): LinkTuning | undefined {
  try {
    const fields = Fields.parse(readFileSync(fileOf(dataDir, attachment), 'utf8'), 'tuning backup');
    const mac = fields.string('mac') || undefined;
    const promisc = fields.boolean('promisc');
    const mtu = fields.integer('mtu') || undefined;
    const allmulti = fields.boolean('allmulti');
    const txQLen = fields.integer('txQLen');
    return {
      ...(mac === undefined ? {} : { mac }),
      ...(promisc === undefined ? {} : { promisc }),
      ...(mtu === undefined ? {} : { mtu }),
      ...(allmulti === undefined ? {} : { allmulti }),
      ...(txQLen === undefined ? {} : { txQLen }),
    };
  } catch {
    return undefined;
  }
}

export function removeBackup(dataDir: string, attachment: Attachment): void {
  rmSync(fileOf(dataDir, attachment), { force: true });
  rmSync(`${fileOf(dataDir, attachment)}.new`, { force: true });
}

/** GC: files of this network whose attachment is not valid. Files of the reference do not name a network and stay. */
export function collectBackups(dataDir: string, network: string, valid: readonly Attachment[]): void {
  const keep = new Set(valid.map(one => `${one.containerId}_${one.ifName}.json`));
  let names: string[];
  try {
    names = readdirSync(dataDir);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return;
    throw error;
  }
  for (const name of names) {
    if (!name.endsWith('.json') || keep.has(name)) continue;
    const file = join(dataDir, name);
    if (ownedBy(file, network)) rmSync(file, { force: true });
  }
}

function ownedBy(file: string, network: string): boolean {
  try {
    return Fields.parse(readFileSync(file, 'utf8'), 'tuning backup').string('network') === network;
  } catch {
    return false;
  }
}
