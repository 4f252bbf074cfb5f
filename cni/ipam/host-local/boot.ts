// Reservations of an earlier boot: containers do not outlive their machine, but their reservations do, and nobody
// gives them back when the runtime's own records are lost. `.podwire-boot` names the boot that last used a directory;
// when it names another than the present one, files from before the present boot are dropped.
import {
  closeSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { uptime } from 'node:os';
import { join } from 'node:path';
import { hasCode } from '../../../src/lib/errors.ts';
import { canonicalIp } from '../../../src/lib/ip.ts';

const MARK = '.podwire-boot';
/** A file this much older than the boot is surely from before it, whatever the clock was doing while booting. */
const MARGIN_MS = 5_000;

/** Called with the lock held. A directory without the mark was never ours: its running containers keep theirs. */
export function dropEarlierBoots(
  directory: string,
  bootId = currentBootId(),
  bootedAtMs = Date.now() - uptime() * 1000,
): string[] {
  const mark = join(directory, MARK);
  const before = readIfThere(mark);
  if (before === bootId) return [];
  const dropped: string[] = [];
  if (before !== undefined)
    for (const name of readdirSync(directory)) {
      if (canonicalIp(name) === undefined) continue;
      const file = join(directory, name);
      if (statSync(file).mtimeMs >= bootedAtMs - MARGIN_MS) continue;
      unlinkSync(file);
      dropped.push(name);
    }
  writeDurably(directory, mark, bootId);
  return dropped;
}

function currentBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim() || undefined;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** The one file that must survive a power cut: without it the next boot could not tell old reservations. */
function writeDurably(directory: string, file: string, text: string): void {
  const unfinished = `${file}.new`;
  const fd = openSync(unfinished, 'w', 0o600);
  try {
    writeSync(fd, `${text}\n`);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(unfinished, file);
  const parent = openSync(directory, 'r');
  try {
    fsyncSync(parent);
  } finally {
    closeSync(parent);
  }
}
