// Takes a lab away: processes, mounts, namespaces, cgroups, then its directory. The shared image cache stays.
import { existsSync, rmSync } from 'node:fs';
import { PodwireError } from '../lib/errors.ts';
import { type Removed, removeRemains } from './remains.ts';
import { labDirectory, validateLabName } from './spec.ts';

/** Works from the name alone, also after a kill -9 of everything or with a broken record. */
export async function takeDown(directory: string, name: string): Promise<Removed & { existed: boolean }> {
  validateLabName(name);
  const lab = { name, directory: labDirectory(directory, name) };
  const existed = existsSync(lab.directory);
  const removed = await removeRemains(lab);
  if (removed.problems.length > 0)
    throw new PodwireError(
      'REMAINS',
      `some of lab '${name}' could not be removed: ${removed.problems.slice(0, 5).join('; ')}. Run 'podwire down' again`,
    );
  rmSync(lab.directory, { recursive: true, force: true });
  return { ...removed, existed };
}
