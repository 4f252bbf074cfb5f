// The lab's own record on disk (lab.json) and which labs there are.
import { existsSync, globSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorMessage, PodwireError } from '../lib/errors.ts';
import { type LabSpec, labDirectory, labPaths, validateLabName } from './spec.ts';

export function writeLabRecord(spec: LabSpec): void {
  const path = labPaths(spec).spec;
  mkdirSync(spec.directory, { recursive: true, mode: 0o700 });
  writeFileSync(`${path}.tmp`, `${JSON.stringify(spec, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${path}.tmp`, path);
}

/** undefined when there is no such lab; throws PodwireError('LAB_RECORD') when its record cannot be read. */
export function readLabRecord(directory: string, name: string): LabSpec | undefined {
  validateLabName(name);
  const path = labPaths({ directory: labDirectory(directory, name) }).spec;
  if (!existsSync(path)) return undefined;
  try {
    return readLabFile(path);
  } catch (thrown) {
    throw new PodwireError(
      'LAB_RECORD',
      `${path} cannot be read (${errorMessage(thrown)}); 'podwire down --name ${name}' removes the lab all the same`,
    );
  }
}

export function readLabFile(path: string): LabSpec {
  const spec = JSON.parse(readFileSync(path, 'utf8')) as LabSpec;
  if (spec.version !== 1)
    throw new PodwireError('LAB_RECORD', `it is of version ${spec.version}, this program knows 1`);
  return spec;
}

/** The lab, or an error that names those there are. */
export function requireLab(directory: string, name: string): LabSpec {
  const spec = readLabRecord(directory, name);
  if (spec) return spec;
  const others = labNames(directory);
  const hint = others.length > 0 ? `there are: ${others.join(', ')} (use --name)` : `'podwire up' starts one`;
  throw new PodwireError('NO_LAB', `there is no lab '${name}' in ${directory}; ${hint}`);
}

export function labNames(directory: string): string[] {
  return globSync('labs/*/lab.json', { cwd: directory })
    .map(file => file.split('/')[1]!)
    .sort()
    .filter(name => existsSync(join(labDirectory(directory, name), 'lab.json')));
}
