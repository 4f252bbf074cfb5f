// Publishes a set of files so that a reader sees all of the old ones or all of the new (kubernetes pkg/volume/util
// AtomicWriter, same layout): files live in `..<timestamp>/`, `..data` is a symlink to it replaced by one rename, and
// each visible name is a symlink through `..data`.
import {
  chmod,
  lchown,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { hasCode, PodwireError } from '../lib/errors.ts';

export interface ProjectedFile {
  content: Uint8Array;
  mode: number;
}

const DATA_LINK = '..data';

/** Throws PodwireError('INVALID_PATH') for a name that leaves the volume. */
export function checkProjectedPath(path: string): string {
  const clean = normalize(path);
  if (path === '' || path.startsWith('/') || clean.split('/').includes('..') || clean.startsWith('..'))
    throw new PodwireError(
      'INVALID_PATH',
      `volume file ${JSON.stringify(path)}: must be a relative path without '..'`,
    );
  return clean;
}

/** Makes `directory` hold exactly `files`. Returns false when it did already. */
export async function writeAtomically(
  directory: string,
  files: ReadonlyMap<string, ProjectedFile>,
  group?: number,
): Promise<boolean> {
  await mkdir(directory, { recursive: true, mode: 0o755 });
  const clean = new Map([...files].map(([path, file]) => [checkProjectedPath(path), file]));
  const current = await readlinkOrUndefined(join(directory, DATA_LINK));
  if (current !== undefined && (await sameContent(join(directory, current), clean))) return false;
  const fresh = await mkdtemp(join(directory, `..${new Date().toISOString().replaceAll(/[-:.TZ]/g, '_')}.`));
  await chmod(fresh, 0o755);
  for (const [path, file] of clean) {
    const target = join(fresh, path);
    await mkdir(dirname(target), { recursive: true, mode: 0o755 });
    await writeFile(target, file.content);
    await chmod(target, file.mode);
    if (group !== undefined) await lchown(target, 0, group);
  }
  const newLink = join(directory, '..data_tmp');
  await rm(newLink, { force: true });
  await symlink(fresh.slice(directory.length + 1), newLink);
  await rename(newLink, join(directory, DATA_LINK));
  await linkNames(directory, clean);
  if (current !== undefined) await rm(join(directory, current), { recursive: true, force: true });
  return true;
}

/** One symlink a top-level name, and none for names that are gone. */
async function linkNames(directory: string, files: ReadonlyMap<string, ProjectedFile>): Promise<void> {
  const names = new Set([...files.keys()].map(path => path.split('/')[0]!));
  for (const name of names) {
    try {
      await symlink(join(DATA_LINK, name), join(directory, name));
    } catch (thrown) {
      if (!hasCode(thrown, 'EEXIST')) throw thrown;
    }
  }
  for (const entry of await readdir(directory))
    if (!entry.startsWith('..') && !names.has(entry)) await rm(join(directory, entry), { force: true });
}

async function sameContent(directory: string, files: ReadonlyMap<string, ProjectedFile>): Promise<boolean> {
  try {
    const present = await readdir(directory, { recursive: true, withFileTypes: true });
    if (present.filter(entry => entry.isFile()).length !== files.size) return false;
    for (const [path, file] of files) {
      const target = join(directory, path);
      if (((await lstat(target)).mode & 0o7777) !== file.mode) return false;
      if (!(await readFile(target)).equals(file.content)) return false;
    }
    return true;
  } catch (thrown) {
    if (hasCode(thrown, 'ENOENT')) return false;
    throw thrown;
  }
}

async function readlinkOrUndefined(path: string): Promise<string | undefined> {
  try {
    return await readlink(path);
  } catch (thrown) {
    if (hasCode(thrown, 'ENOENT')) return undefined;
    throw thrown;
  }
}
